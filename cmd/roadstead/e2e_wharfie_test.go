package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// wharfie is what RKE2 pulls its own images with before it has a containerd: a command in the
// module that compares our rewrites with the real ones, built once for all tests of a run.
var wharfie = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(moduleRoot(), "rewrite", "internal", "wharfie")
	return goBuild(dir, "wharfie", []string{"build", "-buildvcs=false", "-trimpath", "./pull"})
})

// pullWharfie pulls with the registries.yaml that everybody has copied: the project becomes a
// part of the path by a rewrite, and the endpoint is the bare address.
func pullWharfie(t *testing.T, n *node, ref reference, img *image) {
	t.Helper()
	wharfiePull(t, n, ref, img, map[string]any{
		"endpoint": []string{n.url},
		"rewrite":  map[string]string{"(^.+$)": ref.project + "/$1"},
	})
}

func wharfiePull(t *testing.T, n *node, ref reference, img *image, mirror map[string]any) {
	t.Helper()
	wharfiePullBy(t, wharfieFile(t, n, ref, mirror), ref, img)
}

// wharfiePullBy pulls as a registries.yaml says.
func wharfiePullBy(t *testing.T, file string, ref reference, img *image) {
	t.Helper()
	root := filepath.Join(shortDir(t), "root")
	out, err := wharfieInto(t, root, file, ref)
	if err != nil {
		t.Fatal(err)
	}
	here := img.here()
	if got := strings.TrimSpace(string(out)); got != string(here.manifest.digest) {
		t.Errorf("wharfie pulled %s, want %s", got, here.manifest.digest)
	}
	files, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(here.layers) {
		t.Errorf("wharfie unpacked %d files, want one of each of %d layers", len(files), len(here.layers))
	}
}

// wharfieTry returns why wharfie cannot pull.
func wharfieTry(t *testing.T, n *node, ref reference, mirror map[string]any) error {
	t.Helper()
	_, err := wharfieInto(t, filepath.Join(shortDir(t), "root"), wharfieFile(t, n, ref, mirror), ref)
	return err
}

// wharfieInto pulls into root and returns the digest that was printed.
func wharfieInto(t *testing.T, root, file string, ref reference) ([]byte, error) {
	t.Helper()
	program, err := wharfie()
	if err != nil {
		t.Fatal(err)
	}
	return try(environment(shortDir(t)), program, "-registries", file, "-out", root, ref.String())
}

// wharfieFile writes a registries.yaml with one mirror.
func wharfieFile(t *testing.T, n *node, ref reference, mirror map[string]any) string {
	t.Helper()
	registries := map[string]any{"mirrors": map[string]any{ref.project: mirror}}
	config := map[string]any{}
	if n.ca != "" {
		config["tls"] = map[string]any{"ca_file": n.ca}
	}
	if n.who.name != "" {
		config["auth"] = map[string]any{"username": n.who.name, "password": n.who.secret}
	}
	if len(config) > 0 {
		registries["configs"] = map[string]any{n.addr: config}
	}
	return writeJSON(t, filepath.Join(shortDir(t), "registries.yaml"), registries)
}
