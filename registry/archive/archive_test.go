package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// shelf keeps content in memory and hands it out again.
type shelf map[registry.Digest][]byte

func (s shelf) keep(_ context.Context, want registry.Digest, size int64, r io.Reader) (registry.Digest, error) {
	if s[want] != nil {
		return want, nil
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	d := digest.FromBytes(b)
	if want != "" {
		d = want.Algorithm().FromBytes(b)
	}
	if int64(len(b)) != size || want != "" && d != want {
		return "", fmt.Errorf("%d bytes of %s instead of %d of %s", len(b), d, size, want)
	}
	s[d] = b
	return d, nil
}

func (s shelf) open(_ context.Context, d registry.Descriptor) (io.ReadCloser, error) {
	b, ok := s[d.Digest]
	if !ok {
		return nil, fmt.Errorf("no %s", d.Digest)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (s shelf) add(mediaType string, b []byte) registry.Descriptor {
	d := digest.FromBytes(b)
	s[d] = b
	return registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (s shelf) addJSON(t *testing.T, mediaType string, v any) registry.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return s.add(mediaType, b)
}

// layer is a tar file with one file in it, and what that is compressed.
func layer(t *testing.T, seed uint64, size int, compression string) (plain, packed []byte) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{byte(seed)})
	content := make([]byte, size)
	random.Read(content)
	var inner, out bytes.Buffer
	for _, w := range []struct {
		to  *bytes.Buffer
		how string
	}{{&inner, ""}, {&out, compression}} {
		tw, err := NewTar(w.to, w.how)
		if err == nil {
			err = tw.Put(fmt.Sprintf("file-%d", seed), int64(size), bytes.NewReader(content))
		}
		if err == nil {
			err = tw.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return inner.Bytes(), out.Bytes()
}

// image puts an image of two layers on a shelf.
func (s shelf) image(t *testing.T, name string, seed uint64, compression string) (Image, []registry.Descriptor) {
	t.Helper()
	kind := "application/vnd.oci.image.layer.v1.tar"
	if compression != "" {
		kind += "+" + compression
	}
	var layers []registry.Descriptor
	var diffs []digest.Digest
	for i := range uint64(2) {
		plain, packed := layer(t, seed+i, 100_000, compression)
		layers = append(layers, s.add(kind, packed))
		diffs = append(diffs, digest.FromBytes(plain))
	}
	config := s.addJSON(t, ociConfig, map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	m := s.addJSON(t, registry.MediaTypeOCIManifest, map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest, "config": config, "layers": layers})
	return Image{Name: name, Descriptor: m}, append([]registry.Descriptor{m, config}, layers...)
}

// two are two images on a shelf, and all that they are made of.
func two(t *testing.T, compression string) (shelf, Writing) {
	s := shelf{}
	w := Writing{Open: s.open}
	for i, name := range []string{"docker.io/library/one:1.0", "quay.io/team/two:v2"} {
		image, contents := s.image(t, name, uint64(10*i), compression)
		w.Images, w.Contents = append(w.Images, image), append(w.Contents, contents...)
	}
	return s, w
}

// pack writes an archive into memory.
func pack(t *testing.T, w Writing, compression, format string) []byte {
	t.Helper()
	var out bytes.Buffer
	tw, err := NewTar(&out, compression)
	if err != nil {
		t.Fatal(err)
	}
	w.Files = tw
	if format == "docker" {
		err = w.Docker(t.Context())
	} else {
		err = w.Layout(t.Context(), false)
	}
	if err == nil {
		err = tw.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestLayoutThereAndBack(t *testing.T) {
	for _, compression := range []string{"", "gzip", "zstd"} {
		t.Run("compressed by "+compression, func(t *testing.T) {
			s, w := two(t, "gzip")
			got := shelf{}
			images, err := Read(t.Context(), bytes.NewReader(pack(t, w, compression, "oci")), got.keep)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.EqualFunc(s, got, bytes.Equal) {
				t.Errorf("%d pieces of content came back of %d", len(got), len(s))
			}
			for i, image := range images {
				if want := w.Images[i]; image.Name != want.Name || image.Digest != want.Digest || image.MediaType != want.MediaType || image.Made != nil {
					t.Errorf("image %d is %+v, want %+v", i, image, want)
				}
			}
			if len(images) != 2 {
				t.Errorf("%d images, want 2", len(images))
			}
		})
	}
}

func TestEqualContentsMakeEqualArchives(t *testing.T) {
	_, w := two(t, "gzip")
	for _, format := range []string{"oci", "docker"} {
		if a, b := pack(t, w, "zstd", format), pack(t, w, "zstd", format); !bytes.Equal(a, b) {
			t.Errorf("%s: two archives of the same differ", format)
		}
	}
}

// Layers come through as they are, and a manifest is made whose digest depends on nothing else.
func TestDockerThereAndBack(t *testing.T) {
	for _, compression := range []string{"", "gzip", "zstd"} {
		t.Run("layers compressed by "+compression, func(t *testing.T) {
			s, w := two(t, compression)
			got := shelf{}
			images, err := Read(t.Context(), bytes.NewReader(pack(t, w, "", "docker")), got.keep)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, image := range images {
				names = append(names, image.Name)
				m, refs, err := registry.ParseManifest("", image.Digest, image.Made)
				if err != nil || m.MediaType != registry.MediaTypeDockerManifest || digest.FromBytes(image.Made) != image.Digest {
					t.Fatalf("%s: %v, %s", image.Name, err, m.MediaType)
				}
				for _, d := range refs.Blobs() {
					if !bytes.Equal(got[d.Digest], s[d.Digest]) || int64(len(got[d.Digest])) != d.Size {
						t.Errorf("%s: %s did not come back", image.Name, d.Digest)
					}
				}
				if want := dockerLayer + map[string]string{"": "", "gzip": ".gzip", "zstd": ".zstd"}[compression]; refs.Layers[0].MediaType != want {
					t.Errorf("a layer is %s, want %s", refs.Layers[0].MediaType, want)
				}
			}
			if want := []string{"docker.io/library/one:1.0", "quay.io/team/two:v2"}; !slices.Equal(names, want) {
				t.Errorf("images %q, want %q", names, want)
			}
		})
	}
}

// rewrite changes the files of a tar file.
func rewrite(t *testing.T, in []byte, change func(name string, body []byte) (string, []byte)) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for r := tar.NewReader(bytes.NewReader(in)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		body, err2 := io.ReadAll(r)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if h.Name, body = change(h.Name, body); h.Name == "" {
			continue
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write(body)
	}
	w.Close()
	return out.Bytes()
}

func TestDamageIsFound(t *testing.T) {
	_, w := two(t, "gzip")
	_, plain := two(t, "")
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		return b
	}
	flipped := func(suffix string) func(string, []byte) (string, []byte) {
		return func(name string, body []byte) (string, []byte) {
			if strings.HasSuffix(name, suffix) {
				body = flip(body)
			}
			return name, body
		}
	}
	without := func(suffix string) func(string, []byte) (string, []byte) {
		return func(name string, body []byte) (string, []byte) {
			if strings.HasSuffix(name, suffix) {
				return "", nil
			}
			return name, body
		}
	}
	layout, docker := pack(t, w, "", "oci"), pack(t, w, "", "docker")
	blob := w.Contents[3].Digest.Encoded()
	for name, in := range map[string][]byte{
		"a blob of a layout":             rewrite(t, layout, flipped(blob)),
		"a compressed layer of Docker's": rewrite(t, docker, flipped(blob+".tar.gz")),
		"a plain layer of Docker's":      rewrite(t, pack(t, plain, "", "docker"), flipped(plain.Contents[3].Digest.Encoded()+".tar")),
		"a configuration of Docker's":    rewrite(t, docker, flipped(w.Contents[1].Digest.Encoded()+".json")),
		"no layer":                       rewrite(t, docker, without(blob+".tar.gz")),
		"no index":                       rewrite(t, layout, without("index.json")),
		"cut off":                        layout[:len(layout)/2],
		"zstd that is cut off":           pack(t, w, "zstd", "oci")[:100_000],
		"gzip whose checksum is wrong":   flip8(pack(t, w, "gzip", "oci")),
		"nothing":                        nil,
		"something else":                 bytes.Repeat([]byte("no archive "), 1000),
	} {
		t.Run(name, func(t *testing.T) {
			images, err := Read(t.Context(), bytes.NewReader(in), shelf{}.keep)
			if err == nil {
				t.Errorf("it was taken for good: %d images", len(images))
			}
			t.Log(err)
		})
	}
}

// flip8 changes the checksum at the end of a gzip file.
func flip8(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-8] ^= 1
	return b
}

func TestDamageHereIsNotWritten(t *testing.T) {
	s, w := two(t, "gzip")
	d := w.Contents[2].Digest
	s[d] = append(bytes.Clone(s[d][1:]), 0)
	tw, _ := NewTar(io.Discard, "")
	w.Files = tw
	if err := w.Layout(t.Context(), false); err == nil || !strings.Contains(err.Error(), string(d)) {
		t.Errorf("%v; want an error that names %s", err, d)
	}
}

// Layers that images share are links in what Docker itself writes, and files that nobody needs lie
// beside them.
func TestDockersOwnLinks(t *testing.T) {
	plain, _ := layer(t, 1, 1000, "")
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromBytes(plain))
	name := digest.FromBytes(config).Encoded() + ".json"
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, body []byte) {
		w.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644, Typeflag: tar.TypeReg})
		w.Write(body)
	}
	w.WriteHeader(&tar.Header{Name: "aa/", Mode: 0o755, Typeflag: tar.TypeDir})
	add("aa/VERSION", []byte("1.0"))
	add("aa/json", []byte("{}"))
	w.WriteHeader(&tar.Header{Name: "bb/layer.tar", Linkname: "../aa/layer.tar", Typeflag: tar.TypeSymlink})
	add("aa/layer.tar", plain)
	add(name, config)
	add("manifest.json", fmt.Appendf(nil, `[{"Config":%q,"RepoTags":["busybox:1","busybox:2"],"Layers":["bb/layer.tar"]},{"Config":%q,"RepoTags":null,"Layers":["aa/layer.tar"]}]`, name, name))
	add("repositories", []byte("{}"))
	w.Close()
	got := shelf{}
	images, err := Read(t.Context(), &out, got.keep)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Errorf("%d pieces of content, want a layer and a configuration", len(got))
	}
	if len(images) != 3 || images[0].Name != "busybox:1" || images[1].Name != "busybox:2" || images[2].Name != "" || images[0].Digest != images[2].Digest {
		t.Errorf("images %+v", images)
	}
}

