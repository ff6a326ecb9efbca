package cache

import (
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// memory is what answers a hit without a question to the catalog or the store: bounded, safe
// to lose, and never wrong about content, because digests do not change their meaning. What
// it says is stored may be gone from the store; whoever opens it finds out.
type memory struct {
	mu       sync.Mutex
	small    *simplelru.LRU[smallKey, registry.Manifest]
	held     int64 // bytes of small content
	limit    int64
	links    *simplelru.LRU[contentKey, *link]
	tags     *simplelru.LRU[tagKey, tagRecord]
	refusals *simplelru.LRU[refusalKey, refusal]
	lists    *simplelru.LRU[listingKey, listing]
	verdicts *simplelru.LRU[contentKey, verdict]

	born func() uint64 // the number of the last forgetting
}

// smallKey is content that is held whole: a manifest, or a blob of which only the bytes are
// known. One digest may be asked for as both.
type smallKey struct {
	digest registry.Digest
	blob   bool
}

// maxHeld is up to what size a blob is held. Image configurations are that small, every pull
// asks for one, and opening a file for it costs more than sending it.
const maxHeld = 32 << 10

// maxKind is the longest media type that is remembered: whoever makes a manifest chooses it.
const maxKind = 128

// Entries that are kept. A link takes about 300 bytes, a tag 400: at most some 20 MB
// together, enough for the working set of several large clusters.
const (
	maxLinks    = 1 << 15
	maxTags     = 1 << 14
	maxRefusals = 1 << 13
	maxLists    = 1 << 8
)

// contentKey is a digest in a repository.
type contentKey struct {
	repo   registry.Repo
	digest registry.Digest
}

// tagKey is a tag in a repository.
type tagKey struct {
	repo registry.Repo
	tag  string
}

// refusalKey is a reference, tag or digest, in a repository.
type refusalKey struct {
	repo      registry.Repo
	reference string
}

// link is the proof that a repository has a digest: a manifest of the repository names it, or
// upstream gave it from there.
type link struct {
	size      int64        // in bytes; -1 when not known
	mediaType mediaType    // by the word of the manifest that named it
	born      uint64       // the number of the last forgetting when it was learnt
	direct    atomic.Bool  // the layout and the catalog have a link of its own, or soon will
	recalled  atomic.Bool  // the catalog has been asked for that link
	proven    atomic.Bool  // upstream has it in this very repository, and not only a manifest that names it
	touchedAt atomic.Int64 // the hour, since 1970, of the last use that was noted
	triedAt   atomic.Int64 // when, in nanoseconds since 1970, a link of its own was last written
}

// mediaType is one of a few that there are many times.
type mediaType struct{ unique.Handle[string] }

// Value returns it, or "" when none is known.
func (m mediaType) Value() string {
	if m == (mediaType{}) {
		return ""
	}
	return m.Handle.Value()
}

// tagRecord is what is known of a tag.
type tagRecord struct {
	catalog.Tag
	savedAt time.Time // when CheckedAt was last written to the catalog
	seen    catalog.Seen
	held    string // why the tag has not followed upstream at that check
	news    bool   // the check that made this record found something else than before
}

// refusal is an error that is remembered for a while, so that asking again costs upstream
// nothing.
type refusal struct {
	err   error
	until time.Time
}

func newMemory(limit int64) *memory {
	m := &memory{limit: limit, born: func() uint64 { return 0 }}
	m.small = newLRU(1<<20, func(_ smallKey, gone registry.Manifest) { m.held -= weight(gone) })
	m.links = newLRU[contentKey, *link](maxLinks, nil)
	m.tags = newLRU[tagKey, tagRecord](maxTags, nil)
	m.refusals = newLRU[refusalKey, refusal](maxRefusals, nil)
	m.lists = newLRU[listingKey, listing](maxLists, nil)
	m.verdicts = newLRU[contentKey, verdict](maxLinks, nil)
	return m
}

// newLRU only fails for sizes below one, and all of ours are constants.
func newLRU[K comparable, V any](size int, onEvict func(K, V)) *simplelru.LRU[K, V] {
	l, err := simplelru.NewLRU(size, onEvict)
	if err != nil {
		panic(err)
	}
	return l
}

// weight is what small content takes in memory; the constant stands for its entry.
func weight(m registry.Manifest) int64 { return int64(len(m.Bytes)) + 512 }

func (m *memory) manifest(d registry.Digest) (registry.Manifest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.small.Get(smallKey{d, false})
}

func (m *memory) addManifest(man registry.Manifest) { m.hold(smallKey{man.Digest, false}, man) }

// blob returns the bytes of a small blob, which nobody may change.
func (m *memory) blob(d registry.Digest) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held, ok := m.small.Get(smallKey{d, true})
	return held.Bytes, ok
}

func (m *memory) addBlob(d registry.Digest, b []byte) {
	m.hold(smallKey{d, true}, registry.Manifest{Bytes: b})
}

