package api

import (
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// accessoryView is a manifest that refers to an artifact: a signature, a list of what is in it. It is
// listed with what it is about and not beside that.
type accessoryView struct {
	ID            int64  `json:"id"`
	Artifact      int64  `json:"artifact_id"` // the same: it is an artifact
	Subject       int64  `json:"subject_artifact_id"`
	SubjectDigest string `json:"subject_artifact_digest"`
	SubjectRepo   string `json:"subject_artifact_repo"`
	Size          int64  `json:"size"`
	Digest        string `json:"digest"`
	Type          string `json:"type"`
	ArtifactType  string `json:"artifact_type"` // ours: as its author calls it
	Icon          string `json:"icon"`
	CreatedAt     stamp  `json:"creation_time"`
}

// accessoryTypes are Harbor's words for artifact types; those without one are subjectAccessory.
var accessoryTypes = map[string]string{
	"application/vnd.dev.cosign.artifact.sig.v1+json":  "signature.cosign",
	"application/vnd.dev.sigstore.bundle.v0.3+json":    "signature.cosign",
	"application/vnd.dev.cosign.simplesigning.v1+json": "signature.cosign",
	"application/vnd.cncf.notary.signature":            "signature.notation",
}

const subjectAccessory = "subject.accessory"

// mostAccessories is how many are shown with each artifact of a list; all are a list of their own.
const mostAccessories = 100

// accessories are a page of those of an artifact, and how many there are.
func (c *call) accessories(s shelf, a catalog.Artifact, p catalog.Page) ([]accessoryView, int, error) {
	all, total, err := c.estate.Artifacts(c.ctx(), c.who, estate.Ref{Name: s.project.Name}, s.repo.Repo.Name, catalog.ArtifactFilter{Subject: a.Digest}, p)
	views := []accessoryView{}
	for _, one := range all {
		kind := accessoryTypes[one.ArtifactType]
		if kind == "" {
			kind = subjectAccessory
		}
		views = append(views, accessoryView{
			ID: one.ID, Artifact: one.ID, Subject: a.ID, SubjectDigest: a.Digest.String(), SubjectRepo: s.repo.Repo.String(),
			Size: one.Total, Digest: one.Digest.String(), Type: kind, ArtifactType: one.ArtifactType, CreatedAt: stamp(one.PushedAt),
		})
	}
	return views, total, err
}

// addAccessories shows an artifact with its accessories, if the client wants them.
func (c *call) addAccessories(v *artifactView, s shelf, a catalog.Artifact) (err error) {
	if c.r.URL.Query().Get("with_accessory") == "true" {
		v.Accessories, _, err = c.accessories(s, a, catalog.Page{Limit: mostAccessories})
	}
	return err
}

func (c *call) listAccessories() error {
	p, err := c.page()
	if err != nil {
		return err
	}
	s, a, err := c.artifact()
	if err != nil {
		return err
	}
	views, total, err := c.accessories(s, a, catalog.Page{Offset: p.offset(), Limit: min(p.limit(), maxArtifacts)})
	if err != nil {
		return err
	}
	return list(c, p, views, total)
}
