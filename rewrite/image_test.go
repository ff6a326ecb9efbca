package rewrite

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestImagesAreNamedAsDockerNamesThem(t *testing.T) {
	for text, want := range map[string]Image{
		"busybox":                              {"docker.io", "library/busybox", "latest", ""},
		"index.docker.io/rancher/k3s:v1":       {"docker.io", "rancher/k3s", "v1", ""},
		"quay.io/team/app@" + someDigest:       {"quay.io", "team/app", "", someDigest},
		"localhost:5000/a/b:1":                 {"localhost:5000", "a/b", "1", ""},
		"ghcr.io/team/app:1.0@" + someDigest:   {"ghcr.io", "team/app", "", someDigest},
		" registry.k8s.io/pause:3.10 \n":       {"registry.k8s.io", "pause", "3.10", ""},
		"ksd.example.com:443/production/web:2": {"ksd.example.com", "production/web", "2", ""},
		"A0000/00":                             {"A0000", "00", "latest", ""},
		"a:443/b/c":                            {"a:443", "b/c", "latest", ""},
		"LOCALHOST:443/b":                      {"localhost", "b", "latest", ""},
		"Docker.io/busybox":                    {"docker.io", "library/busybox", "latest", ""},
		"registry-1.docker.io:443/busybox:1":   {"docker.io", "library/busybox", "1", ""},
	} {
		got, err := ParseImage(text)
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v, want %+v", text, got, err, want)
		}
		again, err := ParseImage(got.String())
		if err != nil || again != got {
			t.Errorf("%q written as %q is %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "quay.io/UPPER/case", "a b", "quay.io/x@sha256:12", "http://quay.io/x", "a_b.example/c", strings.Repeat("a", 300)} {
		if got, err := ParseImage(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, got)
		}
	}
}

// Whatever is the name of an image is read as the same image again once it is written in full, and as an
// image wherever the package that the clients use reads one.
func TestFullNamesAreReadAsTheSameImage(t *testing.T) {
	parts := []string{"a", "A", "0", "b-c", ".", ":", ":443", ":5000", "/", "/", "//", "@", "-", "_", "localhost", "LOCALHOST", "docker.io", "Docker.IO", "index.docker.io",
		"registry-1.docker.io", "library", "quay.io", "[::1]", someDigest, "@" + someDigest, ":latest", strings.Repeat("n", 120), " "}
	random := rand.New(rand.NewPCG(1, 11))
	images := 0
	for range 30_000 {
		var text strings.Builder
		for range 1 + random.IntN(7) {
			text.WriteString(parts[random.IntN(len(parts))])
		}
		got, err := ParseImage(text.String())
		theirs, err2 := reference.ParseDockerRef(strings.TrimSpace(text.String()))
		if err != nil {
			if err2 == nil && reference.Domain(theirs) != "" && len(reference.Path(theirs)) < 200 {
				t.Fatalf("%q: %v, and clients read %s", text.String(), err, theirs)
			}
			continue
		}
		images++
		again, err := ParseImage(got.String())
		if err != nil || again != got {
			t.Fatalf("%q is %+v, which is written as %s, and that is %+v, %v", text.String(), got, got, again, err)
		}
		if strings.TrimPrefix(got.Name, "library/") != strings.TrimPrefix(reference.Path(theirs), "library/") || fold(got.Host) != canonical(reference.Domain(theirs)) {
			t.Fatalf("%q is %+v, and clients read %s", text.String(), got, theirs)
		}
	}
	if images < 1000 {
		t.Errorf("%d images among all that", images)
	}
}

func TestImagesHaveTheirPlaceInTheProjectOfTheirRegistry(t *testing.T) {
	table, err := NewTable([]Project{
		{Name: "docker.io", Hub: true}, {Name: "k8s", Hosts: []string{"registry.k8s.io"}}, {Name: "production", Hosted: true},
	}, nil, "docker.io")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"busybox":                        "docker.io/library/busybox",
		"production/web":                 "docker.io/production/web", // an organisation of Docker Hub
		"registry.k8s.io/pause:3.10":     "k8s/pause",
		"here.example:5000/production/w": "production/w",
		"here.example:5000/busybox":      "docker.io/library/busybox",
		"quay.io/team/app":               "",
	} {
		i, err := ParseImage(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := table.Place(i, "here.example:5000")
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("%s is at %v, %v, want %q", text, got, err, want)
		}
	}
}
