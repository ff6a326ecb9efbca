package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

// TestResolveByGET is what is left when HEAD says too little, and that it is remembered.
func TestResolveByGET(t *testing.T) {
	const head, get = "HEAD /v2/a/manifests/1", "GET /v2/a/manifests/1"
	wrong := "sha256:" + strings.Repeat("0", 64)
	for _, row := range []struct {
		name  string
		match string
		fault registrytest.Fault
		want  registry.Code
		lines []string // of two questions
	}{
		{"HEAD not allowed", "HEAD ", registrytest.Status(405), "", []string{head, get, get}},
		{"HEAD not implemented", "HEAD ", registrytest.Status(501), "", []string{head, get, get}},
		{"HEAD is 404 and GET is not", "HEAD ", registrytest.Status(404), "", []string{head, get, get}},
		{"HEAD without a digest", "HEAD ", registrytest.Header("Docker-Content-Digest", ""), "", []string{head, get, get}},
		{"A5 HEAD with a digest that is a path", "HEAD ", registrytest.Header("Docker-Content-Digest", "sha256:../../x"), "", []string{head, get, get}},
		{"HEAD without a length", "HEAD ", registrytest.Header("Content-Length", ""), "", []string{head, get, get}},
		{"HEAD without a media type", "HEAD ", registrytest.Header("Content-Type", "application/octet-stream"), "", []string{head, get, get}},
		{"HEAD says JSON", "HEAD ", registrytest.Header("Content-Type", "application/json"), "", []string{head, get, get}},
		{"nothing but GET, and that without a digest", "", registrytest.Header("Docker-Content-Digest", "", "Content-Type", ""), "", []string{head, get, get}},
		{"A5 a digest that is a path everywhere", "", registrytest.Header("Docker-Content-Digest", "sha256:../../x"), "", []string{head, get, get}},
		{"a media type with a parameter", "", registrytest.Header("Content-Type", registry.MediaTypeOCIManifest+"; charset=utf-8"), "", []string{head, head}},
		{"B14 HEAD with another digest is a hint", "HEAD ", registrytest.Header("Docker-Content-Digest", wrong), "", []string{head, head}},
		{"U17 GET with another digest", "", registrytest.Both(registrytest.Header("Docker-Content-Digest", wrong), registrytest.Header("Content-Type", "")), registry.Unavailable,
			[]string{head, get, head, get}},
		{"U17 HEAD of 40 MiB", "HEAD ", registrytest.Header("Content-Length", fmt.Sprint(40<<20)), registry.Unavailable, []string{head, head}},
		{"U13 a portal", "", registrytest.HTML(), registry.Unavailable, []string{head, get, head, get}},
		{"404 of something that is no registry is asked for once", "", registrytest.Status(404), registry.ManifestUnknown, []string{head, get, head}},
		{"404 of a registry is believed", "", registrytest.Status(404, "Docker-Distribution-Api-Version", "registry/2.0"), registry.ManifestUnknown, []string{head, head}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			up := registrytest.New(t)
			image := up.PutImage("a", "1", []byte("x"))
			up.Fail(row.match, 0, row.fault)
			r := open(t, Config{}, up)
			for range 2 {
				d, err := r.Resolve(t.Context(), repo("a"), "1")
				if row.want != "" {
					fault(t, err, row.want)
					continue
				}
				want := up.Descriptor("a", image)
				if strings.HasPrefix(row.name, "B14") {
					want.Digest = registry.Digest(wrong)
				}
				if err != nil || d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
					t.Errorf("got %v, %v, want %v", d, err, want)
				}
			}
			wants(t, up, row.lines...)
		})
	}
}

