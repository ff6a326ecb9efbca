package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// cosignWorks signs an image with a key of its own, which needs no service on the internet, and
// verifies it, with signatures as referrers and as tags. An image that nobody has signed does not
// verify.
func cosignWorks(t *testing.T, n *node, seed uint64, project string) {
	h := newHand(t, n)
	h.env = append(h.env, "COSIGN_PASSWORD=")
	h.run(t, "cosign", "login", n.addr, "-u", n.who.name, "-p", n.who.secret)
	h.run(t, "cosign", "generate-key-pair", "--output-key-prefix", filepath.Join(h.home, "cosign"))
	private, public := filepath.Join(h.home, "cosign.key"), filepath.Join(h.home, "cosign.pub")
	insecure := h.choose("--allow-http-registry", "--registry-cacert=%s")
	verify := func(ref reference, more ...string) error {
		args := append([]string{"verify", "--key", public, "--insecure-ignore-tlog"}, insecure...)
		return h.try(t, "cosign", append(append(args, more...), ref.at(n))...)
	}
	for i, mode := range []struct {
		name      string
		sign      []string
		verify    []string
		referrers int
	}{
		{"referrers", nil, nil, 1},
		{"tags", []string{"--new-bundle-format=false"}, []string{"--new-bundle-format=false"}, 0},
	} {
		img := recipe{seed: seed + uint64(10*i)}.make(t, "1")
		repo := fmt.Sprintf("%s/team/signed-%s-%d", project, mode.name, seed)
		if err := n.push(repo, img); err != nil {
			t.Fatal(err)
		}
		ref := reference{project: project, repo: repo[len(project)+1:], digest: img.top().digest}
		if err := verify(ref, mode.verify...); err == nil {
			t.Errorf("by %s: an image without a signature verifies", mode.name)
		}
		args := append([]string{"sign", "--yes", "--key", private, "--use-signing-config=false", "--tlog-upload=false"}, insecure...)
		h.run(t, "cosign", append(append(args, mode.sign...), ref.at(n))...)
		if err := verify(ref, mode.verify...); err != nil {
			t.Errorf("by %s: %v", mode.name, err)
		}
		var index v1.Index
		a := n.ask(http.MethodGet, "/v2/"+repo+"/referrers/"+string(ref.digest))
		if err := json.Unmarshal(a.body, &index); err != nil || len(index.Manifests) != mode.referrers {
			t.Errorf("by %s: the referrers of a signed image are %v, want %d", mode.name, a, mode.referrers)
		}
	}
}
