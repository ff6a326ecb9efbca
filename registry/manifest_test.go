package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseManifest(t *testing.T) {
	ref := func(mediaType string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7}`, mediaType, someDigest)
	}
	image := `"config":` + ref("application/vnd.oci.image.config.v1+json") + `,"layers":[` + ref("layer") + `]`
	rows := []struct {
		name, contentType, body string
		mediaType               string // "" when it is refused
		refs                    int
	}{
		{"OCI image that names itself", MediaTypeOCIManifest, `{"schemaVersion":2,"mediaType":"` + MediaTypeOCIManifest + `",` + image + `}`, MediaTypeOCIManifest, 2},
		{"OCI image that does not, by its sender's word", MediaTypeOCIManifest + "; charset=utf-8", `{"schemaVersion":2,` + image + `}`, MediaTypeOCIManifest, 2},
		{"OCI image that nobody names", "", `{"schemaVersion":2,` + image + `}`, MediaTypeOCIManifest, 2},
		{"index that nobody names", "text/plain", `{"schemaVersion":2,"manifests":[` + ref("x") + `]}`, MediaTypeOCIIndex, 1},
		{"empty index", MediaTypeOCIIndex, `{"schemaVersion":2,"manifests":[]}`, MediaTypeOCIIndex, 0},
		{"Docker list", MediaTypeDockerList, `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerList + `","manifests":[` + ref("x") + `]}`, MediaTypeDockerList, 1},
		{"artifact with a subject", "", `{"schemaVersion":2,"subject":` + ref(MediaTypeOCIManifest) + `,` + image + `}`, MediaTypeOCIManifest, 3},
		{"unknown keys are the author's", "", `{"schemaVersion":2,"Weird":1,"x":{"layers":[1]},` + image + `}`, MediaTypeOCIManifest, 2},
		{"image and index at once", "", `{"schemaVersion":2,` + image + `,"manifests":[]}`, "", 0},
		{"another type inside than outside", MediaTypeOCIIndex, `{"schemaVersion":2,"mediaType":"` + MediaTypeOCIManifest + `",` + image + `}`, "", 0},
		{"sent as an index, and an image", MediaTypeOCIIndex, `{"schemaVersion":2,` + image + `}`, "", 0},
		{"key twice", "", `{"schemaVersion":2,"layers":[],` + image + `}`, "", 0},
		{"key in another case", "", `{"schemaVersion":2,"Layers":[]}`, "", 0},
		{"key in a letter that folds into ours", "", `{"schemaVersion":2,"layers":[],"layer\u017f":[]}`, "", 0},
		{"digest twice in a descriptor", "", `{"schemaVersion":2,"config":{"digest":"` + someDigest + `","digest":"` + someDigest + `","size":1},"layers":[]}`, "", 0},
		{"digest in another case in a descriptor", "", `{"schemaVersion":2,"layers":[{"digest":"` + someDigest + `","Digest":"` + someDigest + `","size":1}]}`, "", 0},
		{"annotations are free", "", `{"schemaVersion":2,"annotations":{"digest":"x","Digest":"y"},` + image + `}`, MediaTypeOCIManifest, 2},
		{"media type of a page", "", `{"schemaVersion":2,"mediaType":"text/html",` + image + `}`, "", 0},
		{"media type with a line break", "", `{"schemaVersion":2,"mediaType":"application/x\r\nX-Evil: 1",` + image + `}`, "", 0},
		{"schema 1", "", `{"schemaVersion":1,"name":"x","fsLayers":[]}`, "", 0},
		{"digest that is a path", "", `{"schemaVersion":2,"layers":[{"digest":"sha256:../../../etc/passwd","size":1}]}`, "", 0},
		{"negative size", "", `{"schemaVersion":2,"layers":[{"digest":"` + someDigest + `","size":-1}]}`, "", 0},
		{"HTML", "text/html", `<html></html>`, "", 0},
		{"array", "", `[]`, "", 0},
		{"something behind it", "", `{"schemaVersion":2} {}`, "", 0},
		{"nothing", "", ``, "", 0},
		{"too large", "", `{"schemaVersion":2,"x":"` + strings.Repeat("x", MaxManifest) + `"}`, "", 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m, refs, err := ParseManifest(row.contentType, digest.FromString(row.body), []byte(row.body))
			if row.mediaType == "" {
				if !errors.Is(err, ManifestInvalid) {
					t.Errorf("got %v, want it to be refused", err)
				}
				return
			}
			if err != nil || m.MediaType != row.mediaType || m.Size != int64(len(row.body)) || len(refs.all()) != row.refs {
				t.Errorf("got %q with %d references, %v", m.MediaType, len(refs.all()), err)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(MediaTypeOCIManifest, []byte(`{"schemaVersion":2,"config":{"digest":"`+someDigest+`","size":1},"layers":[]}`))
	f.Add("", []byte(`{"schemaVersion":2,"manifests":[{"digest":"`+someDigest+`","size":1}]}`))
	f.Add("", []byte(`{"schemaVersion":2,"Manifests":[],"manifests":[]}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		_, refs, err := ParseManifest(contentType, digest.FromBytes(body), body)
		if err != nil {
			if !errors.Is(err, ManifestInvalid) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if refs.Manifests != nil && len(refs.Blobs()) > 0 {
			t.Error("an image and an index at once passed")
		}
		for _, ref := range refs.all() {
			if _, err := ParseDigest(string(ref.Digest)); err != nil || ref.Size < 0 {
				t.Errorf("reference %+v passed", ref)
			}
		}
	})
}

func TestFaultMatchesItsCodeAndItsCause(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("resolve: %w", &Fault{Code: Throttled, Message: "slow down", Err: cause})
	if !errors.Is(err, Throttled) || !errors.Is(err, cause) || errors.Is(err, Unavailable) || !Passing(err) || Unknown(err) {
		t.Errorf("%v is matched wrongly", err)
	}
	if got := err.Error(); got != "resolve: slow down: cause" {
		t.Errorf("its text is %q", got)
	}
}
