package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// drafts takes uploads in and keeps them in memory.
type drafts struct {
	mu      sync.Mutex
	all     map[string]*draft
	blobs   map[registry.Digest][]byte
	number  int64         // of every project
	most    int           // bytes of an upload; zero: no limit
	hold    chan struct{} // nil, or Append waits here before it reads on
	discard bool          // what is appended
}

type draft struct {
	of    *drafts
	id    string
	repo  registry.Repo
	owner string
	bytes []byte
	busy  bool
}

func (d *drafts) Number(string) int64 { return d.number }

func (d *drafts) StartUpload(_ context.Context, repo registry.Repo, owner string, _ digest.Algorithm) (registry.Upload, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all, d.blobs = map[string]*draft{}, map[registry.Digest][]byte{}
	}
	u := &draft{of: d, id: rand.Text(), repo: repo, owner: owner}
	d.all[u.id] = u
	return u, nil
}

func (d *drafts) Upload(_ context.Context, repo registry.Repo, owner, id string) (registry.Upload, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.all[id]; u != nil && u.repo == repo && u.owner == owner {
		return u, nil
	}
	return nil, fmt.Errorf("upload %s: %w", id, registry.BlobUploadUnknown)
}

func (u *draft) ID() string { return u.id }

func (u *draft) Size() int64 {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	return int64(len(u.bytes))
}

// seize is called by every change, and what it returns at its end.
func (u *draft) seize() (release func(), err error) {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	if u.busy {
		return nil, &registry.Fault{Code: registry.Conflict, Message: "another request is at this upload"}
	}
	u.busy = true
	return func() {
		u.of.mu.Lock()
		defer u.of.mu.Unlock()
		u.busy = false
	}, nil
}

func (u *draft) Append(_ context.Context, at int64, r io.Reader) error {
	release, err := u.seize()
	if err != nil {
		return err
	}
	defer release()
	if here := u.Size(); at >= 0 && at != here {
		return &registry.Fault{Code: registry.RangeInvalid, Message: fmt.Sprintf("the upload is at %d and not at %d", here, at)}
	}
	if u.of.discard {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		if u.of.hold != nil {
			<-u.of.hold
		}
		n, end := r.Read(buf)
		u.of.mu.Lock()
		u.bytes = append(u.bytes, buf[:n]...)
		size := len(u.bytes)
		u.of.mu.Unlock()
		switch {
		case u.of.most > 0 && size > u.of.most:
			return &registry.Fault{Code: registry.TooLarge, Message: "one upload may be smaller"}
		case end == io.EOF:
			return nil
		case end != nil:
			return end
		}
	}
}

func (u *draft) Commit(_ context.Context, d registry.Digest) error {
	release, err := u.seize()
	if err != nil {
		return err
	}
	defer release()
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	if digest.FromBytes(u.bytes) != d {
		return &registry.Fault{Code: registry.DigestInvalid, Message: "these are other bytes"}
	}
	u.of.blobs[d] = bytes.Clone(u.bytes)
	delete(u.of.all, u.id)
	return nil
}

func (u *draft) Cancel(context.Context) error {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	delete(u.of.all, u.id)
	return nil
}
