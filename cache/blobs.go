package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage"
)

// verifyFirst is up to what size a blob is verified before its first byte goes out. Image
// configurations are that small: their readers get a true status instead of a cut connection,
// and wait no longer than a packet or two. (FAULTS I1 would allow 1 MiB; that is a hundred
// seconds over the slowest links that we serve.)
const verifyFirst = 64 << 10

// Blob opens a blob: from the store, from the flight that is bringing it, or by starting one.
func (c *Cache) Blob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	p, err := c.permitted(repo)
	if err != nil {
		return registry.Blob{}, err
	}
	k := contentKey{repo, d}
	if err := c.vouchBlob(ctx, p, k); err != nil {
		return registry.Blob{}, err
	}
	l := c.find(ctx, k)
	if l == nil && c.elsewhere(ctx, k) {
		// The bytes are here for another repository. Knowing a digest opens nothing:
		// upstream says whether this repository has it too.
		if l, err = c.prove(ctx, p, k); err != nil {
			return registry.Blob{}, err
		}
	}
	if l != nil {
		b, ok := c.blobHeld(k, l)
		if !ok && l.direct.Load() {
			b, ok = c.blobHere(ctx, k, l)
		} else if !ok && c.look(d) {
			b, ok = c.blobHere(ctx, k, l)
			c.looked(d)
		}
		if ok {
			c.touch(l, d, time.Now())
			p.figures.count(ctx, registry.Hit)
			return b, nil
		}
	}
	f, joined := c.flight(ctx, p, k, l)
	if f == nil {
		return registry.Blob{}, errClosing
	}
	defer f.leave()
	foreign := joined && f.key.repo != repo
	if foreign && (l == nil || !l.own() && !c.lends(f.key.repo.Project, repo.Project)) {
		// It began after our look for one: prove first that this repository has the blob.
		return c.Blob(ctx, repo, d)
	}
	wait := f.wait
	if joined {
		wait = f.join
	}
	if err := wait(ctx); err != nil {
		if foreign && ctx.Err() == nil {
			// What went wrong was asked of another repository, and is gone from the flights:
			// ask ours.
			return c.Blob(ctx, repo, d)
		}
		return registry.Blob{}, err
	}
	switch {
	case !joined:
		p.figures.count(ctx, registry.Miss)
	case f.whole():
		c.share(f, k, l)
		p.figures.count(ctx, registry.Hit)
	default:
		c.share(f, k, l)
		p.figures.count(ctx, registry.Join)
	}
	return f.open(ctx), nil
}

// StatBlob says how large a blob is, without bringing it here.
func (c *Cache) StatBlob(ctx context.Context, repo registry.Repo, d registry.Digest) (registry.Descriptor, error) {
	p, err := c.permitted(repo)
	if err != nil {
		return registry.Descriptor{}, err
	}
	k := contentKey{repo, d}
	if err := c.vouchBlob(ctx, p, k); err != nil {
		return registry.Descriptor{}, err
	}
	if l := c.find(ctx, k); l != nil {
		size, err := c.stat(ctx, k, l)
		if err == nil && (l.size < 0 || l.size == size) {
			c.touch(l, d, time.Now())
			p.figures.count(ctx, registry.Hit)
			return registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
		}
	}
	desc, err := c.statUpstream(ctx, p, k)
	if err == nil {
		p.figures.count(ctx, registry.Miss)
	}
	return desc, err
}

// stat says how large the content of a link is that is here, be it that a flight has just brought it.
// What is only lent may have come since it was not here and so nobody's (see lent): then it is not found
// unless it is lent as it is now.
func (c *Cache) stat(ctx context.Context, k contentKey, l *link) (int64, error) {
	own := l.own()
	c.flightsMu.Lock()
	f := c.flights[k.digest]
	c.flightsMu.Unlock()
	if f != nil && f.whole() && (own || c.lends(f.key.repo.Project, k.repo.Project)) {
		return f.size, nil
	}
	if own {
		return c.store.Length(ctx, k.digest)
	}
	size, err := c.statStored(ctx, k.digest)
	if err == nil && !c.lent(ctx, k) {
		err = storage.ErrNotFound
	}
	return size, err
}

// blobHeld returns a small blob that is in memory.
func (c *Cache) blobHeld(k contentKey, l *link) (registry.Blob, bool) {
	b, ok := c.memory.blob(k.digest)
	if !ok || l.size >= 0 && l.size != int64(len(b)) {
		return registry.Blob{}, false
	}
	c.keepLink(k, l, int64(len(b)))
	return registry.Blob{ReadSeekCloser: held{bytes.NewReader(b)}, Size: int64(len(b))}, true
}