// What skopeo makes is read, and what is written here is read by skopeo.
func TestWithSkopeo(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600)
	copied := func(from, to string) {
		t.Helper()
		cmd := exec.Command(skopeo, "--policy", policy, "--tmpdir", dir, "copy", from, to)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("skopeo copy %s %s: %v\n%s", from, to, err, out)
		}
	}
	s, w := two(t, "gzip")
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("ours.tar"), pack(t, w, "", "oci"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("ours-docker.tar"), pack(t, w, "", "docker"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := w.Images[0].Name
	copied("oci-archive:"+path("ours.tar")+":"+name, "oci:"+path("layout")+":"+name)
	copied("oci-archive:"+path("ours.tar")+":"+name, "oci-archive:"+path("theirs.tar")+":1.0")
	copied("docker-archive:"+path("ours-docker.tar")+":"+name, "docker-archive:"+path("theirs-docker.tar")+":"+name)

	read := func(name string) (shelf, []Image) {
		t.Helper()
		f, err := os.Open(path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := shelf{}
		images, err := Read(t.Context(), f, got.keep)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return got, images
	}
	got := shelf{}
	images, err := ReadDir(t.Context(), os.DirFS(path("layout")), got.keep)
	if err != nil || len(images) != 1 || images[0].Name != name || images[0].Digest != w.Images[0].Digest || len(got) != 4 {
		t.Errorf("skopeo's layout: %v, %+v with %d pieces", err, images, len(got))
	}
	got, images = read("theirs.tar")
	if len(images) != 1 || images[0].Name != "1.0" || images[0].Digest != w.Images[0].Digest || !bytes.Equal(got[images[0].Digest], s[images[0].Digest]) {
		t.Errorf("skopeo's oci-archive: %+v", images)
	}
	got, images = read("theirs-docker.tar")
	if len(images) != 1 || images[0].Name != name || len(got) != 3 {
		t.Errorf("skopeo's docker-archive: %+v with %d pieces", images, len(got))
	}
}

func TestCarried(t *testing.T) {
	all := []Carried{{digest.FromString("a"), 1, "docker.io/library/a:1"}, {digest.FromString("b"), 0, ""}}
	var out strings.Builder
	if err := WriteCarried(&out, all); err != nil {
		t.Fatal(err)
	}
	got, err := ReadCarried(strings.NewReader("# from the first of May\n\n" + out.String()))
	if err != nil || !slices.Equal(got, all) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"sha256:12 3 x", string(all[0].Digest), string(all[0].Digest) + " x y"} {
		if _, err := ReadCarried(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
