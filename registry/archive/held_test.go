package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// What somebody packs to cost memory is refused for what it is.
func TestWhatAnArchiveMayHave(t *testing.T) {
	diff := digest.FromString("layer")
	config := func(diffs int) string {
		return `{"rootfs":{"diff_ids":[` + strings.TrimSuffix(strings.Repeat(`"`+string(diff)+`",`, diffs), ",") + `]}}`
	}
	long := strings.Repeat("n", 1<<20-200)
	for name, tt := range map[string]struct {
		want string
		pack func(file func(name, body string), link func(name, to string))
	}{
		"long names": {"names of its files are longer than 10 MiB", func(file func(name, body string), link func(name, to string)) {
			for i := range 12 {
				file(fmt.Sprintf("%s-%d", long, i), "")
			}
		}},
		"links that lead to long names": {"names of its files are longer than 10 MiB", func(file func(name, body string), link func(name, to string)) {
			for i := range 12 {
				link(fmt.Sprint(i), long)
			}
		}},
		"an image of many layers": {"diff_ids of 1001 layers", func(file func(name, body string), link func(name, to string)) {
			file("config", config(1001))
		}},
		"many images of many layers": {"more than 200000 diff_ids together", func(file func(name, body string), link func(name, to string)) {
			for i := range 201 {
				file(fmt.Sprint(i), config(1000))
			}
		}},
		"many names of an image": {"more than 50000 names of images", func(file func(name, body string), link func(name, to string)) {
			file("config", config(0))
			file("manifest.json", `[{"Config":"config","RepoTags":["a"`+strings.Repeat(`,"a"`, 50_000)+`]}]`)
		}},
		"many images": {"more than 50000 names of images", func(file func(name, body string), link func(name, to string)) {
			file("config", config(0))
			file("manifest.json", `[{"Config":"config"}`+strings.Repeat(`,{"Config":"config"}`, 50_000)+`]`)
		}},
		"manifests that a few bytes make": {"too many layers together", func(file func(name, body string), link func(name, to string)) {
			plain, _ := layer(t, 1, 10, "")
			file("config", strings.ReplaceAll(config(1000), string(diff), string(digest.FromBytes(plain))))
			file("l", string(plain))
			image := `{"Config":"config","Layers":["l"` + strings.Repeat(`,"l"`, 999) + `]}`
			file("manifest.json", `[`+image+strings.Repeat(`,`+image, 600)+`]`)
		}},
		"no configuration": {"has 0 layers and the archive 1", func(file func(name, body string), link func(name, to string)) {
			file("config", `{"rootfs":{"diff_ids":["`+strings.Repeat("x", 100)+`"]}}`)
			file("l", "")
			file("manifest.json", `[{"Config":"config","Layers":["l"]}]`)
		}},
		"something behind the list": {"something behind the list", func(file func(name, body string), link func(name, to string)) {
			file("manifest.json", `[]]`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w := tar.NewWriter(&out)
			tt.pack(func(name, body string) {
				w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644, Typeflag: tar.TypeReg})
				w.Write([]byte(body))
			}, func(name, to string) {
				w.WriteHeader(&tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink})
			})
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got := shelf{}
			_, err := Read(t.Context(), &out, got.keep)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("that is said in %d bytes", len(err.Error()))
			}
		})
	}
}
