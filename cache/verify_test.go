package cache

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/signature"
	"roadstead/storage/catalog"
)

// signer signs as cosign does.
type signer struct {
	private *ecdsa.PrivateKey
	keys    signature.Keys
}

func newSigner(t testing.TB) signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := signature.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return signer{private, keys}
}

func (s signer) sign(t testing.TB, message []byte) string {
	t.Helper()
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, s.private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

// attach puts a blob and a manifest of it into an origin, as signatures are.
func (o *origin) attach(t testing.TB, repo, tag, kind string, content []byte, layer, doc map[string]any) registry.Manifest {
	t.Helper()
	config := []byte("{}")
	l := map[string]any{"mediaType": kind, "digest": digest.FromBytes(content), "size": len(content)}
	for key, value := range layer {
		l[key] = value
	}
	all := map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest,
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.FromBytes(config), "size": len(config)},
		"layers": []any{l},
	}
	for key, value := range doc {
		all[key] = value
	}
	o.set(func() {
		o.blobs[repo+"@"+string(digest.FromBytes(config))] = config
		o.blobs[repo+"@"+string(digest.FromBytes(content))] = content
	})
	return o.putManifest(t, repo, tag, all)
}

// tagSignature signs a manifest in cosign's old format.
func (s signer) tagSignature(t testing.TB, o *origin, repo string, d registry.Digest) registry.Manifest {
	t.Helper()
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, d)
	return o.attach(t, repo, signature.Tag(d), signature.MediaTypePayload, payload,
		map[string]any{"annotations": map[string]string{signature.Annotation: s.sign(t, payload)}}, nil)
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// bundle signs a manifest in cosign's new format.
func (s signer) bundle(t testing.TB, o *origin, repo string, m registry.Manifest) {
	t.Helper()
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`, m.Digest.Encoded())
	const kind = "application/vnd.in-toto+json"
	signed := append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(kind), kind, len(statement)), statement...)
	content, err := json.Marshal(map[string]any{
		"mediaType": bundleType, "verificationMaterial": map[string]any{"publicKey": map[string]any{}},
		"dsseEnvelope": map[string]any{"payload": statement, "payloadType": kind, "signatures": []any{map[string]any{"sig": s.sign(t, signed)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	referrer := o.attach(t, repo, "", bundleType, content, nil, map[string]any{
		"artifactType": bundleType,
		"subject":      map[string]any{"mediaType": m.MediaType, "digest": m.Digest, "size": m.Size},
	})
	referrer.ArtifactType = bundleType
	o.set(func() {
		o.listed[repo+"@"+string(m.Digest)] = append(o.listed[repo+"@"+string(m.Digest)], referrer.Descriptor)
	})
}

func enforcing(s signer) func(*Project) {
	return func(p *Project) { p.Verify, p.Negative = Verify{Mode: Enforce, Keys: s.keys}, -1 }
}

func wantDenied(t testing.TB, what string, err error, text string) {
	t.Helper()
	if !errors.Is(err, registry.Denied) || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("%s: %v, want it denied with %q", what, err, text)
	}
}

func TestNothingUnsignedIsServed(t *testing.T) {
	const repo = "team/app"
	ours, theirs := newSigner(t), newSigner(t)
	o := newOrigin()
	old := o.putImage(t, repo, "old", []byte("signed by tag"))
	ours.tagSignature(t, o, repo, old.manifest.Digest)
	fresh := o.putImage(t, repo, "new", []byte("signed by bundle"))
	ours.bundle(t, o, repo, fresh.manifest)
	foreign := o.putImage(t, repo, "foreign", []byte("signed by somebody else"))
	theirs.tagSignature(t, o, repo, foreign.manifest.Digest)
	theirs.bundle(t, o, repo, foreign.manifest)
	bare := o.putImage(t, repo, "bare", []byte("not signed"))
	h := proxy(t, o, enforcing(ours))

	for _, tag := range []string{"old", "new"} {
		if err := h.pull(t, hub(repo), tag); err != nil {
			t.Errorf("a signed image, %s: %v", tag, err)
		}
	}
	wantDenied(t, "another's signature", h.pull(t, hub(repo), "foreign"), "made with another key")
	wantDenied(t, "no signature", h.pull(t, hub(repo), "bare"), "no signature was found")
	for _, img := range []image{foreign, bare} {
		_, err := h.Manifest(t.Context(), hub(repo), img.manifest.Digest)
		wantDenied(t, "by digest", err, "is not signed with a key")
		_, err = h.read(t, hub(repo), img.layer)
		wantDenied(t, "a layer", err, "belongs to no image")
		_, err = h.StatBlob(t.Context(), hub(repo), img.config)
		wantDenied(t, "a configuration", err, "belongs to no image")
		if url := h.Locate(t.Context(), hub(repo), img.layer, 0, time.Minute); url != "" {
			t.Errorf("a layer is at %s", url)
		}
	}
	// The signatures themselves are had.
	if err := h.pull(t, hub(repo), signature.Tag(foreign.manifest.Digest)); err != nil {
		t.Errorf("a signature: %v", err)
	}
	if list, err := h.Referrers(t.Context(), hub(repo), fresh.manifest.Digest, ""); err != nil || len(list) != 1 {
		t.Errorf("referrers: %v, %v", list, err)
	} else if m, err := h.Manifest(t.Context(), hub(repo), list[0].Digest); err != nil {
		t.Errorf("a referrer: %v", err)
	} else if _, refs, _ := registry.ParseManifest(m.MediaType, m.Digest, m.Bytes); refs.Layers != nil {
		if _, err := h.read(t, hub(repo), refs.Layers[0].Digest); err != nil {
			t.Errorf("a bundle: %v", err)
		}
	}
	h.settle(t)
	h.stop()

	// What was verified stays so, whatever is away.
	o.asked()
	o.set(func() { o.fail = down })
	again := newHouse(t, h.dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o, Verify: Verify{Mode: Enforce, Keys: ours.keys}}}})
	if b, err := again.read(t, hub(repo), old.layer); err != nil || string(b) != "signed by tag" {
		t.Errorf("a layer after a restart: %q, %v", b, err)
	}
	if err := again.pull(t, hub(repo), "new"); err != nil {
		t.Errorf("after a restart, without upstream: %v", err)
	}
	if err := again.pull(t, hub(repo), "bare"); !errors.Is(err, registry.Unavailable) {
		t.Errorf("not verified, without upstream: %v, want unavailable", err)
	}
	// Other keys trust nothing of that.
	if err := again.SetProjects([]Project{{Name: "docker.io", Upstream: o, Verify: Verify{Mode: Enforce, Keys: theirs.keys}}}); err != nil {
		t.Fatal(err)
	}
	o.set(func() { o.fail = nil })
	wantDenied(t, "with other keys", again.pull(t, hub(repo), "old"), "made with another key")
	_, err := again.read(t, hub(repo), old.layer)
	wantDenied(t, "a layer with other keys", err, "belongs to no image")
	if err := again.pull(t, hub(repo), "foreign"); err != nil {
		t.Errorf("what the other keys have signed: %v", err)
	}
}

func TestASignedIndexCoversWhatItNames(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	one, two := o.putImage(t, repo, "", []byte("one")), o.putImage(t, repo, "", []byte("two"))
	index := o.putManifest(t, repo, "1", map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex,
		"manifests": []any{
			map[string]any{"mediaType": one.manifest.MediaType, "digest": one.manifest.Digest, "size": one.manifest.Size, "platform": map[string]any{"os": "linux", "architecture": "amd64"}},
			map[string]any{"mediaType": two.manifest.MediaType, "digest": two.manifest.Digest, "size": two.manifest.Size, "platform": map[string]any{"os": "linux", "architecture": "arm64"}},
		},
	})
	h := proxy(t, o, enforcing(s))
	if _, err := h.Manifest(t.Context(), hub(repo), one.manifest.Digest); !errors.Is(err, registry.Denied) {
		t.Errorf("before the index is signed: %v", err)
	}
	s.bundle(t, o, repo, index)
	if _, err := h.Resolve(t.Context(), hub(repo), "1"); err != nil {
		t.Fatal(err)
	}
	for _, img := range []image{one, two} {
		if _, err := h.Manifest(t.Context(), hub(repo), img.manifest.Digest); err != nil {
			t.Errorf("what a signed index names: %v", err)
		}
		if _, err := h.read(t, hub(repo), img.layer); err != nil {
			t.Errorf("a layer of that: %v", err)
		}
	}
	stray := o.putImage(t, repo, "stray", []byte("stray"))
	_, err := h.Manifest(t.Context(), hub(repo), stray.manifest.Digest)
	wantDenied(t, "what it does not name", err, "no signature was found")
}

// Whoever makes an accessory names what he likes, and it is served unsigned. A manifest that it names as a
// layer is none the better for it.
func TestAnAccessoryVouchesForNoManifest(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	bad := o.putImage(t, repo, "bad", []byte("not signed"))
	h := proxy(t, o, enforcing(s))
	o.attach(t, repo, signature.Tag(bad.manifest.Digest), "application/vnd.in-toto+json", bad.manifest.Bytes, nil, nil)
	if err := h.pull(t, hub(repo), signature.Tag(bad.manifest.Digest)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"in memory", "in the catalog"} {
		wantDenied(t, at, h.pull(t, hub(repo), "bad"), "no signature was found")
		_, err := h.Manifest(t.Context(), hub(repo), bad.manifest.Digest)
		wantDenied(t, "by digest, "+at, err, "no signature was found")
		h.Reconsider(hub(repo))
	}
}

// What a layer is called says nothing to dockerd, which unpacks it.
func TestATagThatPeoplePullIsNoAccessory(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	bad := o.attach(t, repo, "latest", "application/vnd.in-toto+json", []byte("a layer after all"), nil, nil)
	o.putManifest(t, repo, "list", map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": []any{
		map[string]any{"mediaType": bad.MediaType, "digest": bad.Digest, "size": bad.Size, "artifactType": "a/b", "platform": map[string]any{"os": "linux", "architecture": "amd64"}},
	}})
	h := proxy(t, o, enforcing(s))
	wantDenied(t, "an accessory", h.pull(t, hub(repo), "latest"), "by digest only")
	wantDenied(t, "a list of them", h.pull(t, hub(repo), "list"), "by digest only")
	if _, err := h.Manifest(t.Context(), hub(repo), bad.Digest); err != nil {
		t.Errorf("by digest: %v", err)
	}
	err := h.catalog.Update(t.Context(), func(tx *catalog.Tx) error { return Override(tx, hub(repo), bad.Digest, "ada", "a list of parts") })
	if err != nil {
		t.Fatal(err)
	}
	h.Reconsider(hub(repo))
	if err := h.pull(t, hub(repo), "latest"); err != nil {
		t.Errorf("let through: %v", err)
	}

	good := o.putImage(t, repo, "moves", []byte("good"))
	s.tagSignature(t, o, repo, good.manifest.Digest)
	h.fetch(t, repo, "moves")
	o.attach(t, repo, "moves", "application/vnd.in-toto+json", []byte("another"), nil, nil)
	if err := h.SetProjects([]Project{{Name: "docker.io", Upstream: o, TTL: -1, Verify: Verify{Mode: Enforce, Keys: s.keys}}}); err != nil {
		t.Fatal(err)
	}
	if d, err := h.Resolve(t.Context(), hub(repo), "moves"); err != nil || d.Digest != good.manifest.Digest {
		t.Errorf("a tag that moves to one points to %s, %v, want where it was", d.Digest, err)
	}
}

// What was cached while nobody asked for signatures is looked at when somebody does.
func TestSignaturesAreAskedForLater(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	good, bad := o.putImage(t, repo, "good", []byte("good")), o.putImage(t, repo, "bad", []byte("bad"))
	s.tagSignature(t, o, repo, good.manifest.Digest)
	h := proxy(t, o)
	h.fetch(t, repo, "good")
	h.fetch(t, repo, "bad")
	if err := h.SetProjects([]Project{{Name: "docker.io", Upstream: o, Verify: Verify{Mode: Enforce, Keys: s.keys}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.read(t, hub(repo), good.layer); err != nil {
		t.Errorf("a layer of a signed image: %v", err)
	}
	_, err := h.read(t, hub(repo), bad.layer)
	wantDenied(t, "a layer of another", err, "belongs to no image")
	wantDenied(t, "another", h.pull(t, hub(repo), "bad"), "no signature was found")
}

func TestWarningServesAndTells(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	good := o.putImage(t, repo, "good", []byte("good"))
	o.putImage(t, repo, "bad", []byte("bad"))
	s.tagSignature(t, o, repo, good.manifest.Digest)
	h := proxy(t, o, func(p *Project) { p.Verify = Verify{Mode: Warn, Keys: s.keys} })
	for _, tag := range []string{"good", "bad", "bad"} {
		h.fetch(t, repo, tag)
	}
	if n := h.Stats().Projects["docker.io"].Unverified; n < 2 {
		t.Errorf("%d are counted without a signature, want those of two pulls", n)
	}
	for tag, want := range map[string]bool{"good": true, "bad": false} {
		if got, err := h.Explain(t.Context(), hub(repo), tag); err != nil || got.Verified != want || got.Why == "" && !want {
			t.Errorf("%s is explained as %+v, %v, want verified %v", tag, got, err, want)
		}
	}
}

func TestATagThatMovesToAnUnsignedImageStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const repo = "team/app"
		s, o := newSigner(t), newOrigin()
		good := o.putImage(t, repo, "latest", []byte("good"))
		s.tagSignature(t, o, repo, good.manifest.Digest)
		h := proxy(t, o, enforcing(s))
		h.fetch(t, repo, "latest")
		next := o.putImage(t, repo, "latest", []byte("next"))
		time.Sleep(2 * time.Minute)
		var trace registry.Trace
		if d, err := h.Resolve(registry.WithTrace(t.Context(), &trace), hub(repo), "latest"); err != nil || d.Digest != good.manifest.Digest {
			t.Errorf("it points to %s, %v, want the old one", d.Digest, err)
		}
		if trace.Outcome != registry.Held || !strings.Contains(trace.Held, "is not signed with a key") {
			t.Errorf("the outcome is %s, %q", trace.Outcome, trace.Held)
		}
		// The signature comes a little later than the image.
		s.tagSignature(t, o, repo, next.manifest.Digest)
		time.Sleep(2 * time.Minute)
		if d, err := h.Resolve(t.Context(), hub(repo), "latest"); err != nil || d.Digest != next.manifest.Digest {
			t.Errorf("once it is signed it points to %s, %v, want the new one", d.Digest, err)
		}
		o.set(func() { o.fail = nil })
		h.stop()
	})
}
