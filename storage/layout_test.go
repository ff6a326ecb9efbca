package storage

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestPaths(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for _, c := range []struct{ got, want string }{
		{must(blobPath(digest.Digest("sha256:" + hex))), "docker/registry/v2/blobs/sha256/ab/" + hex + "/data"},
		{must(blobPath(digest.Digest("sha512:" + hex + hex))), "docker/registry/v2/blobs/sha512/ab/" + hex + hex + "/data"},
		{must(quarantinePath(digest.Digest("sha256:" + hex))), "quarantine/sha256/" + hex},
		{linkDir(layersDir("docker.io/library/busybox"), digest.Digest("sha256:"+hex)), "docker/registry/v2/repositories/docker.io/library/busybox/_layers/sha256/" + hex},
		{linkDir(revisionsDir("a"), digest.Digest("sha256:"+hex)), "docker/registry/v2/repositories/a/_manifests/revisions/sha256/" + hex},
		{tagsDir("a/b"), "docker/registry/v2/repositories/a/b/_manifests/tags"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func must(name string, err error) string {
	if err != nil {
		return err.Error()
	}
	return name
}

func TestLasting(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	for dir, want := range map[string]bool{
		"docker":                                                        true,
		"docker/registry/v2/blobs/sha256":                               true,
		"docker/registry/v2/blobs/sha256/ab":                            true,
		"docker/registry/v2/blobs/sha256/ab/" + hex:                     false,
		"docker/registry/v2/blobs/sha512/ab/" + hex + hex:               false,
		"docker/registry/v2/repositories/a/b/_layers/sha256":            true,
		"docker/registry/v2/repositories/a/b/_layers/sha256/" + hex:     false,
		"docker/registry/v2/repositories/a/_manifests/tags":             true,
		"docker/registry/v2/repositories/a/_manifests/tags/latest":      false,
		"docker/registry/v2/repositories/a/_manifests/tags/1/index":     false,
		"docker/registry/v2/repositories/a/_manifests/revisions/sha256": true,
		"quarantine/sha256":                                             true,
	} {
		if got := lasting(dir); got != want {
			t.Errorf("%s: %t, want %t", dir, got, want)
		}
	}
}

func TestEntryOf(t *testing.T) {
	tags := "docker/registry/v2/repositories/a/_manifests/tags/"
	for dir, want := range map[string]string{
		tags + "latest":                                       tags + "latest",
		tags + "latest/current":                               tags + "latest",
		tags + "latest/index/sha256/ab":                       tags + "latest",
		"docker/registry/v2/blobs/sha256/ab/abcd":             "docker/registry/v2/blobs/sha256/ab/abcd",
		"docker/registry/v2/repositories/a/_layers/sha256/ab": "docker/registry/v2/repositories/a/_layers/sha256/ab",
	} {
		if got := entryOf(dir); got != want {
			t.Errorf("%s: %s, want %s", dir, got, want)
		}
	}
}

// FuzzLink: whatever a link file holds, what comes out of it is a digest that is a file name.
func FuzzLink(f *testing.F) {
	good := "sha256:" + strings.Repeat("0f", 32)
	for _, s := range []string{good, good + "\n", " " + good, strings.ToUpper(good), "sha256:", "sha512:" + strings.Repeat("a", 128), "sha256:../../../etc/passwd", "", "\x00", good + good} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseLink(b)
		if err != nil {
			return
		}
		if string(d) != string(b) || d.Validate() != nil {
			t.Errorf("%q became %q", b, d)
		}
		checkPath(t, d)
	})
}

// FuzzBlobPath: what is taken for content is where content of that digest belongs, and nowhere
// else.
func FuzzBlobPath(f *testing.F) {
	hex := strings.Repeat("0f", 32)
	for _, s := range []string{"sha256/0f/" + hex + "/data", "sha256/00/" + hex + "/data", "sha512/0f/" + hex + "/data", "sha256/0f/" + hex, "sha256//" + hex + "/data", "../sha256/0f/" + hex + "/data", "sha256/0f/" + hex + "/data/data"} {
		f.Add(blobsDir + "/" + s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		d, ok := parseBlobPath(name)
		if !ok {
			return
		}
		if got := must(blobPath(d)); got != name {
			t.Errorf("%q is %s, which belongs at %q", name, d, got)
		}
		checkPath(t, d)
	})
}

// FuzzNames: no repository, tag or digest that is accepted leads out of its place.
func FuzzNames(f *testing.F) {
	f.Add("docker.io/library/busybox", "1.35", "sha256:"+strings.Repeat("0f", 32))
	f.Add("a/../b", "..", "sha256:..")
	f.Add("a/_layers", "a/b", "sha256:"+strings.Repeat("F", 64))
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, repo, tag, d string) {
		if checkRepo(repo) == nil {
			within(t, layersDir(repo), reposDir, "/_layers", strings.Count(repo, "/")+2)
		}
		if checkTag(tag) == nil {
			within(t, tagsDir("a")+"/"+tag+"/current/link", tagsDir("a"), "/current/link", 3)
		}
		if _, _, err := split(digest.Digest(d)); err == nil {
			checkPath(t, digest.Digest(d))
		}
	})
}

func checkPath(t *testing.T, d digest.Digest) {
	t.Helper()
	within(t, must(blobPath(d)), blobsDir, "/data", 4)
	within(t, must(quarantinePath(d)), quarantineDir, "", 2)
	within(t, linkDir(layersDir("a"), d), layersDir("a"), "", 2)
}

// within fails unless name is a clean path depth below dir, made of plain names.
func within(t *testing.T, name, dir, suffix string, depth int) {
	t.Helper()
	rest, ok := strings.CutPrefix(name, dir+"/")
	if !ok || !filepath.IsLocal(name) || filepath.Clean(name) != name || !strings.HasSuffix(name, suffix) || strings.Count(rest, "/")+1 != depth || strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/") != "" {
		t.Errorf("%q is not %d below %q", name, depth, dir)
	}
	if strings.Contains("/"+strings.TrimSuffix(rest, suffix)+"/", "/_layers/") || strings.Contains("/"+strings.TrimSuffix(rest, suffix)+"/", "/_uploads/") {
		t.Errorf("%q can be taken for the layout's own", name)
	}
}
