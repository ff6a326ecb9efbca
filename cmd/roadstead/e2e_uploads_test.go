package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// randomBytes are n bytes of noise, and their digest.
func randomBytes(t testing.TB, seed uint64, n int) ([]byte, digest.Digest) {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(noise(seed), b); err != nil {
		t.Fatal(err)
	}
	return b, digest.FromBytes(b)
}

// append appends one chunk to an upload, whose place it returns: a Location may change with every
// answer.
func (n *node) append(at string, from int, chunk []byte) (next string, a answer, err error) {
	a, err = n.send(http.MethodPatch, at, "application/octet-stream", bytes.NewReader(chunk), int64(len(chunk)),
		fmt.Sprintf("Content-Range: %d-%d", from, from+len(chunk)-1))
	if err != nil || a.status != http.StatusAccepted {
		return at, a, err
	}
	next, err = a.location()
	return next, a, err
}

// An upload goes on where it was after a restart, a kind one and an unkind one, and is nobody's
// but his who began it (FAULTS B11, P1, P3).
func TestUploadsGoOnAfterARestart(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{}, "developer")
	n, other := w.as(w.robot), w.as(w.members["developer"])
	const repo = "production/team/web"
	for _, end := range []string{"SIGTERM", "kill -9"} {
		t.Run(end, func(t *testing.T) {
			// What a crash finds is on the disk from the first MiB on.
			b, d := randomBytes(t, uint64(400000+len(end)), 4<<20)
			const half, most = 2 << 20, 3 << 20
			at, err := n.startUpload(repo)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(at, "?") {
				t.Errorf("the Location has a query: %s", at)
			}
			at, a, err := n.append(at, 0, b[:half])
			if err := expect(http.StatusAccepted, a, err, "PATCH", at); err != nil {
				t.Fatal(err)
			}
			if end == "SIGTERM" {
				w.terminate(10 * time.Second)
			} else {
				w.kill()
			}
			w.start()
			a = n.ask(http.MethodGet, at)
			if a.status != http.StatusNoContent || a.header.Get("Range") != fmt.Sprint("0-", half-1) {
				t.Fatalf("the upload after a restart: %v, %v; want 204 and Range 0-%d", a, a.header, half-1)
			}
			for who, n := range map[string]*node{"somebody else who may push": other, "nobody": w.node} {
				if a := n.ask(http.MethodGet, at); a.status != http.StatusNotFound && a.status != http.StatusUnauthorized {
					t.Errorf("the upload as %s: %v", who, a)
				}
			}
			if a := n.ask(http.MethodGet, strings.Replace(at, "production/", "other/", 1)); a.status != http.StatusNotFound {
				t.Errorf("the upload in another project: %v, want 404", a)
			}
			if _, a, err := n.append(at, 50_000, b[50_000:60_000]); err != nil || a.status != http.StatusRequestedRangeNotSatisfiable {
				t.Errorf("a chunk for somewhere else: %v, %v; want 416", a, err)
			}
			at, a, err = n.append(at, half, b[half:most])
			if err := expect(http.StatusAccepted, a, err, "PATCH", at); err != nil {
				t.Fatal(err)
			}
			a, err = n.send(http.MethodPut, withDigest(at, d), "application/octet-stream", bytes.NewReader(b[most:]), int64(len(b)-most))
			if err := expect(http.StatusCreated, a, err, "PUT", at); err != nil {
				t.Fatal(err)
			}
			if err := n.pullBlob(repo, d, int64(len(b))); err != nil {
				t.Error(err)
			}
			if a := n.ask(http.MethodGet, at); a.status != http.StatusNotFound {
				t.Errorf("the upload after its end: %v, want 404", a)
			}
		})
	}
}

