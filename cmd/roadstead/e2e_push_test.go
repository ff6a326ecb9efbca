package main_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
)

// clientOf is the client of the same name, which pulls what was pushed.
func clientOf(name string) client {
	for _, c := range clients {
		if c.name == name {
			return c
		}
	}
	panic("no client is called " + name)
}

// pusherWorks takes a program through all that it can do: log in, push, pull again, copy to
// another project without sending a blob twice, and delete. n is the node for somebody who may
// do all of that; wrong is the same with a wrong password.
func pusherWorks(t *testing.T, n, wrong *node, p pusher, seed uint64, project, other string) {
	if p.login != nil && !p.trusting {
		if err := p.login(t, newHand(t, wrong)); err == nil {
			t.Errorf("%s logs in with a wrong password", p.name)
		}
	}
	h := newHand(t, n)
	if p.login != nil {
		if err := p.login(t, h); err != nil {
			t.Fatal(err)
		}
	}
	repo := fmt.Sprintf("team/%s-%d", p.name, seed)
	r := recipe{seed: seed, layers: 3}
	if !p.recompresses {
		r.platforms = []string{"amd64", "arm64"}
	}
	img := r.make(t, "1.0")
	ref := reference{project: project, repo: repo, tag: "1.0"}
	p.push(t, h, ref, img)
	pushed := n.pushed(t, ref, img, p.recompresses)
	pull := clientOf(p.name).fresh(t, n)
	pull(t, ref, pushed)
	if p.copy != nil {
		to := reference{project: other, repo: repo, tag: "2.0"}
		p.copy(t, h, ref, to)
		copied := n.pushed(t, to, img, p.recompresses)
		if copied.top().digest != pushed.top().digest {
			t.Errorf("%s copied %s as %s", p.name, pushed.top().digest, copied.top().digest)
		}
		n.logs(t, p.name+" mounting each layer", len(pushed.here().layers), "method=POST", "repo="+to.project+"/"+to.repo+" ", "status=201")
	}
	if p.remove != nil {
		p.remove(t, h, ref)
		if a := n.ask(http.MethodGet, manifestPath(project+"/"+repo, ref.tag)); a.status != http.StatusNotFound {
			t.Errorf("%s has deleted %s, and it is %v", p.name, ref, a)
		}
	}
}

// pushed is what the node has for a tag now, if that is the image: byte for byte, or with layers
// that were compressed again.
func (n *node) pushed(t *testing.T, ref reference, img *image, recompressed bool) *image {
	t.Helper()
	repo := ref.project + "/" + ref.repo
	if !recompressed {
		img.tags[ref.tag] = img.top()
		if err := n.pull(repo, ref.tag, img); err != nil {
			t.Fatal(err)
		}
		return img
	}
	a := n.ask(http.MethodGet, manifestPath(repo, ref.tag))
	if !a.whole() {
		t.Fatalf("the manifest of %s: %v", ref, a)
	}
	got := newImage()
	m := manifest{digest: a.digest(), mediaType: a.header.Get("Content-Type"), bytes: a.body}
	got.manifests = append(got.manifests, m)
	got.tags[ref.tag] = m
	for _, d := range namedBlobs(t, a.body) {
		a := n.ask(http.MethodGet, blobPath(repo, d))
		if !a.whole() || a.digest() != d {
			t.Fatalf("blob %s of %s: %v", d, ref, a)
		}
		got.addBlob(d, content{bytes: a.body, size: int64(len(a.body))})
	}
	if have, want := got.here().config, img.here().config; have != want {
		t.Errorf("%s has the configuration %s, want %s", ref, have, want)
	}
	return got
}

// namedBlobs are the blobs that an image manifest names: the configuration first.
func namedBlobs(t *testing.T, manifest []byte) (all []digest.Digest) {
	t.Helper()
	var body struct {
		Config struct{ Digest digest.Digest }
		Layers []struct{ Digest digest.Digest }
	}
	decode(t, manifest, &body)
	all = append(all, body.Config.Digest)
	for _, layer := range body.Layers {
		all = append(all, layer.Digest)
	}
	return all
}

// Every client pushes, pulls, copies and deletes, as a user and as a robot, with TLS and without.
func TestClientsPush(t *testing.T) {
	e2e(t)
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "tls"}[secure]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWharf(t, nodeConfig{plain: true, tls: secure}, "maintainer")
			who := []account{w.members["maintainer"], w.robot}
			for i, p := range pushers {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					for j, a := range who {
						// A name of each program's own: failures are counted by name.
						wrong := w.as(account{"nobody-" + p.name, "not-" + a.secret})
						pusherWorks(t, w.as(a), wrong, p, uint64(200000+1000*i+100*j), "production", "other")
					}
				})
			}
			artifacts := func(name string, works func(t *testing.T, n, wrong *node, seed uint64)) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					for i, a := range who {
						works(t, w.as(a), w.as(account{"nobody-" + name, "not-" + a.secret}), uint64(300000+1000*i))
					}
				})
			}
			artifacts("helm", func(t *testing.T, n, wrong *node, seed uint64) { helmWorks(t, n, wrong, seed, "production") })
			artifacts("cosign", func(t *testing.T, n, _ *node, seed uint64) { cosignWorks(t, n, seed+100, "production") })
			artifacts("oras attach", func(t *testing.T, n, _ *node, seed uint64) { orasAttaches(t, n, seed+200, "production", "other") })
		})
	}
}
