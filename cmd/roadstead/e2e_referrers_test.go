package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Signatures and bills of materials are found through the node by the referrers API, though the
// upstream has only the tags that stand in for it (OCI distribution specification 1.1,
// "Referrers Tag Schema"), and can still be fetched when upstream is gone.
func TestReferrers(t *testing.T) {
	e2e(t)
	oras := need(t, "oras")
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 9000}.make(t, "1")
	u.push(t, "team/signed", img)
	n := startNode(t, nodeConfig{plain: true, projects: map[string]any{"quay.io": u.project(nil)}})

	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "sbom.json"), []byte(`{"spdxVersion":"SPDX-2.3"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	signed := "/team/signed@" + string(img.top().digest)
	for _, artifactType := range []string{"application/vnd.example.sbom", "application/vnd.example.signature"} {
		run(t, environment(dir), oras, "attach", "--plain-http", "--disable-path-validation", "--artifact-type", artifactType,
			"--annotation", "of="+artifactType, u.addr+signed, filepath.Join(dir, "sbom.json")+":application/spdx+json")
	}
	// cosign's own scheme is a tag like any other.
	signature := recipe{seed: 9100, layers: 1}.make(t, "sha256-"+img.top().digest.Encoded()+".sig")
	u.push(t, "team/signed", signature)

	referrers := func(t *testing.T) []v1.Descriptor {
		t.Helper()
		a := n.ask("GET", "/v2/quay.io/team/signed/referrers/"+string(img.top().digest))
		var index v1.Index
		if err := json.Unmarshal(a.body, &index); err != nil || !a.whole() || a.header.Get("Content-Type") != ociIndex {
			t.Fatalf("referrers: %v, %v", a, err)
		}
		return index.Manifests
	}
	check := func(t *testing.T) {
		all := referrers(t)
		if len(all) != 2 {
			t.Fatalf("%d referrers, want 2: %v", len(all), all)
		}
		for _, d := range all {
			if d.Annotations["of"] != d.ArtifactType {
				t.Errorf("referrer %s of type %q has the annotations %v", d.Digest, d.ArtifactType, d.Annotations)
			}
		}
		a := n.ask("GET", "/v2/quay.io/team/signed/referrers/"+string(img.top().digest)+"?artifactType=application/vnd.example.sbom")
		var filtered v1.Index
		if err := json.Unmarshal(a.body, &filtered); err != nil || len(filtered.Manifests) != 1 {
			t.Errorf("referrers of one type: %v, %v", a, err)
		}
		if err := n.pull("quay.io/team/signed", "sha256-"+img.top().digest.Encoded()+".sig", signature); err != nil {
			t.Error(err)
		}

		// oras asks for the tree and pulls the file of each leaf.
		var tree struct {
			Referrers []struct {
				Digest digest.Digest `json:"digest"`
			} `json:"referrers"`
			Manifests []struct {
				Digest digest.Digest `json:"digest"`
			} `json:"manifests"`
		}
		out := run(t, environment(dir), oras, "discover", "--plain-http", "--format", "json", n.addr+"/quay.io"+signed)
		if err := json.Unmarshal(out, &tree); err != nil {
			t.Fatalf("oras discover: %v: %s", err, out)
		}
		found := slices.Concat(tree.Referrers, tree.Manifests)
		if len(found) != 2 {
			t.Fatalf("oras discovered %s, want two referrers", out)
		}
		for _, r := range found {
			into := filepath.Join(shortDir(t), "out")
			run(t, environment(dir), oras, "pull", "--plain-http", "--output", into, "--allow-path-traversal", n.addr+"/quay.io/team/signed@"+string(r.Digest))
		}
	}
	t.Run("from upstream", check)
	u.stop(t)
	t.Run("upstream gone", check)
}
