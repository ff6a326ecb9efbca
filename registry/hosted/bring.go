package hosted

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// patience is how long content that is just leaving is waited for. A removal takes milliseconds;
// one that takes longer hangs on its disk, and then a push had better not begin.
const patience = 10 * time.Second

// bringing is content on its way into a repository.
type bringing struct {
	repo   registry.Repo
	digest registry.Digest
	tags   []string // that are to point to it, sorted and each once

	project int64 // the number of the one that it was sent to; 0: that is not known

	check func(ctx context.Context) error // before anything is written; nil: nothing to check
	place func(ctx context.Context) error // its file, unless that is there, and then the links to it
	again func(ctx context.Context) error // the same once more, when another node may have removed some; nil: place
	write func(tx *catalog.Tx, proj *project) error
}

// bring has content placed in the layout, which syncs it, and then written down.
//
//	A crash after     leaves
//	the file          content that no row knows, which the next push of it replaces
//	the links         the same, and links to whole content that nobody was told of; a tag of the
//	                  layout may be ahead of its row until it is pushed or deleted again
//	the row           all of it, and a client that pushes again
//
// Another node may remove the same meanwhile: the row is refused then, and all is placed again
// (record). When the row is refused, what came before it is taken back.
func (r *Registry) bring(ctx context.Context, b bringing) error {
	begun, err := r.arrange(ctx, b)
	// A catalog that gives no answer may have it written all the same, and has none for this either.
	if err != nil && begun && !errors.Is(err, catalog.ErrUnavailable) {
		r.takeBack(ctx, b)
	}
	return trouble(err)
}

// arrange does it, and says whether it has begun to write.
func (r *Registry) arrange(ctx context.Context, b bringing) (begun bool, err error) {
	defer r.locks.share(b.repo, b.digest)()
	defer r.locks.tags(b.repo, b.tags)()
	if b.check != nil {
		if err := b.check(ctx); err != nil {
			return false, err
		}
	}
	free := r.store.Traffic.Come(b.digest, patience)
	defer r.store.Traffic.Came(b.digest)
	if !free {
		return false, &registry.Fault{Code: registry.Unavailable, Message: "the content is just being removed, and that hangs: try again later"}
	}
	r.step("push: begun")
	if err := b.place(ctx); err != nil {
		return true, err
	}
	r.step("push: linked")
	unsure, err := r.record(ctx, b)
	if err != nil {
		return true, err
	}
	r.step("push: written down")
	for _, tag := range b.tags {
		// Others may have moved it in the layout since, or removed it.
		if err := accord.Tag(ctx, r.store, r.catalog, b.repo, tag, b.digest, unsure[tag]); err != nil {
			return true, err
		}
	}
	return true, nil
}

// mostAgain is how often content is placed again that other nodes remove.
const mostAgain = 20

// record writes down content that is placed, and places it again as long as another node may have
// removed it meanwhile. It returns the tags that one may have removed.
func (r *Registry) record(ctx context.Context, b bringing) (unsure map[string]bool, err error) {
	var known catalog.Placed
	for range mostAgain {
		var gone *catalog.Unplaced
		err := r.catalog.Durable(ctx, func(tx *catalog.Tx) (err error) {
			gone, unsure = nil, map[string]bool{} // it may run twice
			tx.Placed(b.repo, b.digest, known)
			err = writeDown(tx, b)
			if u, ok := errors.AsType[*catalog.Unplaced](err); ok {
				gone = u
				return nil
			}
			for _, tag := range b.tags {
				if err == nil {
					unsure[tag], err = tx.Untagged(b.repo, tag)
				}
			}
			return err
		})
		if err != nil || gone == nil {
			return unsure, err
		}
		r.step("push: may be gone")
		if known, err = accord.Wait(ctx, r.store, r.catalog, gone); err != nil {
			return nil, busy(err)
		}
		again := b.again
		if again == nil {
			again = b.place
		}
		if err := again(ctx); err != nil {
			return nil, err
		}
		r.step("push: placed again")
	}
	return nil, busy(accord.ErrBusy)
}

// busy tells a client that content is being removed by another node.
func busy(err error) error {
	if !errors.Is(err, accord.ErrBusy) {
		return err
	}
	return &registry.Fault{Code: registry.Unavailable, Message: err.Error() + ": try again later", RetryAfter: patience, Err: err}
}

// writeDown makes the rows of content that is linked, if the project's rules of this moment allow it.
func writeDown(tx *catalog.Tx, b bringing) error {
	proj, err := ruled(tx, b.repo)
	if err != nil {
		return err
	}
	if b.project != 0 && b.project != proj.ID {
		// It was deleted since, and this is another one under its name.
		return fmt.Errorf("%s: %w", b.repo, registry.NameUnknown)
	}
	var before catalog.Usage
	if proj.Quota > 0 {
		if before, err = tx.ProjectUsage(proj.Name); err != nil {
			return err
		}
	}
	if err := b.write(tx, proj); err != nil {
		return err
	}
	if proj.Quota > 0 {
		after, err := tx.ProjectUsage(proj.Name)
		if err != nil {
			return err
		}
		if err := proj.fits(before.Bytes, after.Bytes); err != nil {
			return err
		}
	}
	if _, err := tx.Renew(b.repo, b.digest, time.Now()); err != nil {
		return err
	}
	return tx.Linked(catalog.Unlinked{Repo: b.repo, Digest: b.digest})
}

