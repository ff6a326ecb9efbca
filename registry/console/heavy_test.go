package console

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What somebody has pushed never becomes a page of a size that he chooses.
func TestNoPageIsOfAnySize(t *testing.T) {
	v := open(t)
	gina := v.as("gina")
	const plain = `{"os":"linux","architecture":"amd64"}`
	small := v.manifest("shop/plain", plain, "")
	layers := strings.TrimSuffix(strings.Repeat(`{"mediaType":"a/b","digest":"`+digest.FromString("layer").String()+`","size":1},`, 2000), ",")
	for _, tt := range []struct {
		name, config, more string
		most               int
		want               string
	}{
		{"nested deeply", plain, `,"x":` + strings.Repeat("[", 9000) + strings.TrimSuffix(strings.Repeat("1,", 20000), ",") + strings.Repeat("]", 9000), 1 << 20, "1,1,1,1"},
		{"a wide annotation", plain, `,"annotations":{"wide":"` + strings.Repeat("<", 3<<20) + `"}`, 4 << 20, "…"},
		{"many annotations", plain, `,"annotations":{` + many(50_000) + `}`, 4 << 20, "…"},
		{"a long command beside each layer", `{"os":"linux","history":[` + strings.Repeat(`{"created_by":"a"},`, 1999) + `{"created_by":"` + strings.Repeat("b", 500<<10) + `"}]}`, `,"layers":[` + layers + `]`, 8 << 20, "bbb…"},
		{"layers without end", plain, `,"layers":[` + strings.Repeat(strings.TrimSuffix(layers, ",")+",", 10) + strings.TrimSuffix(layers, ",") + `]`, 1 << 20, "8 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := v.manifest("shop/heavy", tt.config, tt.more)
			p := gina.get("/c/artifacts/shop/heavy?ref=" + d.String())
			if len(p.body) > tt.most || !strings.Contains(p.body, tt.want) {
				t.Errorf("status %d and %d bytes, want at most %d with %q in it", p.status, len(p.body), tt.most, tt.want)
			}
			if p.status != http.StatusOK && p.status != http.StatusRequestEntityTooLarge {
				t.Errorf("status %d", p.status)
			}
		})
	}
	gina.get("/c/artifacts/shop/plain?ref="+small.String()).has(t, http.StatusOK, "  &#34;schemaVersion&#34;: 2,")
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + itoa(int64(i)) + `":"` + strings.Repeat("<", 20) + `"`)
	}
	return b.String()
}

// manifest writes an image of which some JSON is not usual, and returns its digest.
func (v *town) manifest(name, config, more string) registry.Digest {
	v.t.Helper()
	repo := registry.SplitRepo(name)
	c := v.put("application/vnd.oci.image.config.v1+json", config)
	if !strings.Contains(more, `"layers"`) {
		more = `,"layers":[]` + more
	}
	body := `{"schemaVersion":2,"mediaType":"` + registry.MediaTypeOCIManifest + `","config":{"mediaType":"` + c.MediaType + `","digest":"` + c.Digest.String() + `","size":` + itoa(c.Size) + `}` + more + `}`
	m := v.put(registry.MediaTypeOCIManifest, body)
	manifest, refs, err := registry.ParseManifest(m.MediaType, m.Digest, []byte(body))
	v.must(err, v.db.Update(v.t.Context(), func(tx *catalog.Tx) error {
		return errors.Join(tx.AddBlob(repo, c.Digest, c.Size), tx.AddBlob(repo, digest.FromString("layer"), 1), tx.AddManifest(repo, manifest, refs))
	}))
	return m.Digest
}
