package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

const secret = Secret("a secret of the whole cluster")

// roll is a roll in memory, with one clock.
type roll struct {
	mu   sync.Mutex
	seen map[string]time.Time
	urls map[string]string
	away error
}

func (r *roll) Beat(_ context.Context, n Node, within time.Duration) ([]Node, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away != nil {
		return nil, r.away
	}
	if r.seen == nil {
		r.seen, r.urls = map[string]time.Time{}, map[string]string{}
	}
	r.seen[n.ID], r.urls[n.ID] = time.Now(), n.URL
	var alive []Node
	for id, at := range r.seen {
		if time.Since(at) < within {
			alive = append(alive, Node{id, r.urls[id]})
		}
	}
	return alive, nil
}

func (r *roll) Leave(_ context.Context, n Node) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen, n.ID)
	return r.away
}

// upstream is one that counts what it is asked for, and can be slow.
type upstream struct {
	Upstream
	mu        sync.Mutex
	blobs     map[registry.Digest][]byte
	manifests map[string]registry.Manifest
	asked     []string
	pause     chan struct{} // nil, or held after the first half of a blob
	silent    time.Duration // before it begins to answer for a blob, which is then an error
}

func (u *upstream) note(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, what)
}

func (u *upstream) requests() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string{}, u.asked...)
}

func (u *upstream) Blob(_ context.Context, _ registry.Repo, d registry.Digest) (registry.Blob, error) {
	u.note("blob " + d.Encoded()[:8])
	if u.silent > 0 {
		time.Sleep(u.silent)
		return registry.Blob{}, &registry.Fault{Code: registry.Unavailable, Message: "upstream does not answer", Timeout: true}
	}
	b, ok := u.blobs[d]
	if !ok {
		return registry.Blob{}, &registry.Fault{Code: registry.BlobUnknown, Message: "upstream has no such blob"}
	}
	return registry.Blob{ReadSeekCloser: &slow{bytes.NewReader(b), u.pause, int64(len(b) / 2)}, Size: int64(len(b))}, nil
}

func (u *upstream) Manifest(_ context.Context, _ registry.Repo, d registry.Digest) (registry.Manifest, error) {
	return u.find(d.String())
}

func (u *upstream) Tagged(_ context.Context, _ registry.Repo, tag string) (registry.Manifest, error) {
	return u.find(tag)
}

func (u *upstream) find(reference string) (registry.Manifest, error) {
	u.note("manifest " + reference)
	m, ok := u.manifests[reference]
	if !ok {
		return m, &registry.Fault{Code: registry.ManifestUnknown, Message: "upstream has no such manifest"}
	}
	return m, nil
}

type slow struct {
	*bytes.Reader
	pause chan struct{}
	half  int64
}

func (s *slow) Read(p []byte) (int, error) {
	at := s.Size() - int64(s.Len())
	if s.pause != nil && at < s.half && int64(len(p)) > s.half-at {
		p = p[:s.half-at]
	}
	if s.pause != nil && at == s.half {
		<-s.pause
	}
	return s.Reader.Read(p)
}

func (*slow) Close() error { return nil }

// node is a node that keeps nothing: it answers by its source, and has uploads in memory.
type node struct {
	*Cluster
	source  *Source
	local   *drafts
	uploads *Uploads
	broken  atomic.Int64 // bytes after which each answer breaks; zero: none does
	barren  atomic.Bool  // it knows no project
	stuck   atomic.Bool  // it says nothing for as long as it is asked
	stop    func()
}

// newNode starts one that every other on the roll can reach.
func newNode(t *testing.T, id string, r Roll, u Upstream) *node {
	t.Helper()
	return startNode(t, Config{Self: Node{ID: id, URL: "http://127.0.0.1:0"}, Secret: secret, Roll: r}, u, &drafts{})
}

