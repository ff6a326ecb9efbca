package peer

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

const owner = "robot$ci; & co"

var pushed = registry.Repo{Project: "production", Name: "team/web"}

func begin(t *testing.T, n *node) (name string) {
	t.Helper()
	u, err := n.uploads.StartUpload(t.Context(), pushed, owner, digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return u.ID()
}

func find(t *testing.T, n *node, name string) registry.Upload {
	t.Helper()
	u, err := n.uploads.Upload(t.Context(), pushed, owner, name)
	if err != nil {
		t.Fatal(err)
	}
	if u.ID() != name {
		t.Errorf("the upload is called %s now, and was %s", u.ID(), name)
	}
	return u
}

func randomBytes(n int) ([]byte, registry.Digest) {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b, digest.FromBytes(b)
}

func wantCode(t *testing.T, err error, code registry.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("%v, want %s", err, code)
	}
}

func TestAnUploadGoesOnAtAnyNode(t *testing.T) {
	t.Parallel()
	_, _, a, b := pair(t)
	content, d := randomBytes(3 << 20)
	name := begin(t, a)
	// The server lets letters, digits and dashes in a path, at most 128 of them.
	if !regexp.MustCompile(`^[A-Z0-9]+-[A-Z0-9]+-[A-Z0-9]+$`).MatchString(name) || len(name) > 64 {
		t.Errorf("the name of the upload is %q", name)
	}
	const piece = 1 << 20
	for i, n := range []*node{b, a, b} {
		u := find(t, n, name)
		at := int64(i * piece)
		if u.Size() != at {
			t.Errorf("it is at %d, want %d", u.Size(), at)
		}
		if err := u.Append(t.Context(), at, bytes.NewReader(content[at:at+piece])); err != nil {
			t.Fatal(err)
		}
		if u.Size() != at+piece {
			t.Errorf("it is at %d after that, want %d", u.Size(), at+piece)
		}
	}
	if err := find(t, b, name).Append(t.Context(), -1, http.NoBody); err != nil {
		t.Errorf("nothing, appended anywhere: %v", err)
	}
	wantCode(t, find(t, b, name).Commit(t.Context(), digest.FromString("something else")), registry.DigestInvalid)
	if err := find(t, b, name).Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	same(t, a.local.blobs[d], content)
	_, err := b.uploads.Upload(t.Context(), pushed, owner, name)
	wantCode(t, err, registry.BlobUploadUnknown)

	name = begin(t, a)
	if err := find(t, b, name).Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = a.uploads.Upload(t.Context(), pushed, owner, name)
	wantCode(t, err, registry.BlobUploadUnknown)
	if s := b.Stats(); s.Forwarded == 0 || s.Unreachable != 0 || len(b.local.all) != 0 {
		t.Errorf("stats %+v, and %d uploads of its own", s, len(b.local.all))
	}
}

// Who may not go on with an upload at its node may not do it by way of another (FAULTS B11); and what
// a client makes up is asked of no node.
func TestAnUploadIsItsOwners(t *testing.T) {
	t.Parallel()
	_, _, a, b := pair(t)
	name := begin(t, a)
	for _, row := range []struct {
		name  string
		repo  registry.Repo
		owner string
	}{
		{"another owner", pushed, "somebody"},
		{"nobody", pushed, ""},
		{"another repository", registry.Repo{Project: "production", Name: "team/other"}, owner},
		{"another project", registry.Repo{Project: "other", Name: "team/web"}, owner},
		{"parameters within a name", registry.Repo{Project: "production", Name: "team/web&owner=" + owner}, "somebody"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := b.uploads.Upload(t.Context(), row.repo, row.owner, name)
			wantCode(t, err, registry.BlobUploadUnknown)
		})
	}
	b.local.number = 7 // that of a project which has come after the one that the upload is of
	_, err := b.uploads.Upload(t.Context(), pushed, owner, name)
	wantCode(t, err, registry.BlobUploadUnknown)
	b.local.number = 0

	asked := b.Stats().Forwarded
	label, rest, _ := strings.Cut(name, "-")
	id, seal, _ := strings.Cut(rest, "-")
	for _, made := range []string{
		id, label + "-" + id, "a-" + rest, b.uploads.label + "-" + rest, label + "-A" + id + "-" + seal, name + "A", strings.ToLower(name), "--",
		Secret("another secret of some length").name(label, id),
	} {
		_, err := b.uploads.Upload(t.Context(), pushed, owner, made)
		wantCode(t, err, registry.BlobUploadUnknown)
	}
	if got := b.Stats().Forwarded - asked; got != 0 {
		t.Errorf("another node was asked %d times for what no node has named", got)
	}
	if u := find(t, b, name); u.Size() != 0 {
		t.Errorf("the upload is at %d", u.Size())
	}
}

