package main_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Signed images are warmed and exported with their signatures, imported where nothing can be asked and
// nothing unsigned is served, and pulled from there by containerd: they were never verified before.
func TestSignedAirGap(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	s := newSigning(t, u)
	public := s.key(t, "ours")
	var cargo []load
	for i, repo := range []string{"team/tagged", "team/bundled", "team/bare"} {
		img := recipe{seed: uint64(9200 + 10*i), platforms: []string{"amd64", "arm64"}}.make(t, "1")
		u.push(t, repo, img)
		cargo = append(cargo, load{reference{project: "quay.io", repo: repo, tag: "1"}, img})
	}
	signed, bare := cargo[:2], cargo[2]
	s.sign(t, "ours", signed[0].repo, signed[0].image, oldFormat)
	s.sign(t, "ours", signed[1].repo, signed[1].image)
	names := []string{cargo[0].String(), cargo[1].String(), cargo[2].String()}

	admin := account{"admin", "First-of-all-1f8c"}
	first := filepath.Join(t.TempDir(), "first")
	if err := os.WriteFile(first, []byte(admin.secret), 0o600); err != nil {
		t.Fatal(err)
	}
	near := startNode(t, nodeConfig{plain: true, projects: map[string]any{"quay.io": u.project(nil)}, more: map[string]any{"admin_password_file": first}})
	if w := near.warm(admin, append([]string{"--signatures"}, names...)...); w.ended(t) != 0 {
		t.Fatalf("%s%s", w.out.String(), w.err.String())
	}
	archive := filepath.Join(t.TempDir(), "signed.tar")
	out, err := near.command("export", append([]string{"--signatures", "-o", archive}, names...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "team/bare:1: no signature of it is here") {
		t.Errorf("nothing is said of the image that is not signed:\n%s", out)
	}

	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	far := newNode(t, nodeConfig{
		plain:    true,
		projects: map[string]any{"quay.io": project("http://"+nobody.Addr().String(), map[string]any{"verify": map[string]any{"mode": "enforce", "keys": []string{public}}})},
		more:     map[string]any{"offline": true},
	})
	if out, err := far.command("import", archive); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	far.start()
	c := startContainerd(t)
	c.hosts(t, "_default", far.url)
	for _, l := range signed {
		c.pull(t, l.reference, l.image)
		c.pull(t, reference{project: l.project, repo: l.repo, digest: l.image.top().digest}, l.image)
	}
	a := far.ask(http.MethodGet, manifestPath("quay.io/"+bare.repo, "1"))
	if a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "no signature was found") {
		t.Errorf("%s, which is not signed: %v %s", bare.repo, a, a.body)
	}
	for _, more := range [][]string{{oldFormat}, nil} {
		repo := signed[len(signed)-1].repo
		if more != nil {
			repo = signed[0].repo
		}
		args := append([]string{"verify", "--key", public, "--insecure-ignore-tlog", "--allow-http-registry"}, more...)
		run(t, s.env, s.cosign, append(args, far.addr+"/quay.io/"+repo+":1")...)
	}

	// containerd sees the images in the archive and none of the signatures.
	c.namespace = "loaded"
	c.run(t, "images", "import", "--snapshotter", "native", archive)
	for _, l := range signed {
		c.compare(t, l.reference, l.image)
	}
	if all := string(c.run(t, "images", "ls", "-q")); strings.Contains(all, ".sig") {
		t.Errorf("containerd has signatures among its images:\n%s", all)
	}
	// A project that looks at signatures has them exported without being asked to.
	out, err = far.command("export", "-o", archive+".zst", "--project", "quay.io", "--platform", "linux/amd64")
	tag := strings.Replace(string(signed[0].image.top().digest), ":", "-", 1) + ".sig"
	if err != nil || !strings.Contains(string(out), "quay.io/team/tagged:"+tag) || !strings.Contains(string(out), "quay.io/team/bundled@"+string(digest.Canonical)) {
		t.Errorf("%v\n%s", err, out)
	}
}