// startNode starts one with the uploads that it has. In the place of port 0 it takes a free one.
func startNode(t *testing.T, config Config, u Upstream, local *drafts) *node {
	t.Helper()
	scheme, address, _ := strings.Cut(config.Self.URL, "://")
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	config.Self.URL = scheme + "://" + l.Addr().String()
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Cluster: c, source: c.Over(u), local: local, uploads: c.Uploads(local)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	running.Go(func() {
		c.Serve(ctx, l, c.Handler(http.HandlerFunc(n.answer), func(string) bool { return !n.barren.Load() }, local))
	})
	n.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(n.stop)
	return n
}

func (n *node) answer(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	slash := strings.LastIndexByte(path, '/')
	repo, reference := registry.SplitRepo(path[:slash]), path[slash+1:]
	if name, ok := strings.CutSuffix(repo.Name, "/manifests"); ok {
		repo.Name = name
		n.answerManifest(w, r, repo, reference)
		return
	}
	repo.Name = strings.TrimSuffix(repo.Name, "/blobs")
	if n.stuck.Load() {
		<-r.Context().Done()
		return
	}
	b, err := n.source.Blob(r.Context(), repo, registry.Digest(reference))
	if err != nil {
		refuse(w, err)
		return
	}
	defer b.Close()
	if most := n.broken.Load(); most > 0 {
		w.Header().Set("Content-Length", "1000000")
		io.CopyN(w, b, most)
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, b)
}

func (n *node) answerManifest(w http.ResponseWriter, r *http.Request, repo registry.Repo, reference string) {
	m, err := registry.Manifest{}, error(nil)
	if strings.Contains(reference, ":") {
		m, err = n.source.Manifest(r.Context(), repo, registry.Digest(reference))
	} else {
		m, err = n.source.Tagged(r.Context(), repo, reference)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Docker-Content-Digest", m.Digest.String())
	w.Header().Set("Content-Type", m.MediaType)
	w.Write(m.Bytes)
}

func refuse(w http.ResponseWriter, err error) {
	status, code := http.StatusServiceUnavailable, registry.Unavailable
	if f, ok := errors.AsType[*registry.Fault](err); ok && f.Timeout {
		status = http.StatusGatewayTimeout
	}
	if registry.Unknown(err) {
		status, code = http.StatusNotFound, registry.BlobUnknown
	}
	w.WriteHeader(status)
	io.WriteString(w, `{"errors":[{"code":"`+string(code)+`","message":"so it is"}]}`)
}

// meet waits until each of the nodes knows of n. They look at once, and not when it is their time.
func meet(t *testing.T, n int, nodes ...*node) {
	t.Helper()
	for _, one := range nodes {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			one.beat(t.Context())
			if alive, _, _ := one.Nodes(); len(alive) == n {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("node %s knows of %d nodes, want %d", one.self.ID, one.Stats().Nodes, n)
			}
		}
	}
}

// owned returns content that the node owns, as all see it.
func owned(t *testing.T, by *node, size int) ([]byte, registry.Digest) {
	t.Helper()
	b := bytes.Repeat([]byte("x"), size)
	for i := range 1000 {
		b[0], b[1] = byte(i), byte(i>>8)
		if d := digest.FromBytes(b); by.owner(d).ID == by.self.ID {
			return b, d
		}
	}
	t.Fatal("no content in a thousand is this node's own")
	return nil, ""
}

var repo = registry.Repo{Project: "docker.io", Name: "library/busybox"}

func read(t *testing.T, s *Source, d registry.Digest) []byte {
	t.Helper()
	b, err := s.Blob(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(all)) != b.Size {
		t.Errorf("%d bytes came of a blob of %d", len(all), b.Size)
	}
	return all
}

func same(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("other bytes came: %d instead of %d", len(got), len(want))
	}
}

func wantAsked(t *testing.T, u *upstream, want int) {
	t.Helper()
	if got := u.requests(); len(got) != want {
		t.Errorf("upstream was asked %q, want %d requests", got, want)
	}
}

func pair(t *testing.T) (r *roll, u *upstream, a, b *node) {
	t.Helper()
	r, u = &roll{}, &upstream{blobs: map[registry.Digest][]byte{}, manifests: map[string]registry.Manifest{}}
	a, b = newNode(t, "a", r, u), newNode(t, "b", r, u)
	meet(t, 2, a, b)
	return r, u, a, b
}