// ruled returns the project of a repository as the catalog has it now.
func ruled(tx *catalog.Tx, repo registry.Repo) (*project, error) {
	p, err := tx.Project(repo.Project)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w: %w", repo, registry.NameUnknown, err)
	}
	if err != nil {
		return nil, err
	}
	return newProject(p)
}

// mayHold says that a project has no room in its quota for a digest, as far as that is known
// before it is brought, or nil.
func (r *Registry) mayHold(ctx context.Context, proj *project, d registry.Digest, size int64) error {
	if proj.Quota <= 0 {
		return nil
	}
	has, err := r.catalog.ProjectHas(ctx, proj.Name, d)
	if err != nil {
		return trouble(err)
	}
	if has {
		return nil
	}
	used, err := r.catalog.ByProject(ctx)
	if err != nil {
		return trouble(err)
	}
	before := used[proj.Name].Bytes
	return proj.fits(before, before+size)
}

// takeBack has the layout say what the catalog says, after a push that did not come to its end.
// What cannot be done is left: it leads to whole content, and the next push or removal of the
// same name sets it right.
//
// It holds the digest alone. Shared, one that takes back would unlink what another has just linked
// and not yet written down.
func (r *Registry) takeBack(ctx context.Context, b bringing) {
	ctx, cancel := settle(ctx)
	defer cancel()
	if err := r.relink(ctx, b); err != nil {
		r.fault("take back what a refused push has linked", err, "repo", b.repo.String(), "digest", b.digest)
		return
	}
	if err := r.clearStray(ctx, b.digest); err != nil {
		r.fault("remove what a refused push has stored", err, "digest", b.digest)
	}
}

func (r *Registry) relink(ctx context.Context, b bringing) error {
	defer r.locks.own(b.repo, b.digest)()
	defer r.locks.tags(b.repo, b.tags)()
	if r.catalog.Shared() {
		return r.agree(ctx, b)
	}
	for _, tag := range b.tags {
		t, err := r.catalog.Tag(ctx, b.repo, tag)
		switch {
		case err == nil && t.Digest != "" && !t.Gone:
			err = r.store.Tag(ctx, b.repo.String(), tag, t.Digest)
		case err == nil || errors.Is(err, catalog.ErrNotFound):
			err = r.store.UntagFrom(ctx, b.repo.String(), tag, b.digest)
		}
		if err != nil {
			return err
		}
	}
	_, err := r.catalog.Held(ctx, b.repo, b.digest)
	if errors.Is(err, catalog.ErrNotFound) {
		err = r.store.Unlink(ctx, b.repo.String(), b.digest)
	}
	return err
}

// agree is relink where other nodes may be pushing the same: what goes from the layout is noted before,
// so that they put it again.
func (r *Registry) agree(ctx context.Context, b bringing) error {
	all := []catalog.Unlinked{{Repo: b.repo, Digest: b.digest}}
	for _, tag := range b.tags {
		all = append(all, catalog.Unlinked{Repo: b.repo, Tag: tag, Digest: b.digest})
	}
	var gone, stay []catalog.Unlinked
	err := r.catalog.Update(ctx, func(tx *catalog.Tx) error {
		gone, stay = nil, nil
		for _, u := range all {
			ok, err := tx.NoteUnlinked(u)
			if err != nil {
				return err
			}
			if ok {
				gone = append(gone, u)
			} else if u.Tag != "" {
				stay = append(stay, u)
			}
		}
		return nil
	})
	for _, u := range stay {
		if err == nil {
			err = accord.Settle(ctx, r.store, r.catalog, u.Repo, u.Tag)
		}
	}
	if err != nil || len(gone) == 0 {
		return err
	}
	return r.unlink(ctx, gone)
}

// clearStray removes content that no row knows of, unless somebody brings it.
func (r *Registry) clearStray(ctx context.Context, d registry.Digest) error {
	gone, ok := r.store.Traffic.Leave(d)
	if !ok {
		return nil
	}
	defer gone()
	if r.catalog.Shared() {
		// Another node may bring it: so it has to be told.
		var removal catalog.Removal
		err := r.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
			removal, ok, err = tx.ForgetStray(d)
			return err
		})
		if err != nil || !ok {
			return err
		}
		return r.clear(ctx, removal)
	}
	found, err := r.catalog.Find(ctx, registry.Repo{}, d)
	if err != nil || found.Stored {
		return err
	}
	return r.store.Remove(ctx, d)
}

// refuse counts what a rule has refused.
func (r *Registry) refuse(err error) error {
	if errors.Is(err, registry.Denied) || errors.Is(err, registry.TooLarge) {
		r.totals.refused.Add(1)
	}
	return err
}
