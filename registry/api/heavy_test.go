package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// push writes an image into the catalog and the store, whose manifest has more in it than usual.
func (r *rig) push(repo registry.Repo, tag, config, more string) {
	r.t.Helper()
	c := registry.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: digest.FromString(config), Size: int64(len(config))}
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[]%s}`,
		registry.MediaTypeOCIManifest, c.MediaType, c.Digest, c.Size, more)
	m := registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromString(body), Size: int64(len(body))}
	r.bodies[c.Digest], r.bodies[m.Digest] = []byte(config), []byte(body)
	manifest, refs, err := registry.ParseManifest(m.MediaType, m.Digest, []byte(body))
	r.must(err, r.db.Durable(r.t.Context(), func(tx *catalog.Tx) error {
		return errors.Join(tx.AddBlob(repo, c.Digest, c.Size), tx.AddManifest(repo, manifest, refs), tx.PutTag(repo, tag, catalog.Tag{Descriptor: m}))
	}))
}

// What somebody has pushed never becomes an answer of a size that he chooses, and anybody may list what
// is in a public project.
func TestNoListIsOfAnySize(t *testing.T) {
	r := open(t)
	r.makes("admin", v2+"/projects", `{"project_name":"open","public":true}`)
	repo := registry.Repo{Project: "open", Name: "web"}
	for i := range 12 {
		r.push(repo, fmt.Sprint("wide", i), `{"os":"linux","architecture":"amd64","config":{"Env":["`+strings.Repeat("e", 500<<10)+`","A=b"],"Labels":{"l":"`+strings.Repeat("<", 400<<10)+`","m":"n"}}}`,
			fmt.Sprintf(`,"annotations":{"i":"%d","wide":"%s"}`, i, strings.Repeat("<", 3<<20)))
	}
	r.push(repo, "plain", `{"os":"linux","architecture":"arm64","config":{"Env":["A=b"]}}`, `,"annotations":{"a":"<b>"}`)

	a := r.wants(200, "", "GET", v2+"/projects/open/repositories/web/artifacts?page=0&page_size=0", "")
	all := a.list(t)
	if len(all) != 13 || len(a.body) > 100<<10 || a.header.Get("X-Total-Count") != "13" {
		t.Fatalf("%d artifacts in %d bytes, of %s", len(all), len(a.body), a.header.Get("X-Total-Count"))
	}
	said, unsaid := 0, 0
	for _, one := range all {
		view := one.(map[string]any)
		if view["clipped"] != true && view["annotations"].(map[string]any)["a"] != "<b>" {
			t.Errorf("%v is not said to be clipped", view["digest"])
		}
		if notes, _ := view["annotations"].(map[string]any); notes["i"] != nil || notes["a"] != nil {
			said++
		} else {
			unsaid++
		}
	}
	if said < 8 || unsaid < 1 {
		t.Errorf("of %d artifacts something is said, and of %d nothing: want both", said, unsaid)
	}

	one := r.wants(200, "", "GET", v2+"/projects/open/repositories/web/artifacts/wide1", "")
	view := one.object(t)
	config := view["extra_attrs"].(map[string]any)["config"].(map[string]any)
	if len(one.body) > 2*maxWords || view["clipped"] != true || view["annotations"].(map[string]any)["i"] != "1" || config["Labels"].(map[string]any)["m"] != "n" {
		t.Errorf("%d bytes of one: %.300s", len(one.body), one.body)
	}
	if plain := r.wants(200, "", "GET", v2+"/projects/open/repositories/web/artifacts/plain", ""); strings.Contains(plain.body, "clipped") || !strings.Contains(plain.body, `"a":"<b>"`) {
		t.Errorf("plain = %s", plain.body)
	}
	if empty := r.wants(200, "", "GET", v2+"/projects/open/repositories/web/artifacts?page=9", ""); empty.body != "[]\n" {
		t.Errorf("past the end = %q, want []", empty.body)
	}
}
