package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// signing is where images are signed at an upstream, with the real cosign.
type signing struct {
	cosign string
	dir    string
	env    []string
	u      *upstream
}

func newSigning(t *testing.T, u *upstream) *signing {
	t.Helper()
	s := &signing{cosign: need(t, "cosign"), dir: shortDir(t), u: u}
	s.env = environment(s.dir, "COSIGN_PASSWORD=")
	return s
}

// key makes a key and returns the file of its public half.
func (s *signing) key(t *testing.T, name string) (public string) {
	t.Helper()
	prefix := filepath.Join(s.dir, name)
	run(t, s.env, s.cosign, "generate-key-pair", "--output-key-prefix", prefix)
	return prefix + ".pub"
}

// sign signs an image by its digest.
func (s *signing) sign(t *testing.T, key, repo string, img *image, more ...string) {
	t.Helper()
	args := append([]string{"sign", "--yes", "--key", filepath.Join(s.dir, key+".key"), "--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry"}, more...)
	run(t, s.env, s.cosign, append(args, s.u.addr+"/"+repo+"@"+string(img.top().digest))...)
}

const oldFormat = "--new-bundle-format=false"

// What a project demands of signatures holds for the very first pull, by whatever client: signed images
// come through in both of cosign's formats, and nothing else does.
func TestSignaturesOnTheFirstPull(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	s := newSigning(t, u)
	public := s.key(t, "ours")
	s.key(t, "theirs")
	make := func(seed uint64, repo string) *image {
		img := recipe{seed: seed, platforms: []string{"amd64", "arm64"}}.make(t, "1")
		u.push(t, repo, img)
		return img
	}
	tagged, bundled := make(9100, "team/tagged"), make(9110, "team/bundled")
	foreign, bare := make(9120, "team/foreign"), make(9130, "team/bare")
	s.sign(t, "ours", "team/tagged", tagged, oldFormat)
	s.sign(t, "ours", "team/bundled", bundled)
	s.sign(t, "theirs", "team/foreign", foreign)
	s.sign(t, "theirs", "team/foreign", foreign, oldFormat)
	n := startNode(t, nodeConfig{projects: map[string]any{
		"signed.io": u.project(map[string]any{"verify": map[string]any{"mode": "enforce", "keys": []string{public}}}),
		"cooled.io": u.project(map[string]any{"cooldown": "72h"}),
		"warned.io": u.project(map[string]any{"verify": map[string]any{"mode": "warn", "keys": []string{public}}}),
	}})
	at := func(repo string) reference { return reference{project: "signed.io", repo: "team/" + repo, tag: "1"} }

	// containerd is the very first to ask for either.
	c := startContainerd(t)
	c.hosts(t, "_default", n.url)
	c.pull(t, at("tagged"), tagged)
	c.pull(t, at("bundled"), bundled)
	pullCrane(t, n, at("bundled"), bundled)

	crane, env := need(t, "crane"), environment(shortDir(t))
	for repo, want := range map[string]struct {
		img  *image
		text string
	}{
		"foreign": {foreign, "2 × a signature, but it was made with another key"},
		"bare":    {bare, "no signature was found"},
	} {
		for _, ref := range []string{":1", "@" + string(want.img.top().digest), "@" + string(want.img.manifests[0].digest)} {
			_, err := try(env, crane, "pull", n.addr+"/signed.io/team/"+repo+ref, filepath.Join(t.TempDir(), "x.tar"))
			if err == nil || !strings.Contains(err.Error(), "DENIED") || !strings.Contains(err.Error(), "is not signed with a key") {
				t.Errorf("%s%s: %v", repo, ref, err)
			}
		}
		if a := n.ask(http.MethodGet, manifestPath("signed.io/team/"+repo, "1")); a.status != http.StatusForbidden || !strings.Contains(string(a.body), want.text) {
			t.Errorf("%s: %v %s, want it to say %q", repo, a, a.body, want.text)
		}
		if a := n.ask(http.MethodGet, blobPath("signed.io/team/"+repo, want.img.blobOrder[0])); a.status != http.StatusForbidden {
			t.Errorf("a blob of %s: %v", repo, a)
		}
	}
	if got := n.metric("roadstead_cache_unverified_total", `project="signed.io"`); got < 8 {
		t.Errorf("%v are counted as unverified", got)
	}

	// What cosign attaches is read, also of an image that is not signed.
	note := filepath.Join(s.dir, "sbom.json")
	if err := os.WriteFile(note, []byte(`{"spdxVersion":"SPDX-2.3"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	of := u.addr + "/team/bare@" + string(bare.top().digest)
	run(t, s.env, s.cosign, "attest", "--yes", "--key", filepath.Join(s.dir, "ours.key"), "--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry", oldFormat, "--type", "custom", "--predicate", note, of)
	run(t, s.env, s.cosign, "attach", "sbom", "--sbom", note, "--type", "spdx", "--input-format", "json", "--allow-http-registry", of)
	tag := strings.Replace(string(bare.top().digest), ":", "-", 1)
	for _, suffix := range []string{".att", ".sbom"} {
		run(t, env, crane, "pull", n.addr+"/signed.io/team/bare:"+tag+suffix, filepath.Join(t.TempDir(), "x.tar"))
	}

	// Clients verify as they would upstream.
	for _, more := range [][]string{nil, {oldFormat}} {
		repo := "bundled"
		if more != nil {
			repo = "tagged"
		}
		args := append([]string{"verify", "--key", public, "--insecure-ignore-tlog", "--allow-http-registry"}, more...)
		run(t, s.env, s.cosign, append(args, n.addr+"/signed.io/team/"+repo+":1")...)
	}

	// A tag that moves to what is not signed stays where it was, until that is signed.
	cooled := reference{project: "cooled.io", repo: "team/bundled", tag: "1"}
	pullCrane(t, n, cooled, bundled)
	next := recipe{seed: 9140, platforms: []string{"amd64", "arm64"}}.make(t, "1")
	u.push(t, "team/bundled", next)
	pullCrane(t, n, at("bundled"), bundled)
	a := n.ask(http.MethodHead, manifestPath("signed.io/team/bundled", "1"))
	if held := a.header.Get("Roadstead-Held"); !strings.Contains(held, string(next.top().digest)) || !strings.Contains(held, "no signature was found") {
		t.Errorf("the answer for a tag that is held says %q", held)
	}
	s.sign(t, "ours", "team/bundled", next)

	// With a cooldown it stays until it is released, by a command beside the server.
	pullCrane(t, n, cooled, bundled)
	if got := n.metric("roadstead_cache_tags_held", `project="cooled.io"`); got != 1 {
		t.Errorf("%v tags are held", got)
	}
	run(t, environment(n.home), roadsteadCommand(t), "policy", "release", "--config", n.config, cooled.String())
	pullCrane(t, n, cooled, next)
	pullCrane(t, n, at("bundled"), next)

	// Where it is only warned of, it is served and said.
	pullCrane(t, n, reference{project: "warned.io", repo: "team/bare", tag: "1"}, bare)
	eventually(t, 10*time.Second, "a line in the log", func() bool {
		log, err := os.ReadFile(n.log)
		return err == nil && strings.Contains(string(log), fmt.Sprintf("repo=warned.io/team/bare digest=%s", bare.top().digest)) && strings.Contains(string(log), "mode=warn")
	})

	// What was verified is served without upstream, after a restart, and what was not is unavailable.
	n.stop(t)
	u.stop(t)
	n.start()
	pullCrane(t, n, at("bundled"), next)
	if a := n.ask(http.MethodGet, manifestPath("signed.io/team/bare", string(bare.top().digest))); a.status != http.StatusServiceUnavailable {
		t.Errorf("not verified yet, without upstream: %v %s", a, a.body)
	}
}