func TestTheOwnerIsAsked(t *testing.T) {
	_, u, a, b := pair(t)
	content, d := owned(t, a, 1<<20)
	u.blobs[d] = content
	same(t, read(t, b.source, d), content)
	if !b.source.Kept(d) {
		t.Error("what came from the owner is not known to be kept there")
	}
	if got := b.Stats(); got.Asked != 1 || got.Bytes != 1<<20 || got.Fallback != 0 {
		t.Errorf("stats of the asking node: %+v", got)
	}
	if got := a.Stats(); got.Served != 1 {
		t.Errorf("stats of the owner: %+v", got)
	}
	wantAsked(t, u, 1)

	same(t, read(t, a.source, d), content)
	if a.source.Kept(d) {
		t.Error("the owner believes that another node keeps what is its own")
	}
	wantAsked(t, u, 2) // these nodes keep nothing
}

func TestManifestsAndNewTagsComeFromTheirOwners(t *testing.T) {
	_, u, a, b := pair(t)
	body, d := owned(t, a, 100)
	m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: d, Size: 100}, Bytes: body}
	u.manifests[d.String()] = m
	got, err := b.source.Manifest(t.Context(), repo, d)
	if err != nil || got.MediaType != m.MediaType || !bytes.Equal(got.Bytes, body) {
		t.Fatalf("manifest by digest: %v, %v", got.Descriptor, err)
	}
	if got := b.Stats(); got.Asked != 1 || got.Fallback != 0 {
		t.Errorf("stats: %+v", got)
	}
	tag := ""
	for _, tag = range strings.Split("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", " ") {
		if a.owner(ofTag(repo, tag)).ID == "a" {
			break
		}
	}
	u.manifests[tag] = m
	if got, err = b.source.Tagged(t.Context(), repo, tag); err != nil || got.Digest != d || !b.source.Kept(d) {
		t.Fatalf("manifest by tag: %v, %v", got.Descriptor, err)
	}
	if got := b.Stats(); got.Asked != 2 || got.Fallback != 0 {
		t.Errorf("stats: %+v", got)
	}
}

func TestTheWordOfUpstreamIsFinal(t *testing.T) {
	_, u, a, b := pair(t)
	_, d := owned(t, a, 10)
	_, err := b.source.Blob(t.Context(), repo, d)
	if !errors.Is(err, registry.BlobUnknown) || !strings.Contains(err.Error(), "so it is") {
		t.Errorf("got %v, want what the owner was told", err)
	}
	wantAsked(t, u, 1)
}

// An owner that waits for upstream is waited for, and what it has waited for in vain is not asked for
// again: that would take twice as long as clients have.
func TestSilenceOfUpstreamIsFinal(t *testing.T) {
	_, u, a, b := pair(t)
	u.silent, b.patience = spent+200*time.Millisecond, 100*time.Millisecond
	_, d := owned(t, a, 10)
	_, err := b.source.Blob(t.Context(), repo, d)
	if f, ok := errors.AsType[*registry.Fault](err); !ok || f.Code != registry.Unavailable || !f.Timeout {
		t.Errorf("got %v, want that upstream takes too long", err)
	}
	wantAsked(t, u, 1)
	if got := b.Stats(); got.Fallback != 0 || b.Silent(a.self) {
		t.Errorf("stats: %+v, the owner counts as silent: %v", got, b.Silent(a.self))
	}
}

