// Package accord keeps what the layout has and what the catalog says the same where several nodes
// write both. What is removed goes first from the catalog, which notes that, and then from the layout;
// what comes goes first into the layout. Within a process storage.Traffic and locks of names keep the
// two apart. Here lives what does so between processes: by what the catalog knows of removals, and by
// looking again after each step that another node may have undone.
//
// Who wants something removed, and whether it may be, is not decided here.
package accord

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Clear removes the files of content that the catalog has forgotten: the links to it, then itself, and
// ends the removal. The caller lets nobody of this process bring it. catalog.ErrNotOurs says that the
// rest of it is left to others, because it took too long, or was somebody else's from the beginning.
//
// ended is called before the end is written; nil: nothing is.
func Clear(ctx context.Context, store *storage.Store, db *catalog.DB, r catalog.Removal, ended func()) error {
	within := func(do func(context.Context) error) error {
		if r.Late() {
			if err := db.Update(ctx, func(tx *catalog.Tx) error { return tx.Prolong(&r) }); err != nil {
				return err
			}
		}
		ctx, cancel, err := r.Claim(ctx, db.Shared())
		if err != nil {
			return err
		}
		defer cancel()
		return do(ctx)
	}
	var errs []error
	for _, h := range r.Holdings {
		errs = append(errs, within(func(ctx context.Context) error {
			return store.UnlinkTagged(ctx, h.Repo.String(), h.Tags, r.Digest)
		}))
	}
	errs = append(errs, within(func(ctx context.Context) error { return store.Remove(ctx, r.Digest) }))
	if ended != nil {
		ended()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove %s: %w", r.Digest, err)
	}
	if err := db.Update(ctx, func(tx *catalog.Tx) error { return tx.Removed(r) }); err != nil {
		return fmt.Errorf("end the removal of %s: %w", r.Digest, err)
	}
	return nil
}

// Finish brings a removal to its end that whoever began it has left, and reports whether there was such.
// The caller lets nobody of this process bring the content, or several nodes write the catalog.
func Finish(ctx context.Context, store *storage.Store, db *catalog.DB, d registry.Digest, ended func(catalog.Removal)) (bool, error) {
	var (
		r  catalog.Removal
		ok bool
	)
	err := db.Update(ctx, func(tx *catalog.Tx) (err error) {
		r, ok, err = tx.TakeOver(d)
		return err
	})
	if err != nil || !ok {
		return false, err
	}
	return true, Clear(ctx, store, db, r, func() {
		if ended != nil {
			ended(r)
		}
	})
}

// Apart has do take out of the layout what lies there under a digest and is not it, while the catalog
// goes on saying that it is there: it is storage.Store.Apart of a catalog that several nodes write.
// Interleavings with another node that puts the content, and then its row:
//
//	row, removal listed       do finds what was put, and leaves it
//	removal listed, row       the row is refused until the end, and the content put again
//
// When do fails what it has asked of the store may still happen. So the removal is not ended then:
// whoever stores the content next takes it over, brings it to its end, and puts the content after that.
func Apart(ctx context.Context, db *catalog.DB, d registry.Digest, do func(context.Context) error) error {
	var r catalog.Removal
	err := db.Update(ctx, func(tx *catalog.Tx) (err error) {
		r, err = tx.Suspect(d)
		return err
	})
	if err != nil {
		return err
	}
	within, cancel, err := r.Claim(ctx, true)
	if err != nil {
		return err
	}
	defer cancel()
	err = do(within)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	ended := db.Update(context.WithoutCancel(ctx), func(tx *catalog.Tx) error { return tx.Removed(r) })
	if ended != nil {
		return fmt.Errorf("end the removal of %s: %w", d, ended)
	}
	return err
}

const (
	// glance is how often it is looked at first whether a removal has ended, which takes two requests to
	// the bucket, and seldom how often at last.
	glance = 10 * time.Millisecond
	seldom = 500 * time.Millisecond

	// patience is how long that is waited for: until one whose node has died has been taken over and
	// brought to its end. A client waits that long for an answer.
	patience = 45 * time.Second
)

// ErrBusy says that content is being removed and that its end does not come.
var ErrBusy = errors.New("the content is just being removed, and that takes long")

// Wait waits until whoever stores content may put it into the layout again, and returns what he has to
// say then with the row (catalog.Tx.Placed). A removal that its node has left it brings to its end.
func Wait(ctx context.Context, store *storage.Store, db *catalog.DB, u *catalog.Unplaced) (catalog.Placed, error) {
	if !u.Going {
		return u.Gone, nil
	}
	late := time.Now().Add(patience)
	for pause := glance; ; pause = min(2*pause, seldom) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return catalog.Placed{}, context.Cause(ctx)
		}
		going, left, err := db.Going(ctx, u.Digest)
		if err == nil && left {
			_, err = Finish(ctx, store, db, u.Digest, nil)
			if errors.Is(err, catalog.ErrNotOurs) {
				err = nil
			}
		}
		switch {
		case err != nil:
			return catalog.Placed{}, err
		case !going:
			// Which one that was the next try finds out: it may have been taken over meanwhile.
			return u.Gone, nil
		case time.Now().After(late):
			return catalog.Placed{}, ErrBusy
		}
	}
}
