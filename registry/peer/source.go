package peer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// Upstream is what a project is asked of when no node of the cluster has the answer.
type Upstream interface {
	registry.Reader
	StatBlob(context.Context, registry.Repo, registry.Digest) (registry.Descriptor, error)
	Tagged(context.Context, registry.Repo, string) (registry.Manifest, error)
}

// Source is an upstream that is asked by one node for all. Blobs, manifests and tags that this
// cluster has never seen come from their owner; what costs upstream next to nothing, or has to be
// its newest word, is asked of it directly.
type Source struct {
	Upstream
	cluster *Cluster
	kept    kept
}

// Over puts a cluster in front of an upstream. Repositories are those of the house, by which the
// other nodes know them too.
func (c *Cluster) Over(u Upstream) *Source { return &Source{Upstream: u, cluster: c} }

// Direct is the upstream itself, for what no other node is to be believed.
func (s *Source) Direct() registry.Reader { return s.Upstream }

// Blob opens a blob at its owner, where it may be on its way still, or at upstream if this node is
// the owner or the owner does not answer. A body that breaks goes on from upstream.
func (s *Source) Blob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	owner, done := s.turn(d)
	if done == nil {
		return s.inquire(ctx, repo, d)
	}
	ctx, span := registry.StartSpan(ctx, "ask node")
	span.Note(append(registry.About(repo, string(d)), slog.String("node", owner.ID))...)
	st := newStream(ctx, s, owner, done, repo, d)
	err := st.open()
	span.End(err)
	if err == nil {
		return registry.Blob{ReadSeekCloser: st, Size: st.size}, nil
	}
	st.Close()
	if final(err) {
		return registry.Blob{}, err
	}
	s.cluster.fellBack(owner, string(d), err)
	return s.inquire(ctx, repo, d)
}

// inquire asks upstream for a blob, and has those who ask this node for it know that.
func (s *Source) inquire(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	defer s.cluster.traffic.inquire(d)()
	return s.Upstream.Blob(ctx, repo, d)
}

// Manifest asks the owner, then upstream.
func (s *Source) Manifest(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	return s.manifest(ctx, repo, d, d.String(), func() (registry.Manifest, error) { return s.Upstream.Manifest(ctx, repo, d) })
}

// Tagged asks the node that owns the tag, then upstream. It is for tags that the cluster has not
// seen: what the owner knows of one is as old as its own check.
func (s *Source) Tagged(ctx context.Context, repo registry.Repo, tag string) (registry.Manifest, error) {
	return s.manifest(ctx, repo, ofTag(repo, tag), tag, func() (registry.Manifest, error) { return s.Upstream.Tagged(ctx, repo, tag) })
}

// ofTag is what decides who owns a tag.
func ofTag(repo registry.Repo, tag string) registry.Digest {
	return digest.FromString(repo.String() + ":" + tag)
}

// manifest asks the owner of key for what a reference stands for, and upstream when it has to.
func (s *Source) manifest(ctx context.Context, repo registry.Repo, key registry.Digest, reference string, upstream func() (registry.Manifest, error)) (registry.Manifest, error) {
	inquire := func() (registry.Manifest, error) {
		defer s.cluster.traffic.inquire(key)()
		return upstream()
	}
	owner, done := s.turn(key)
	if done == nil {
		return inquire()
	}
	asking, span := registry.StartSpan(ctx, "ask node")
	span.Note(append(registry.About(repo, reference), slog.String("node", owner.ID))...)
	m, err := s.cluster.manifest(asking, owner, repo, reference)
	span.End(err)
	done()
	switch {
	case err == nil:
		s.kept.add(m.Digest, time.Now())
		return m, nil
	case final(err):
		return registry.Manifest{}, err
	}
	s.cluster.fellBack(owner, repo.String()+" "+reference, err)
	return inquire()
}

// Kept reports whether content has just come whole from another node, which keeps it where this one
// would keep it too.
func (s *Source) Kept(d registry.Digest) bool { return s.kept.has(d, time.Now()) }

// turn says who is to be asked for a digest. done is nil when that is upstream; otherwise it is
// called when the owner has answered.
func (s *Source) turn(d registry.Digest) (owner Node, done func()) {
	c := s.cluster
	owner = c.owner(d)
	if owner.ID == c.self.ID || !c.traffic.ask(d) {
		return Node{}, nil
	}
	c.stats.asked.Add(1)
	return owner, sync.OnceFunc(func() { c.traffic.asked(d) })
}

// kept remembers what has come from other nodes, for as long as it takes here until it would be
// stored.
type kept struct {
	mu  sync.Mutex
	all map[registry.Digest]time.Time // and until when
}

const (
	// remembered covers a download that the house is too busy to put away at once.
	remembered = time.Minute

	// mostKept bounds the memory. What is forgotten is stored twice, which harms nobody.
	mostKept = 1 << 14
)

func (k *kept) add(d registry.Digest, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.all) >= mostKept {
		clear(k.all)
	}
	if k.all == nil {
		k.all = map[registry.Digest]time.Time{}
	}
	k.all[d] = now.Add(remembered)
}

func (k *kept) has(d registry.Digest, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	until, ok := k.all[d]
	if ok && now.After(until) {
		delete(k.all, d)
		return false
	}
	return ok
}

// fellBack notes that the owner gave no answer.
func (c *Cluster) fellBack(owner Node, what string, err error) {
	c.stats.fallback.Add(1)
	c.log.Info("upstream is asked in place of the owner", "node", owner.ID, "what", what, "err", fmt.Sprint(err))
}