func TestUpstreamIsAskedWhenTheOwner(t *testing.T) {
	for _, row := range []struct {
		name string
		harm func(t *testing.T, a *node)
	}{
		{"has ended", func(_ *testing.T, a *node) { a.stop() }},
		{"breaks off in the middle", func(_ *testing.T, a *node) { a.broken.Store(300_000) }},
		{"does not know the project", func(_ *testing.T, a *node) { a.barren.Store(true) }},
		{"is stuck", func(_ *testing.T, a *node) { a.stuck.Store(true) }},
		{"is asking for it itself", func(t *testing.T, a *node) { a.traffic.asking = map[registry.Digest]int{}; a.busy(t) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, u, a, b := pair(t)
			content, d := owned(t, a, 1_000_000)
			u.blobs[d] = content
			view := b.view.Load()
			row.harm(t, a)
			b.view.Store(view) // it has not noticed yet
			b.patience = 100 * time.Millisecond
			same(t, read(t, b.source, d), content)
			if got := b.Stats(); got.Fallback != 1 {
				t.Errorf("stats: %+v", got)
			}
			if b.source.Kept(d) {
				t.Error("content that upstream had to give is believed to be kept by the owner")
			}
		})
	}
}

// busy has a node ask others for everything that its test owns.
func (n *node) busy(t *testing.T) {
	_, d := owned(t, n, 1_000_000)
	if !n.traffic.ask(d) {
		t.Fatal("the node is answering")
	}
}

func TestTwoNodesThatEachTakeTheOtherForTheOwnerDoNotWaitForEachOther(t *testing.T) {
	_, u, a, b := pair(t)
	content, d := owned(t, a, 1<<20)
	u.blobs[d] = content
	// a believes that b has it, b that a has.
	a.view.Store(&view{nodes: []Node{{"a", a.self.URL}, {pretender(d, a), b.self.URL}}})
	var all sync.WaitGroup
	for _, n := range []*node{a, b} {
		all.Go(func() { same(t, read(t, n.source, d), content) })
	}
	all.Wait()
	if n := len(u.requests()); n < 1 || n > 2 {
		t.Errorf("upstream was asked %d times", n)
	}
}

// pretender is a name that would own a digest in place of a node.
func pretender(d registry.Digest, n *node) string {
	for i := 0; ; i++ {
		if name := "b" + strings.Repeat("'", i); score(name, d) > score(n.self.ID, d) {
			return name
		}
	}
}

func TestReadingGoesOnAnywhere(t *testing.T) {
	_, u, a, b := pair(t)
	content, d := owned(t, a, 1<<20)
	u.blobs[d] = content
	blob, err := b.source.Blob(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := blob.Seek(-10, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	tail, err := io.ReadAll(blob)
	if err != nil {
		t.Fatal(err)
	}
	same(t, tail, content[1<<20-10:])
	if b.source.Kept(d) {
		t.Error("ten bytes are taken for the whole")
	}
	if got := b.Stats(); got.Fallback != 0 {
		t.Errorf("stats: %+v, want no range that upstream was asked for", got)
	}
}

func TestFirstBytesComeBeforeTheOwnerHasAll(t *testing.T) {
	r, u := &roll{}, &upstream{blobs: map[registry.Digest][]byte{}, pause: make(chan struct{})}
	a, b := newNode(t, "a", r, u), newNode(t, "b", r, u)
	meet(t, 2, a, b)
	content, d := owned(t, a, 1<<20)
	u.blobs[d] = content
	blob, err := b.source.Blob(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	half := make([]byte, 1<<18)
	if _, err := io.ReadFull(blob, half); err != nil {
		t.Fatal(err)
	}
	close(u.pause)
	rest, err := io.ReadAll(blob)
	if err != nil {
		t.Fatal(err)
	}
	same(t, append(half, rest...), content)
	wantAsked(t, u, 1)
}

func TestTheRollAwayLeavesTheNodesWhatTheyKnow(t *testing.T) {
	r, _, a, b := pair(t)
	r.mu.Lock()
	r.away = errors.New("the database is away")
	r.mu.Unlock()
	for end := time.Now().Add(10 * time.Second); !a.Stats().RollDown; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody notices that the roll is away")
		}
	}
	if nodes, _, err := a.Nodes(); len(nodes) != 2 || err == nil {
		t.Errorf("%d nodes, %v: want both, and why nothing newer is known", len(nodes), err)
	}
	r.mu.Lock()
	r.away = nil
	r.mu.Unlock()
	b.stop()
	meet(t, 1, a)
}
