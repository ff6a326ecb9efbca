package hosted

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
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

	check func(ctx context.Context) error // before anything is written; nil: nothing to check
	place func(ctx context.Context) error // its file, unless that is there, and then the links to it
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
// When the row is refused, what came before it is taken back.
func (r *Registry) bring(ctx context.Context, b bringing) error {
	begun, err := r.arrange(ctx, b)
	if err != nil && begun {
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
	err = r.catalog.Durable(ctx, func(tx *catalog.Tx) error { return writeDown(tx, b) })
	if err != nil {
		return true, err
	}
	r.step("push: written down")
	return true, nil
}

// writeDown makes the rows of content that is linked, if the project's rules of this moment allow it.
func writeDown(tx *catalog.Tx, b bringing) error {
	proj, err := ruled(tx, b.repo)
	if err != nil {
		return err
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
	return tx.Relinked(catalog.Unlinked{Repo: b.repo, Digest: b.digest})
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

// clearStray removes content that no row knows of, unless somebody brings it.
func (r *Registry) clearStray(ctx context.Context, d registry.Digest) error {
	gone, ok := r.store.Traffic.Leave(d)
	if !ok {
		return nil
	}
	defer gone()
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
