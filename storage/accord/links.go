package accord

import (
	"context"
	"errors"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Relink ends the removals of links: with gone the caller has taken these out of the layout, and without
// it nobody knows how they are there. Where several nodes write, it has the layout agree with the catalog first: a link
// that is wanted again is put back, and one that is not goes, until nothing has changed between the two.
//
// Why they agree in the end: the last who writes a link to the layout looks at the catalog afterwards,
// and sees all that was committed before. Who commits later looks at the layout after that (Tag), or has
// found this removal ended under a number that he did not know, and puts the link again.
func Relink(ctx context.Context, store *storage.Store, db *catalog.DB, all []catalog.Unlinked, gone bool) error {
	if !db.Shared() {
		return db.Update(ctx, func(tx *catalog.Tx) error {
			for _, u := range all {
				if err := tx.Relinked(u); err != nil {
					return err
				}
			}
			return nil
		})
	}
	open := make([]link, len(all))
	for i, u := range all {
		open[i] = link{Unlinked: u, known: gone}
	}
	for len(open) > 0 {
		var left []link
		err := db.Update(ctx, func(tx *catalog.Tx) error {
			left = nil
			for _, l := range open {
				want, err := tx.Wanted(l.Unlinked)
				if err != nil {
					return err
				}
				if !l.known || want != l.is {
					left = append(left, link{l.Unlinked, want, true})
				} else if err := tx.Relinked(l.Unlinked); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, l := range left {
			if err := l.place(ctx, store); err != nil {
				return err
			}
		}
		open = left
	}
	return nil
}

// link is one and how it is in the layout.
type link struct {
	catalog.Unlinked
	is    catalog.Want
	known bool
}

// place has the layout say what l says.
func (l link) place(ctx context.Context, store *storage.Store) error {
	repo := l.Repo.String()
	switch {
	case l.Tag != "" && l.is.Digest == "":
		return store.Untag(ctx, repo, l.Tag)
	case l.Tag != "":
		return store.Tag(ctx, repo, l.Tag, l.is.Digest)
	case l.is.Digest == "":
		return store.Unlink(ctx, repo, l.Digest)
	case l.is.Manifest:
		return store.LinkManifest(ctx, repo, l.Digest)
	}
	return store.LinkBlob(ctx, repo, l.Digest)
}

// Tag has the layout agree with the catalog about a tag whose row the caller has just written, and
// whose link to d before that; "" for none. Where one process writes it does nothing. With unsure it
// does not look at the link before it writes it anew: somebody may have been removing the tag with all
// its history.
func Tag(ctx context.Context, store *storage.Store, db *catalog.DB, repo registry.Repo, tag string, d registry.Digest, unsure bool) error {
	if !db.Shared() {
		return nil
	}
	if !unsure {
		is, err := store.Tagged(ctx, repo.String(), tag)
		if errors.Is(err, storage.ErrNotFound) {
			is, err = "", nil
		}
		if err != nil || is == d {
			return err
		}
	}
	return Settle(ctx, store, db, repo, tag)
}

// Settle writes the link of a tag to the layout as its row is, until the row is the same after that.
func Settle(ctx context.Context, store *storage.Store, db *catalog.DB, repo registry.Repo, tag string) error {
	l := link{Unlinked: catalog.Unlinked{Repo: repo, Tag: tag}}
	for {
		want, err := db.Wanted(ctx, l.Unlinked)
		if err != nil || l.known && want == l.is {
			return err
		}
		l.is, l.known = want, true
		if err := l.place(ctx, store); err != nil {
			return err
		}
	}
}