func TestManifest(t *testing.T) {
	image := `{"schemaVersion":2,"mediaType":"` + registry.MediaTypeOCIManifest + `","config":{"mediaType":"x","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1},"layers":[]}`
	path := strings.Replace(image, strings.Repeat("0", 64), "../../../etc/passwd", 1)
	huge := `{"schemaVersion":2,"manifests":[` + strings.Repeat(" ", registry.MaxManifest) + `]}`
	for _, row := range []struct {
		name      string
		body      string
		mediaType string
		fault     registrytest.Fault
		want      registry.Code
		asked     int
	}{
		{"as it should be", image, registry.MediaTypeOCIManifest, nil, "", 1},
		{"the largest there may be", image + strings.Repeat("\n", registry.MaxManifest-len(image)), registry.MediaTypeOCIManifest, nil, "", 1},
		{"B14 another digest in the header", image, registry.MediaTypeOCIManifest, registrytest.Header("Docker-Content-Digest", "sha256:x"), "", 1},
		{"no media type", image, "", registrytest.Header("Content-Type", ""), "", 1},
		{"no length", image, registry.MediaTypeOCIManifest, registrytest.Chunked(), "", 1},
		{"A6 other bytes than those of the digest", image, registry.MediaTypeOCIManifest, registrytest.Corrupt(), registry.Unavailable, 1},
		{"A6 another manifest", image, registry.MediaTypeOCIManifest, registrytest.Answer(registry.MediaTypeOCIManifest, image+" "), registry.Unavailable, 1},
		{"A7 U17 too long", huge, registry.MediaTypeOCIIndex, nil, registry.Unavailable, 1},
		{"A7 too long and does not say so", huge, registry.MediaTypeOCIIndex, registrytest.Chunked(), registry.Unavailable, 1},
		{"U13 a portal", image, registry.MediaTypeOCIManifest, registrytest.HTML(), registry.Unavailable, 1},
		{"B1 another media type outside than inside", image, registry.MediaTypeOCIIndex, nil, registry.Unavailable, 1},
		{"A5 a reference that is a path", path, registry.MediaTypeOCIManifest, nil, registry.Unavailable, 1},
		{"U12 compressed", image, registry.MediaTypeOCIManifest, registrytest.Gzip(), registry.Unavailable, 1},
		{"U10 truncated", image, registry.MediaTypeOCIManifest, registrytest.Truncate(10), registry.Unavailable, 3},
		{"U12 length too long", image, registry.MediaTypeOCIManifest, registrytest.Length(5), registry.Unavailable, 3},
		{"U12 length too short", image, registry.MediaTypeOCIManifest, registrytest.Length(-5), registry.Unavailable, 1},
		{"schema 1", `{"schemaVersion":1}`, "application/vnd.docker.distribution.manifest.v1+json", nil, registry.Unavailable, 1},
		{"nothing", "", registry.MediaTypeOCIManifest, registrytest.Answer(registry.MediaTypeOCIManifest, ""), registry.Unavailable, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			up := registrytest.New(t)
			d := up.PutManifest("a", "", row.mediaType, []byte(row.body))
			if row.fault != nil {
				up.Fail("", 0, row.fault)
			}
			m, err := open(t, Config{}, up).Manifest(t.Context(), repo("a"), d)
			if row.want == "" && (err != nil || string(m.Bytes) != row.body || m.Digest != d || m.Size != int64(len(row.body)) || m.MediaType != registry.MediaTypeOCIManifest) {
				t.Errorf("got %v, %v", m.Descriptor, err)
			}
			if row.want != "" {
				fault(t, err, row.want)
			}
			if got := len(up.Requests()); got != row.asked {
				t.Errorf("asked %d times, want %d", got, row.asked)
			}
			if sent := up.Sent(""); sent > 2*registry.MaxManifest {
				t.Errorf("%d bytes were taken", sent)
			}
		})
	}
}

