package hosted

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
)

// upload is what a request has of a session.
type upload struct {
	registry *Registry
	session  *session
}

// StartUpload begins an upload.
func (r *Registry) StartUpload(ctx context.Context, repo registry.Repo, owner string, alg digest.Algorithm) (registry.Upload, error) {
	p, err := r.project(repo)
	if err != nil {
		return nil, err
	}
	s := &session{
		id: rand.Text(), busy: true, touched: time.Now(), // 130 bits that nobody guesses
		whose: whose{Repo: repo, Project: p.ID, Owner: owner, Algorithm: cmp.Or(alg, digest.SHA256)},
	}
	note, err := json.Marshal(s.whose)
	if err != nil {
		return nil, err
	}
	if err := r.uploads.add(s); err != nil {
		return nil, err
	}
	draft, err := r.store.NewUpload(s.id, note, s.whose.Algorithm)
	if err != nil {
		r.uploads.end(s)
		return nil, trouble(err)
	}
	if r.uploads.attach(s, draft) {
		r.spare()
	}
	r.release(s)
	return &upload{r, s}, nil
}

// Upload finds one that was begun.
func (r *Registry) Upload(ctx context.Context, repo registry.Repo, owner, id string) (registry.Upload, error) {
	p, err := r.project(repo)
	if err != nil {
		return nil, err
	}
	s, err := r.uploads.find(id, p.ID, repo, owner)
	if err != nil {
		return nil, err
	}
	return &upload{r, s}, nil
}

// ID names the upload.
func (u *upload) ID() string { return u.session.id }

// Size is how many bytes have been taken.
func (u *upload) Size() int64 {
	u.registry.uploads.mu.Lock()
	defer u.registry.uploads.mu.Unlock()
	return u.session.size
}

// Append takes what body has.
func (u *upload) Append(ctx context.Context, at int64, body io.Reader) error {
	r, s := u.registry, u.session
	draft, err := r.resume(ctx, s)
	if err != nil {
		return err
	}
	defer r.release(s)
	if here := draft.Len(); at >= 0 && at != here {
		return &registry.Fault{Code: registry.RangeInvalid, Message: fmt.Sprintf("the upload is at %d and not at %d", here, at)}
	}
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	for {
		n, end := body.Read(buf[:])
		if n > 0 {
			if err := r.write(s, draft, buf[:n]); err != nil {
				return err
			}
		}
		if end == io.EOF {
			return nil
		}
		if end != nil {
			return &registry.Fault{Code: registry.BlobUploadInvalid, Message: "the body broke off: go on from where the upload is", Err: end}
		}
	}
}

// chunk is how much of a body is taken at a time: enough that the calls for it cost little.
const chunk = 128 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// write takes a piece if the limits allow it.
func (r *Registry) write(s *session, draft *storage.Draft, p []byte) error {
	if err := r.uploads.take(s, int64(len(p))); err != nil {
		return err
	}
	n, err := draft.Write(p)
	if err == nil {
		return nil
	}
	r.uploads.giveBack(s, int64(len(p)-n))
	if !errors.Is(err, storage.ErrFull) {
		// The disk has failed it, and the store has removed it.
		r.lose(s, err)
	}
	return trouble(err)
}

// Commit makes the upload a blob.
func (u *upload) Commit(ctx context.Context, d registry.Digest) error {
	r, s := u.registry, u.session
	draft, err := r.resume(ctx, s)
	if err != nil {
		return err
	}
	defer r.release(s)
	err = draft.Verify(d, -1)
	if errors.Is(err, storage.ErrMismatch) {
		return &registry.Fault{Code: registry.DigestInvalid, Message: fmt.Sprintf("the %d bytes that were uploaded are not those of %s", draft.Len(), d), Err: err}
	}
	if err != nil {
		r.lose(s, err)
		return trouble(err)
	}
	// From here on nobody's going away ends it: what is in the layout is no upload any more.
	ctx = context.WithoutCancel(ctx)
	placed := false
	repo := s.whose.Repo
	err = r.addBlob(ctx, repo, s.whose.Project, d, draft.Len(), func(ctx context.Context) error {
		err := draft.Commit(ctx, repo.String())
		placed = err == nil
		return err
	}, func(ctx context.Context) error { return draft.Again(ctx, repo.String()) })
	if err == nil || placed {
		r.uploads.end(s)
		draft.Close()
	}
	return err
}

// Cancel throws the upload away.
func (u *upload) Cancel(ctx context.Context) error {
	r, s := u.registry, u.session
	if err := r.uploads.seize(ctx, s); err != nil {
		return err
	}
	return trouble(r.throwAway(s))
}

// resume seizes an upload and opens it if it is suspended.
func (r *Registry) resume(ctx context.Context, s *session) (*storage.Draft, error) {
	if err := r.uploads.seize(ctx, s); err != nil {
		return nil, err
	}
	if s.draft != nil {
		return s.draft, nil
	}
	draft, _, err := r.store.OpenUpload(ctx, s.id, s.whose.Algorithm)
	if errors.Is(err, storage.ErrNotFound) {
		r.uploads.end(s)
		return nil, unknownUpload(s.id)
	}
	if err != nil {
		r.uploads.free(s)
		return nil, trouble(err)
	}
	if r.uploads.attach(s, draft) {
		r.spare()
	}
	return draft, nil
}

// release lets go of an upload, unless it has ended meanwhile.
func (r *Registry) release(s *session) {
	r.uploads.mu.Lock()
	ending := r.uploads.ending && !s.ended
	r.uploads.mu.Unlock()
	if ending {
		r.suspend([]*session{s})
		return
	}
	r.uploads.release(s)
}

// lose ends an upload that the disk has failed.
func (r *Registry) lose(s *session, err error) {
	r.fault("lose an upload", err, "repo", s.whose.Repo.String(), "upload", s.id)
	if draft := r.uploads.end(s); draft != nil {
		draft.Close()
	}
}
