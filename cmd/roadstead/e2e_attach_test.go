package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// orasAttaches attaches two files to an image, finds and pulls them, and copies all of it to
// another project.
func orasAttaches(t *testing.T, n *node, seed uint64, project, other string) {
	h := newHand(t, n)
	n.keep(t, h.home)
	img := recipe{seed: seed}.make(t, "1")
	ref := reference{project: project, repo: fmt.Sprintf("team/attached-%d", seed), tag: "1"}
	if err := n.push(project+"/"+ref.repo, img); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"sbom", "provenance"} {
		file := filepath.Join(h.home, kind+".json")
		if err := os.WriteFile(file, []byte(`{"kind":"`+kind+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"attach", "--disable-path-validation", "--artifact-type", "application/vnd.example." + kind}, h.choose("--plain-http", "--ca-file=%s")...)
		h.run(t, "oras", append(args, ref.at(n), file+":application/json")...)
	}
	to := reference{project: other, repo: ref.repo, tag: "1"}
	h.run(t, "oras", append(h.choose("copy --recursive --from-plain-http --to-plain-http", "copy --recursive --from-ca-file=%s --to-ca-file=%s"), ref.at(n), to.at(n))...)
	for _, ref := range []reference{ref, to} {
		var index v1.Index
		a := n.ask(http.MethodGet, "/v2/"+ref.project+"/"+ref.repo+"/referrers/"+string(img.top().digest)+"?artifactType=application/vnd.example.sbom")
		if err := json.Unmarshal(a.body, &index); err != nil || len(index.Manifests) != 1 || a.header.Get("OCI-Filters-Applied") != "artifactType" {
			t.Fatalf("referrers of %s: %v, %v", ref, a, a.header)
		}
		tree := h.run(t, "oras", append(h.choose("discover --plain-http --format=json", "discover --ca-file=%s --format=json"), ref.at(n))...)
		if got := bytes.Count(tree, []byte("application/vnd.example.")); got != 2 {
			t.Errorf("oras discovers %d of two files at %s:\n%s", got, ref, tree)
		}
		into := filepath.Join(shortDir(t), "out")
		sbom := reference{project: ref.project, repo: ref.repo, digest: index.Manifests[0].Digest}
		h.run(t, "oras", append(h.choose("pull --plain-http --allow-path-traversal", "pull --ca-file=%s --allow-path-traversal"), "--output", into, sbom.at(n))...)
	}
}