func TestManifestBySHA512(t *testing.T) {
	up := registrytest.New(t)
	body := up.Manifest("a", up.PutImage("a", "", []byte("x")))
	d := digest.SHA512.FromBytes(body)
	up.PutManifestAs("a", "1", d, registry.MediaTypeOCIManifest, body)
	r := open(t, Config{}, up)
	m, err := r.Manifest(t.Context(), repo("a"), d)
	if err != nil || m.Digest != d {
		t.Errorf("got %v, %v", m.Descriptor, err)
	}
	up.Fail("HEAD ", 0, registrytest.Status(405))
	if desc, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil || desc.Digest != d {
		t.Errorf("resolved to %v, %v", desc, err)
	}
	up.PutManifestAs("a", "", d, registry.MediaTypeOCIManifest, append(body, ' '))
	_, err = r.Manifest(t.Context(), repo("a"), d)
	fault(t, err, registry.Unavailable)
}

// TestTruncatedOnce is U10 for what is read whole.
func TestTruncatedOnce(t *testing.T) {
	up := registrytest.New(t)
	d := up.PutImage("a", "1", []byte("x"))
	up.Fail("GET ", 1, registrytest.Truncate(10))
	up.Fail("GET ", 1, registrytest.Stall(10))
	if _, err := open(t, Config{IdleTimeout: patient}, up).Manifest(t.Context(), repo("a"), d); err != nil {
		t.Error(err)
	}
	line := "GET /v2/a/manifests/" + d.String()
	wants(t, up, line, line, line)
}

func TestAccept(t *testing.T) {
	up := registrytest.New(t)
	d := up.PutImage("a", "1", []byte("x"))
	r := open(t, Config{}, up)
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), repo("a"), d); err != nil {
		t.Fatal(err)
	}
	for _, req := range up.Log() {
		if got := req.Header.Values("Accept"); !slices.Equal(got, registry.ManifestTypes) {
			t.Errorf("%s accepts %q", req.Line, got)
		}
	}
}

// TestTagMoves is U18: the tag says one thing and then another, the digest always the same.
func TestTagMoves(t *testing.T) {
	up := registrytest.New(t)
	first := up.PutImage("a", "1", []byte("x"))
	r := open(t, Config{}, up)
	before, err := r.Resolve(t.Context(), repo("a"), "1")
	if err != nil {
		t.Fatal(err)
	}
	second := up.PutImage("a", "1", []byte("y"))
	after, err := r.Resolve(t.Context(), repo("a"), "1")
	if err != nil {
		t.Fatal(err)
	}
	if before.Digest != first || after.Digest != second {
		t.Errorf("resolved to %s and %s, want %s and %s", before.Digest, after.Digest, first, second)
	}
	m, err := r.Manifest(t.Context(), repo("a"), first)
	if err != nil || m.Digest != first {
		t.Errorf("got %v, %v", m.Descriptor, err)
	}
}

// A tag that nobody knows yet costs one request with its manifest.
func TestTagged(t *testing.T) {
	for _, row := range []struct {
		name  string
		tag   string
		fault registrytest.Fault
		want  registry.Code
	}{
		{"as it should be", "1", nil, ""},
		{"no digest in the header", "1", registrytest.Header("Docker-Content-Digest", ""), ""},
		{"unknown", "2", nil, registry.ManifestUnknown},
		{"U17 other bytes than the header's digest", "1", registrytest.Corrupt(), registry.Unavailable},
		{"U13 a portal", "1", registrytest.HTML(), registry.Unavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			d := up.PutImage("a", "1", []byte("x"))
			if row.fault != nil {
				up.Fail("GET /v2/a/manifests/", 0, row.fault)
			}
			m, err := open(t, Config{}, up).Tagged(t.Context(), repo("a"), row.tag)
			if row.want != "" {
				fault(t, err, row.want)
			} else if err != nil || m.Digest != d || digest.FromBytes(m.Bytes) != d {
				t.Errorf("got %v, %v", m.Descriptor, err)
			}
			if want := []string{"GET /v2/a/manifests/" + row.tag}; !slices.Equal(up.Requests(), want) {
				t.Errorf("asked %q, want %q", up.Requests(), want)
			}
		})
	}
}