// What is too large, or too much, is refused with an error that says so to whoever pushes, and
// takes nothing from anybody else (FAULTS B16).
func TestLimits(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{
		projects: map[string]any{"small": map[string]any{"hosted": true, "quota": "300KiB", "immutable": []string{"**:v*"}}},
		more:     map[string]any{"uploads": map[string]any{"max": "200KiB", "idle": "2s"}},
	})
	n := w.as(w.robot)
	at, err := n.startUpload("production/idle")
	if err != nil {
		t.Fatal(err)
	}
	_, a, err := n.append(at, 0, []byte("never to go on"))
	if err := expect(http.StatusAccepted, a, err, "PATCH", at); err != nil {
		t.Fatal(err)
	}

	b, d := randomBytes(t, 410000, 300<<10)
	big, err := n.startUpload("production/big")
	if err != nil {
		t.Fatal(err)
	}
	a, err = n.send(http.MethodPut, withDigest(big, d), "application/octet-stream", bytes.NewReader(b), int64(len(b)))
	if err := expect(http.StatusRequestEntityTooLarge, a, err, "PUT", big); err != nil {
		t.Error(err)
	}
	if a := n.ask(http.MethodHead, blobPath("production/big", d)); a.status != http.StatusNotFound {
		t.Errorf("a blob that was too large: %v", a)
	}

	first := recipe{seed: 411000, layers: 2, layerSize: 60 << 10}.make(t, "v1")
	if err := n.push("small/web", first); err != nil {
		t.Fatal(err)
	}
	second := recipe{seed: 412000, layers: 3, layerSize: 60 << 10}.make(t, "v2")
	if err := n.push("small/web", second); err == nil || !strings.Contains(err.Error(), "quota") {
		t.Errorf("an image beyond the quota: %v", err)
	} else {
		t.Log(err)
	}
	if err := n.pull("small/web", "v1", first); err != nil {
		t.Error(err)
	}
	// As people see it: each client's output says quota.
	for _, p := range pushers {
		if p.name == "docker" || p.name == "containerd" || p.name == "podman" {
			continue // they need a daemon or a store each, and show the same error
		}
		t.Run(p.name+" shows the quota", func(t *testing.T) {
			h := newHand(t, n)
			if err := p.login(t, h); err != nil {
				t.Fatal(err)
			}
			err := pushError(t, p.name, h, second, reference{project: "small", repo: "web", tag: "v2"})
			if err == nil || !strings.Contains(err.Error(), "quota") {
				t.Errorf("%s says %v, want a word of the quota", p.name, err)
			}
		})
	}
	// What is immutable neither moves nor goes (FAULTS B6, B7), and a push of the same is none.
	if err := n.pushManifest("small/web", "v1", first.top()); err != nil {
		t.Errorf("an immutable tag that is pushed again as it is: %v", err)
	}
	other := first.addManifest(t, first.here().config, first.here().layers[:1])
	if err := n.pushManifest("small/web", string(other.digest), other); err != nil {
		t.Fatal(err)
	}
	first.manifests = first.manifests[:len(first.manifests)-1]
	for what, err := range map[string]error{
		"moved":             n.pushManifest("small/web", "v1", other),
		"deleted":           n.remove(manifestPath("small/web", "v1")),
		"deleted by digest": n.remove(manifestPath("small/web", string(first.top().digest))),
	} {
		if err == nil {
			t.Errorf("an immutable tag was %s", what)
		}
	}
	if err := n.pull("small/web", "v1", first); err != nil {
		t.Error(err)
	}

	// Nobody's question keeps it, and it is looked for once a minute.
	eventually(t, 100*time.Second, "an end to the upload that nobody goes on with", func() bool {
		time.Sleep(time.Second)
		return n.ask(http.MethodGet, at).status == http.StatusNotFound
	})
}

// pushError pushes an image by a program and returns what it says when it cannot.
func pushError(t *testing.T, name string, h *hand, img *image, ref reference) error {
	t.Helper()
	layout := writeLayout(t, img)
	switch name {
	case "skopeo":
		return h.try(t, "skopeo", append(append([]string{"--insecure-policy", "copy"}, h.choose("--dest-tls-verify=false", "--dest-cert-dir=%d")...), "oci:"+layout, "docker://"+ref.at(h.node))...)
	case "crane":
		return h.try(t, "crane", "push", layout, ref.at(h.node))
	case "regctl":
		return h.try(t, "regctl", "image", "copy", "ocidir://"+layout+":1", ref.at(h.node))
	default:
		return h.try(t, "oras", append(h.choose("copy --from-oci-layout --to-plain-http", "copy --from-oci-layout --to-ca-file=%s"), layout+":1", ref.at(h.node))...)
	}
}