func (m *memory) hold(k smallKey, content registry.Manifest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if weight(content) > m.limit || m.small.Contains(k) {
		return
	}
	m.small.Add(k, content)
	m.held += weight(content)
	for m.held > m.limit {
		m.small.RemoveOldest()
	}
}

func (m *memory) link(k contentKey) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, _ := m.links.Get(k)
	return l
}

// own reports whether the repository has it by more than a manifest's word.
func (l *link) own() bool { return l.direct.Load() || l.proven.Load() }

// addProof notes that upstream has a digest in a repository, and returns the link.
func (m *memory) addProof(k contentKey, size int64) *link {
	l := m.addLink(k, size)
	l.proven.Store(true)
	return l
}

// addLink notes a proof and returns the link. What is known of the size already stays.
func (m *memory) addLink(k contentKey, size int64) *link { return m.addNamed(k, size, "") }

// addNamed is addLink for what a manifest names.
func (m *memory) addNamed(k contentKey, size int64, kind string) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, ok := m.links.Get(k); ok && (l.size >= 0 || size < 0) {
		return l
	}
	l := &link{size: size, born: m.born()}
	if kind != "" && len(kind) <= maxKind {
		l.mediaType = mediaType{unique.Make(kind)}
	}
	m.links.Add(k, l)
	return l
}

func (m *memory) tag(k tagKey) (tagRecord, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tags.Get(k)
}

func (m *memory) addTag(k tagKey, r tagRecord) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tags.Add(k, r)
}

// drop takes a link out, so that who asks next learns anew what it says.
func (m *memory) drop(k contentKey, l *link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, ok := m.links.Peek(k); ok && now == l {
		m.links.Remove(k)
	}
}

// unsaved notes that a tag's record is in memory only, so that the next check saves it.
func (m *memory) unsaved(k tagKey, d registry.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.tags.Peek(k); ok && r.Digest == d {
		r.savedAt = time.Time{}
		m.tags.Add(k, r)
	}
}

// forget drops what is known of content that has been evicted from repositories, and of the
// tags on it.
func (m *memory) forget(d registry.Digest, holdings []catalog.Holding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.small.Remove(smallKey{d, false})
	m.small.Remove(smallKey{d, true})
	for _, h := range holdings {
		if l, ok := m.links.Peek(contentKey{h.Repo, d}); ok {
			l.unlinked()
		}
		for _, tag := range h.Tags {
			k := tagKey{h.Repo, tag}
			if r, ok := m.tags.Peek(k); ok && r.Digest == d {
				m.tags.Remove(k)
			}
		}
	}
}

// unlink drops the proofs that a repository has some content. What the catalog knows of them is
// found again.
func (m *memory) unlink(repo registry.Repo, digests []registry.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range digests {
		m.links.Remove(contentKey{repo, d})
	}
}

// untag drops what is known of a tag that points to d.
func (m *memory) untag(k tagKey, d registry.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.tags.Peek(k); ok && r.Digest == d {
		m.tags.Remove(k)
	}
}

// forgetRepository drops what is known of a repository: its content, its tags, and upstream's lists
// of it.
func (m *memory) forgetRepository(repo registry.Repo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.links.Keys() {
		if k.repo == repo {
			m.links.Remove(k)
		}
	}
	for _, k := range m.tags.Keys() {
		if k.repo == repo {
			m.tags.Remove(k)
		}
	}
	for _, k := range m.lists.Keys() {
		if k.repo == repo {
			m.lists.Remove(k)
		}
	}
}

func (m *memory) refuse(k refusalKey, err error, d time.Duration) {
	if d <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusals.Add(k, refusal{err, time.Now().Add(d)})
}

// refusal returns the error that is still remembered for k, or nil.
func (m *memory) refusal(k refusalKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusals.Len() == 0 {
		return nil
	}
	r, ok := m.refusals.Get(k)
	switch {
	case !ok:
		return nil
	case time.Now().After(r.until):
		m.refusals.Remove(k)
		return nil
	}
	return r.err
}

// verdict returns what is known of the signatures of a manifest, or of one that names a blob.
func (m *memory) verdict(k contentKey) (verdict, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.verdicts.Get(k)
	if ok && !v.until.IsZero() && time.Now().After(v.until) {
		m.verdicts.Remove(k)
		return verdict{}, false
	}
	return v, ok
}

func (m *memory) addVerdict(k contentKey, v verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.verdicts.Add(k, v)
}

// unjudge drops what is known of the signatures of a repository.
func (m *memory) unjudge(repo registry.Repo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.verdicts.Keys() {
		if k.repo == repo {
			m.verdicts.Remove(k)
		}
	}
	for _, k := range m.refusals.Keys() {
		if k.repo == repo {
			m.refusals.Remove(k)
		}
	}
}

func (m *memory) list(k listingKey) (listing, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lists.Get(k)
}

// maxListed is the largest list that is kept, in bytes: some thousand tags. Clients choose what
// lists there are, so this times maxLists is what they can fill.
const maxListed = 64 << 10

func (m *memory) addList(k listingKey, l listing) {
	if l.weight() > maxListed {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists.Add(k, l)
}

func (m *memory) bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}
