package hosted

import (
	"context"
	"errors"
	"fmt"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// addBlob makes content of so many bytes a blob of a repository in the project of a number. place commits
// and links it, and again does the rest of that once more.
func (r *Registry) addBlob(ctx context.Context, repo registry.Repo, number int64, d registry.Digest, size int64, place, again func(context.Context) error) error {
	proj, err := r.project(repo)
	if err != nil {
		return err
	}
	err = r.bring(ctx, bringing{
		repo: repo, digest: d, project: number,
		check: func(ctx context.Context) error { return r.mayHold(ctx, proj, d, size) },
		place: place, again: again,
		write: func(tx *catalog.Tx, _ *project) error { return tx.AddBlob(repo, d, size) },
	})
	if err != nil {
		return r.refuse(err)
	}
	r.totals.blobs.Add(1)
	r.totals.bytes.Add(size)
	return nil
}

// Take makes a blob the repository's that lies in the store, where whoever calls it has put it: an import
// of an archive (catalog.Tx.Stage). It is a push of that blob, with the same rules and the same promise,
// but for the bytes, which are here.
func (r *Registry) Take(ctx context.Context, repo registry.Repo, d registry.Digest, size int64) error {
	proj, err := r.project(repo)
	if err != nil {
		return err
	}
	place := func(ctx context.Context) error {
		if is, err := r.store.Stat(ctx, d); err != nil || is != size {
			return fmt.Errorf("%s of %d bytes is not here whole: %w", d, size, errors.Join(err, registry.BlobUnknown))
		}
		return r.store.LinkBlob(ctx, repo.String(), d)
	}
	return r.addBlob(ctx, repo, proj.ID, d, size, place, place)
}

const (
	// sources is how many repositories that have a blob are looked at in one go, and mostSources
	// in all. The empty layer is in every second one; who may read none of the first thousand
	// sends its few bytes again.
	sources     = 100
	mostSources = 1000
)

// Mount makes a blob the repository's that another one has which may allows.
func (r *Registry) Mount(ctx context.Context, repo registry.Repo, d registry.Digest, may func(registry.Repo) bool) error {
	proj, err := r.project(repo)
	if err != nil {
		return err
	}
	source, err := r.source(ctx, d, may)
	if err != nil {
		return err
	}
	held, err := r.catalog.Held(ctx, source, d)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && held.MediaType != "" {
		// Mounted, a manifest would be one here without what it is made of.
		return fmt.Errorf("%s@%s: %w", source, d, registry.BlobUnknown)
	}
	if err != nil {
		return trouble(err)
	}
	if err := r.whole(ctx, source, d, held.Size); err != nil {
		return err
	}
	err = r.bring(ctx, bringing{
		repo: repo, digest: d, project: proj.ID,
		check: func(ctx context.Context) error { return r.mayHold(ctx, proj, d, held.Size) },
		place: func(ctx context.Context) error {
			// Again, now that nobody takes it away.
			if err := r.whole(ctx, source, d, held.Size); err != nil {
				return err
			}
			return r.store.LinkBlob(ctx, repo.String(), d)
		},
		write: func(tx *catalog.Tx, _ *project) error {
			// It may have gone from there since, and from the disk.
			held, err := tx.Held(source, d)
			if errors.Is(err, catalog.ErrNotFound) {
				return fmt.Errorf("%s@%s: %w", source, d, registry.BlobUnknown)
			}
			if err != nil {
				return err
			}
			return tx.AddBlob(repo, d, held.Size)
		},
	})
	if err != nil {
		return r.refuse(err)
	}
	r.totals.mounted.Add(1)
	return nil
}

// source finds a repository that has a blob and that may allows, or BlobUnknown.
func (r *Registry) source(ctx context.Context, d registry.Digest, may func(registry.Repo) bool) (registry.Repo, error) {
	after := ""
	for range mostSources / sources {
		repos, err := r.catalog.Holders(ctx, d, after, sources)
		if err != nil {
			return registry.Repo{}, trouble(err)
		}
		for _, repo := range repos {
			if may(repo) {
				return repo, nil
			}
			after = repo.String()
		}
		if len(repos) < sources {
			break
		}
	}
	return registry.Repo{}, fmt.Errorf("a blob %s to mount: %w", d, registry.BlobUnknown)
}
