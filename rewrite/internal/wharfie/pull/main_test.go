package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/sirupsen/logrus"
)

func TestMain(m *testing.M) {
	// After a mirror, wharfie turns to the real registry: it must get no further than this.
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:9")
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// newMirror returns the path of a registries.yaml whose mirror of Docker Hub has an image as
// docker.io/rancher/app:1, with one file /bin/app.
func newMirror(t *testing.T) (file string, image v1.Image) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // wharfie reads it as Docker does
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	image, err := crane.Image(map[string][]byte{"bin/app": []byte("the app")})
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, strings.TrimPrefix(server.URL, "http://")+"/docker.io/rancher/app:1"); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "registries.yaml")
	text := fmt.Sprintf("mirrors:\n  docker.io:\n    endpoint: [%q]\n    rewrite:\n      \"(^.+$)\": docker.io/$1\n", server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, image
}

func TestPullIntoDirectory(t *testing.T) {
	file, image := newMirror(t)
	out := t.TempDir()
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"-registries", file, "-out", out, "rancher/app:1"}, &stdout); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "bin", "app")); err != nil || string(got) != "the app" {
		t.Errorf("/bin/app is %q, %v", got, err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := stdout.String(), digest.String()+"\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestPullIntoTar(t *testing.T) {
	file, image := newMirror(t)
	out := filepath.Join(t.TempDir(), "app.tar")
	if err := run(t.Context(), []string{"-registries", file, "-out", out, "rancher/app:1"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("rancher/app:1")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := tarball.ImageFromPath(out, &tag)
	if err != nil {
		t.Fatal(err)
	}
	got, err := saved.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	want, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("saved image %s, want %s", got, want)
	}
}

func TestPullFails(t *testing.T) {
	file, _ := newMirror(t)
	broken := filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(broken, []byte("mirrors: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	for _, tt := range []struct {
		show string
		args []string
		want string // in the error
	}{
		{"no image", []string{"-out", out}, "image"},
		{"nowhere to put it", []string{"rancher/app:1"}, "-out"},
		{"a bad reference", []string{"-out", out, "Rancher/App"}, "Rancher/App"},
		{"a broken file", []string{"-registries", broken, "-out", out, "rancher/app:1"}, broken},
		{"an image that is not there", []string{"-registries", file, "-out", out, "rancher/other:1"}, "rancher/other"},
	} {
		t.Run(tt.show, func(t *testing.T) {
			err := run(t.Context(), tt.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