// unread fails the test when it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// What is refused at the node of an upload is refused with the same words at every other.
func TestAnUploadIsRefusedAlike(t *testing.T) {
	t.Parallel()
	_, _, a, b := pair(t)
	name := begin(t, a)
	if err := find(t, b, name).Append(t.Context(), 0, strings.NewReader("12345")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{a, b} {
		u := find(t, n, name)
		err := u.Append(t.Context(), 3, unread{t})
		wantCode(t, err, registry.RangeInvalid)
		if !strings.Contains(err.Error(), "the upload is at 5 and not at 3") || u.Size() != 5 {
			t.Errorf("%v, at %d", err, u.Size())
		}
	}
	release, err := a.local.all[strings.Split(name, "-")[1]].seize()
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, find(t, b, name).Append(t.Context(), 5, unread{t}), registry.Conflict)
	wantCode(t, find(t, b, name).Commit(t.Context(), digest.FromString("12345")), registry.Conflict)
	release()

	a.local.most = 1 << 20
	u := find(t, b, name)
	body := &counted{Reader: bytes.NewReader(make([]byte, 64<<20))}
	err = u.Append(t.Context(), 5, body)
	wantCode(t, err, registry.TooLarge)
	if f, ok := errors.AsType[*registry.Fault](err); !ok || f.Message != "one upload may be smaller" {
		t.Errorf("%v has lost its words", err)
	}
	if u.Size() <= 1<<20 || u.Size() != find(t, a, name).Size() || body.n.Load() > 8<<20 {
		t.Errorf("it is at %d, and %d bytes of the body were read", u.Size(), body.n.Load())
	}
}

type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// A body comes no faster than the node of the upload takes it, and what has come of one that breaks
// off stays, as on one node.
func TestABodyOnItsWay(t *testing.T) {
	t.Parallel()
	_, _, a, b := pair(t)
	name := begin(t, a)
	a.local.hold = make(chan struct{})
	content, d := randomBytes(8 << 20)
	body := &counted{Reader: bytes.NewReader(content)}
	done := make(chan error, 1)
	go func() { done <- find(t, b, name).Append(t.Context(), 0, body) }()
	a.local.hold <- struct{}{} // it wants the first piece
	var before int64 = -1
	for now := body.n.Load(); now != before; now = body.n.Load() {
		before = now
		time.Sleep(100 * time.Millisecond)
	}
	if before == 0 || before > 2<<20 {
		t.Errorf("%d bytes were read while the node takes none", before)
	}
	close(a.local.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("and "), failing{})
	err := find(t, b, name).Append(t.Context(), int64(len(content)), broken)
	wantCode(t, err, registry.BlobUploadInvalid)
	if !errors.Is(err, errBroken) {
		t.Errorf("%v does not say why", err)
	}
	u := find(t, b, name)
	if want := int64(len(content) + 4); u.Size() != want {
		t.Fatalf("it is at %d, want %d", u.Size(), want)
	}
	wantCode(t, u.Commit(t.Context(), d), registry.DigestInvalid)
	if err := u.Commit(t.Context(), digest.FromBytes(append(content, "and "...))); err != nil {
		t.Error(err)
	}
}

var errBroken = errors.New("the client is gone")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

// A node that starts again is waited for; for one that does not the wait is told once, and after it
// nobody waits.
func TestTheNodeOfAnUploadIsAway(t *testing.T) {
	t.Parallel()
	r, u, a, b := pair(t)
	name := begin(t, a)
	if err := find(t, b, name).Append(t.Context(), 0, strings.NewReader("12345")); err != nil {
		t.Fatal(err)
	}
	a.stop()
	meet(t, 1, b)
	type found struct {
		registry.Upload
		error
	}
	done := make(chan found, 1)
	go func() {
		u, err := b.uploads.Upload(t.Context(), pushed, owner, name)
		done <- found{u, err}
	}()
	time.Sleep(500 * time.Millisecond)
	again := startNode(t, Config{Self: a.self, Secret: secret, Roll: r}, u, a.local)
	if f := <-done; f.error != nil || f.Size() != 5 {
		t.Fatalf("the upload after a restart of its node: %v", f.error)
	}
	again.stop()
	b.uploads.absence = time.Second
	for i := range 2 {
		start := time.Now()
		_, err := b.uploads.Upload(t.Context(), pushed, owner, name)
		wantCode(t, err, registry.Unavailable)
		if took := time.Since(start); (i == 0) != (took > 900*time.Millisecond) {
			t.Errorf("question %d took %s", i, took)
		}
	}
	if s := b.Stats(); s.Unreachable != 2 {
		t.Errorf("stats %+v, want 2 unreachable", s)
	}
}

