package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// Copy is what lies in one store on its way into the bucket of another: content first, then the
// links to it, and last Prune. Each can be cut short at any point; a Copy that is made anew goes on
// where that one was, by what the bucket has. The store that is copied is only read, and nobody
// must write to it meanwhile, nor anybody else to the bucket.
type Copy struct {
	from  *Store
	to    *remote
	waits []time.Duration // before each try

	mu sync.Mutex
	// there is by name how long what the bucket had at the beginning is, but for what was come
	// across since: some hundred bytes for each.
	there map[string]int64
}

// Plan is how much there is to copy.
type Plan struct {
	Contents, Bytes         int64 // all there is
	ContentsLeft, BytesLeft int64 // of which so much is not in the bucket yet
	Links                   int64
}

// NewCopy looks at what the bucket has already.
func NewCopy(ctx context.Context, from, to *Store) (*Copy, error) {
	bucket, ok := to.tree.(*remote)
	if !ok {
		return nil, errors.New("copy: only a bucket can be copied into")
	}
	if _, ok := bucket.driver.(putter); !ok {
		return nil, fmt.Errorf("copy: %s cannot be copied into", bucket.driver.Name())
	}
	c := &Copy{from: from, to: bucket, waits: persistent, there: map[string]int64{}}
	err := bucket.driver.Walk(ctx, "/"+layoutDir, func(info storagedriver.FileInfo) error {
		if !info.IsDir() {
			c.there[info.Path()[1:]] = info.Size()
		}
		return ctx.Err()
	})
	if err = driverError(err); err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("copy: look at what is there: %w", err)
	}
	return c, nil
}

// putter is a driver that puts content at its name in one step: it is there whole or not at all.
type putter interface {
	PutAt(ctx context.Context, path string, content io.ReaderAt, size int64) error
}

// Plan looks at all there is to copy, and fails when it cannot. step is called now and then with how
// much it has seen.
func (c *Copy) Plan(ctx context.Context, step func(seen int64)) (Plan, error) {
	var p Plan
	err := c.from.tree.content(ctx, func(d digest.Digest, size int64, err error) error {
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		p.Contents++
		p.Bytes += size
		name, e := blobPath(d)
		if have, ok := c.there[name]; err == nil && e == nil && (!ok || have != size) {
			p.ContentsLeft++
			p.BytesLeft += size
		}
		step(p.Contents)
		return ctx.Err()
	})
	if err == nil {
		err = c.from.eachLink(ctx, func(link) error { p.Links++; return ctx.Err() })
	}
	if err != nil {
		return Plan{}, fmt.Errorf("copy: look at what there is: %w", err)
	}
	return p, nil
}

// copiers is how many pieces of content, or links, are under way at once. Most are small, and to wait
// for the answer about one is what takes the time.
const copiers = 8

// Contents copies all content that the bucket has not. sent is called with how many bytes more have
// gone there; left with what was left out, which is ErrDamaged if its bytes are others than they
// should be, and else could not be read. Both are called by several goroutines.
//
// An error is the bucket's, or that of the walk.
func (c *Copy) Contents(ctx context.Context, sent func(n int64), left func(d digest.Digest, err error)) error {
	err := concurrently(ctx, copiers, func(ctx context.Context, todo chan<- copied) error {
		return c.from.tree.content(ctx, func(d digest.Digest, size int64, err error) error {
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			name, e := blobPath(d)
			if e != nil {
				return e
			}
			if have, ok := c.met(name); ok && err == nil && have == size {
				return nil
			}
			return hand(ctx, todo, copied{d, name})
		})
	}, func(ctx context.Context, p copied) error { return c.content(ctx, p, sent, left) })
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// copied is one piece of content.
type copied struct {
	digest digest.Digest
	name   string
}

// atOnce is up to where content is read whole, once, in bytes.
const atOnce = 1 << 20

// content copies one piece. It is read twice, the second time mostly out of memory: to show it under
// its name before it is known to be whole would, after a crash, be to show it for good.
func (c *Copy) content(ctx context.Context, p copied, sent func(n int64), left func(digest.Digest, error)) error {
	f, err := c.from.Open(ctx, p.digest)
	if err != nil {
		left(p.digest, err)
		return nil
	}
	defer f.Close()
	at, ok := f.ReadSeekCloser.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("%s cannot be read in several places at once", p.digest)
	}
	if f.Size <= atOnce {
		b, err := f.Whole(p.digest, atOnce)
		if err != nil {
			left(p.digest, err)
			return nil
		}
		if err := c.persist(ctx, func() error { return c.to.driver.PutContent(ctx, "/"+p.name, b) }); err != nil {
			return fmt.Errorf("store %s: %w", p.digest, err)
		}
		sent(f.Size)
		return nil
	}
	if err := digestOf(ctx, p.digest, f, make([]byte, 1<<20), func(int64) {}); err != nil {
		if ctx.Err() == nil {
			left(p.digest, err)
		}
		return ctx.Err()
	}
	r := &counted{ReaderAt: at, left: f.Size, sent: sent}
	err = c.persist(ctx, func() error { return c.to.driver.(putter).PutAt(ctx, "/"+p.name, r, f.Size) })
	if e := r.failed(); e != nil {
		left(p.digest, fmt.Errorf("read %s: %w", p.digest, e))
		return nil
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", p.digest, err)
	}
	r.rest()
	return nil
}

// persistent is how long is waited before each try.
var persistent = []time.Duration{0, 2 * time.Second, 10 * time.Second, 30 * time.Second}

// persist tries again what a bucket refuses: a server may be started anew in the hours that copying
// can take. What it makes of one request the driver has tried several times already.
func (c *Copy) persist(ctx context.Context, do func() error) error {
	var err error
	for _, wait := range c.waits {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if err = driverError(do()); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// counted is content that is being sent. What is read a second time, for a request that is repeated,
// counts once.
type counted struct {
	io.ReaderAt

	mu   sync.Mutex
	left int64
	err  error
	sent func(n int64)
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && err != io.EOF {
		c.err = err
	}
	more := min(int64(n), c.left)
	c.left -= more
	c.sent(more)
	return n, err
}

func (c *counted) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// rest counts what did not have to be sent.
func (c *counted) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent(c.left)
	c.left = 0
}

// met says how long what the bucket has under a name is, and that it belongs there.
func (c *Copy) met(name string) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size, ok := c.there[name]
	delete(c.there, name)
	return size, ok
}

// Prune removes what an earlier copy has brought and the store has no more, because it was served in
// between: a tag that was deleted would otherwise be back. It is for a bucket that has nothing else,
// and for when Contents and Links have come to their ends. It returns how much that was.
func (c *Copy) Prune(ctx context.Context) (int, error) {
	for name := range c.there {
		if err := c.to.remove(ctx, name, true); err != nil {
			return 0, fmt.Errorf("copy: remove %s, which is not there any more: %w", name, err)
		}
	}
	return len(c.there), nil
}

// concurrently has n goroutines do what walk hands out, until one of them fails.
func concurrently[T any](ctx context.Context, n int, walk func(ctx context.Context, todo chan<- T) error, do func(context.Context, T) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	todo := make(chan T)
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for one := range todo {
				if err := do(ctx, one); err != nil {
					end(err)
					return
				}
			}
		})
	}
	err := walk(ctx, todo)
	close(todo)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// hand gives one to whoever is free.
func hand[T any](ctx context.Context, todo chan<- T, one T) error {
	select {
	case todo <- one:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
