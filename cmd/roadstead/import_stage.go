package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// How content is stored that another process may be removing at the same moment, a server that makes room
// or a collection. Both say in the catalog what they remove, before they do, and do not remove what was
// used just now. So what is put, then staged, and then still there, stays:
//
//	removal listed, put, staged      staging says that it is going: wait, and put it again
//	put, removal ended, staged       it is not there after that: put it again
//	put, staged, removal             there is none: it was used a moment ago, and an import is under way

const (
	// stageWait is how long the end of a removal is waited for, which takes milliseconds. One that a
	// crash has left ends with the next start of a server.
	stageWait = 30 * time.Second
	stageLook = 50 * time.Millisecond
)

// keep stores a piece of content of an archive, unless it is here. Its bytes are read in any case: whoever
// cannot show them need not have them, and what names a digest may be in an archive for no other reason
// than that somebody here has that for himself.
func (i *importing) keep(ctx context.Context, want registry.Digest, size int64, r io.Reader) (registry.Digest, error) {
	if i.counts {
		defer i.progress.Add(size)
	}
	if want != "" {
		if here, err := i.here(ctx, want, size); here || err != nil {
			if err == nil {
				err = i.proves(ctx, want, size, r)
			}
			return want, err
		}
	}
	algorithm := digest.SHA256
	if want != "" {
		algorithm = want.Algorithm()
	}
	draft, err := i.data.Store.Draft(algorithm, size)
	if errors.Is(err, storage.ErrFull) {
		return "", fmt.Errorf("there is no room for %s: %w; free some, and run it again", bytesText(size), err)
	}
	if err != nil {
		return "", err
	}
	defer draft.Close()
	if _, err := io.CopyBuffer(plainWriter{draft}, &metered{ctx: ctx, in: r, step: func(int64) {}}, make([]byte, 256<<10)); err != nil {
		return "", err
	}
	d := want
	if d == "" {
		d = draft.Digest()
		if here, err := i.here(ctx, d, size); here || err != nil {
			i.brought[d] = i.brought[d] || err == nil
			return d, err
		}
	}
	if err := draft.Verify(d, size); errors.Is(err, storage.ErrMismatch) {
		return "", fmt.Errorf("the archive is damaged: %w", err)
	} else if err != nil {
		return "", err
	}
	i.brought[d] = true
	put := func(ctx context.Context) error { return draft.Commit(ctx) }
	return d, i.stage(ctx, d, size, func(ctx context.Context) error {
		err := put(ctx)
		put = func(ctx context.Context) error { return draft.Again(ctx) }
		return err
	})
}

// proves reads what is here already, and is damaged if it is something else.
func (i *importing) proves(ctx context.Context, want registry.Digest, size int64, r io.Reader) error {
	v := want.Verifier()
	n, err := io.CopyBuffer(plainWriter{v}, &metered{ctx: ctx, in: r, step: func(int64) {}}, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if n != size || !v.Verified() {
		return fmt.Errorf("the archive is damaged: what it calls %s is something else", want)
	}
	i.brought[want] = true
	return nil
}

// may reports whether content that is here may be linked to a repository: the archives have it, somebody
// who pulls from that project can have it already, or everybody can, or nobody has it yet.
func (i *importing) may(ctx context.Context, repo registry.Repo, d registry.Digest) (bool, error) {
	if i.brought[d] {
		return true, nil
	}
	const page = 100
	for after, any := "", false; ; {
		holders, err := i.data.Catalog.Holders(ctx, d, after, page)
		if err != nil {
			return false, err
		}
		any = any || len(holders) > 0
		for _, h := range holders {
			if h.Project == repo.Project || i.public[h.Project] {
				return true, nil
			}
		}
		if len(holders) < page {
			return !any, nil
		}
		after = holders[page-1].String()
	}
}

// plainWriter hides all but Write, so that the buffer is the one that is given.
type plainWriter struct{ io.Writer }

// here reports whether content is here whole, and has it stay if it is.
func (i *importing) here(ctx context.Context, d registry.Digest, size int64) (bool, error) {
	look := func(ctx context.Context) error {
		is, err := i.data.Store.Stat(ctx, d)
		if err == nil && is != size {
			err = storage.ErrNotFound // it is damaged, and replaced
		}
		return err
	}
	if err := look(ctx); errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	err := i.stage(ctx, d, size, look)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// stage puts content, says so in the catalog, and puts it again until it stays.
func (i *importing) stage(ctx context.Context, d registry.Digest, size int64, put func(context.Context) error) error {
	for late := time.Now().Add(stageWait); ; {
		if err := put(ctx); err != nil {
			return err
		}
		var stays bool
		err := i.data.Catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
			stays, err = tx.Stage(i.id, d, size)
			return err
		})
		if err != nil {
			return err
		}
		if stays {
			is, err := i.data.Store.Stat(ctx, d)
			if err == nil && is == size {
				return nil
			}
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
		}
		if time.Now().After(late) {
			return fmt.Errorf("%s is just being removed, and that does not end: run it again, after a start of the server if there is none", d)
		}
		select {
		case <-time.After(stageLook):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// alive says that this import is under way until it is told to stop, and returns then. A layer that takes
// an hour is staged at its end, and what came before it has nothing else that keeps it.
func (i *importing) alive(ctx context.Context) {
	beat := time.NewTicker(i.beat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		// One that fails has fourteen that may follow in time. Should none, what has gone is missed by link.
		i.data.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.Importing(i.id, time.Now()) })
	}
}