// What is under way at a node that ends is ended there.
func TestAnUploadEndsWithinTheDrain(t *testing.T) {
	t.Parallel()
	r, u, _, b := pair(t)
	c := startNode(t, Config{Self: Node{"c", "http://127.0.0.1:0"}, Secret: secret, Roll: r, Drain: time.Minute}, u, &drafts{})
	meet(t, 3, b, c)
	name := begin(t, c)
	to, from := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- find(t, b, name).Append(t.Context(), 0, to) }()
	from.Write([]byte("before "))
	stopped := make(chan struct{})
	go func() { c.stop(); close(stopped) }()
	meet(t, 2, b)
	time.Sleep(farewell + time.Second - 2*time.Second)
	select {
	case <-stopped:
		t.Fatal("the node has ended with an upload under way")
	case <-time.After(2 * time.Second):
	}
	from.Write([]byte("and after"))
	from.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-stopped
	for _, d := range c.local.all {
		if string(d.bytes) != "before and after" {
			t.Errorf("%q has come", d.bytes)
		}
	}
}

// With https nodes find each other by nothing but the secret, and nobody else gets to say a word.
func TestNodesEncrypt(t *testing.T) {
	t.Parallel()
	r, u := &roll{}, &upstream{blobs: map[registry.Digest][]byte{}}
	config := func(id string) Config {
		return Config{Self: Node{id, "https://127.0.0.1:0"}, Secret: secret, Roll: r}
	}
	a, b := startNode(t, config("a"), u, &drafts{}), startNode(t, config("b"), u, &drafts{})
	meet(t, 2, a, b)
	content, d := owned(t, a, 1<<20)
	u.blobs[d] = content
	same(t, read(t, b.source, d), content)
	if got := b.Stats(); got.Asked != 1 || got.Fallback != 0 {
		t.Errorf("stats %+v", got)
	}
	name := begin(t, a)
	if err := find(t, b, name).Append(t.Context(), 0, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := find(t, b, name).Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}

	other, err := Secret("another secret of some length").tls()
	if err != nil {
		t.Fatal(err)
	}
	strange := other.Clone()
	strange.VerifyConnection = nil // it takes whoever answers
	nobody := strange.Clone()
	nobody.Certificates = nil
	for who, client := range map[string]*http.Client{
		"another secret": NewClient(strange), "no key": NewClient(nobody), "plain HTTP": NewClient(nil),
	} {
		at := a.self.URL
		if who == "plain HTTP" {
			at = strings.Replace(at, "https", "http", 1)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/v2/docker.io/x/blobs/"+d.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		secret.sign(req, "b", time.Now()) // the secret alone does not help, without the key
		if res, err := client.Do(req); err == nil {
			t.Errorf("with %s: %s", who, res.Status)
		}
	}
	// And the other way about: a node tells nothing to somebody who only answers at its address.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{TLSConfig: strange, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a stranger was asked %s %s with %q", r.Method, r.URL, r.Header.Get(signature))
	})}
	go srv.ServeTLS(l, "", "")
	t.Cleanup(func() { srv.Close() })
	b.view.Store(&view{nodes: []Node{b.self, {"a", "https://" + l.Addr().String()}}})
	b.uploads.absence = 0
	_, err = b.uploads.Upload(t.Context(), pushed, owner, begin(t, a))
	wantCode(t, err, registry.Unavailable)
	if !errors.Is(err, errOtherKey) {
		t.Errorf("%v, want that it says %q", err, errOtherKey)
	}
}

// Sending a body on takes the same memory however large it is.
func TestForwardingTakesLittleMemory(t *testing.T) {
	_, _, a, b := pair(t)
	u := find(t, b, begin(t, a))
	a.local.discard = true
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const size = 128 << 20
	body := &counted{Reader: io.LimitReader(zeros{}, size)}
	if err := u.Append(t.Context(), 0, body); err != nil || body.n.Load() != size {
		t.Fatalf("%d bytes have come: %v", body.n.Load(), err)
	}
	runtime.ReadMemStats(&after)
	grown := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d MiB took %d KiB of memory on both sides together", size>>20, grown>>10)
	if grown > 16<<20 && !raced {
		t.Errorf("%d MiB took %d MiB of memory", size>>20, grown>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