// held is a blob in memory.
type held struct{ *bytes.Reader }

// Close has nothing to let go of.
func (held) Close() error { return nil }

// blobHere opens a blob of a repository that links it. One of the wrong size is not the blob:
// it will be fetched again, which heals it.
func (c *Cache) blobHere(ctx context.Context, k contentKey, l *link) (registry.Blob, bool) {
	open := c.openStored
	if !l.own() {
		open = c.openLent
	}
	content, err := open(ctx, k.digest)
	if err != nil {
		if !errors.Is(err, storage.ErrNotFound) {
			c.fault("open a stored blob", err, "repo", k.repo.String(), "digest", k.digest)
		}
		return registry.Blob{}, false
	}
	if l.size >= 0 && content.Size != l.size {
		content.Close()
		c.fault("open a stored blob", fmt.Errorf("it is %d bytes long and should be %d: %w", content.Size, l.size, storage.ErrDamaged),
			"repo", k.repo.String(), "digest", k.digest)
		return registry.Blob{}, false
	}
	c.keepLink(k, l, content.Size)
	if content.Size > maxHeld {
		return registry.Blob{ReadSeekCloser: content.ReadSeekCloser, Size: content.Size}, true
	}
	b, err := content.Whole(k.digest, maxHeld) // which verifies it
	content.Close()
	if err != nil {
		c.fault("read a stored blob", err, "repo", k.repo.String(), "digest", k.digest)
		return registry.Blob{}, false
	}
	c.memory.addBlob(k.digest, b)
	return registry.Blob{ReadSeekCloser: held{bytes.NewReader(b)}, Size: int64(len(b))}, true
}

// Doubt is told that a blob which was given out could not be read to its end, and why. If it is
// the stored content that cannot be read, that is put aside, and the next request brings it anew:
// one bad sector must not abort each pull for ever (FAULTS S3).
func (c *Cache) Doubt(repo registry.Repo, d registry.Digest, err error) {
	if _, told := errors.AsType[*registry.Fault](err); told || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return // upstream's trouble, or the client's
	}
	c.doubts.join(d, c.work.start, func() (struct{}, error) {
		// A large blob on a bad disk takes long, and nothing is lost when the house closes.
		ctx, cancel := context.WithTimeout(c.life, keepPatience)
		defer cancel()
		switch err := c.store.Recheck(ctx, d); {
		case err == nil, errors.Is(err, storage.ErrNotFound), ctx.Err() != nil:
		default:
			c.fault("a stored blob cannot be read and will be fetched again", err, "repo", repo.String(), "digest", d)
		}
		return struct{}{}, nil
	})
}

// elsewhere reports whether the bytes of a digest are here, or on their way, for some other
// repository than that of k.
func (c *Cache) elsewhere(ctx context.Context, k contentKey) bool {
	c.flightsMu.Lock()
	f := c.flights[k.digest]
	c.flightsMu.Unlock()
	if f != nil {
		return f.key.repo != k.repo
	}
	return c.here(ctx, k.digest)
}

// prove asks upstream whether a repository has a blob, and remembers that it does.
func (c *Cache) prove(ctx context.Context, p *project, k contentKey) (*link, error) {
	born := c.forgotten.number.Load()
	desc, err := c.statUpstream(ctx, p, k)
	if err != nil {
		return nil, err
	}
	l := c.memory.addProof(k, desc.Size)
	if c.forgotten.since(born, k.repo, string(k.digest)) {
		// Good for this request, which began before that, and for nothing that it would leave behind.
		c.memory.drop(k, l)
		l = &link{size: desc.Size, born: born}
		l.proven.Store(true)
	}
	return l, nil
}

// statUpstream asks upstream for the size of a blob. What it says is remembered where it is
// no.
func (c *Cache) statUpstream(ctx context.Context, p *project, k contentKey) (registry.Descriptor, error) {
	refused := refusalKey{k.repo, string(k.digest)}
	if err := c.memory.refusal(refused); err != nil {
		return registry.Descriptor{}, err
	}
	var desc registry.Descriptor
	var err error
	if s, ok := p.Upstream.(interface {
		StatBlob(context.Context, registry.Repo, registry.Digest) (registry.Descriptor, error)
	}); ok {
		desc, err = s.StatBlob(ctx, k.repo, k.digest)
	} else {
		var b registry.Blob
		if b, err = p.Upstream.Blob(ctx, k.repo, k.digest); err == nil {
			desc = registry.Descriptor{Digest: k.digest, Size: b.Size}
			b.Close()
		}
	}
	p.health.note(err)
	if registry.Unknown(err) {
		c.memory.refuse(refused, err, p.Negative)
	}
	return desc, err
}
