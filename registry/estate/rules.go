package estate

import (
	"context"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// ReadRules returns a project for its rules of a kind, access.Retention or access.Immutable, or for
// its access.Quotas.
func (e *Estate) ReadRules(ctx context.Context, p registry.Principal, kind registry.Kind, ref Ref) (catalog.Project, error) {
	return e.find(ctx, p, registry.Read, kind, ref)
}

// ChangeRules has fn change the rules of a kind, of a project that has them: a maintainer may do
// that, who may change nothing else of it. action is create, update or delete.
func (e *Estate) ChangeRules(ctx context.Context, p registry.Principal, action registry.Action, kind registry.Kind, ref Ref, fn func(*catalog.Project) error) error {
	return e.alter(ctx, p, action, kind, ref, func(next *catalog.Project) error {
		was := *next
		if err := fn(next); err != nil {
			return err
		}
		kept := was
		switch kind {
		case access.Retention:
			kept.Retention, kept.Schedule, kept.Metadata = next.Retention, next.Schedule, next.Metadata
			kept.Policy.Keep = next.Policy.Keep // which is all that a proxy has of it
		case access.Immutable:
			kept.Immutable, kept.Metadata = next.Immutable, next.Metadata
		}
		*next = kept
		return nil
	})
}

// Quotas lists the projects that people push to, for whoever says how much they may have.
func (e *Estate) Quotas(ctx context.Context, p registry.Principal) ([]Project, error) {
	if err := e.may(p, registry.List, access.Quotas, ""); err != nil {
		return nil, err
	}
	rows, err := e.catalog.AllProjects(ctx)
	if err != nil {
		return nil, err
	}
	return e.dress(ctx, rows)
}

// Quota returns one of them.
func (e *Estate) Quota(ctx context.Context, p registry.Principal, ref Ref) (Project, error) {
	if err := e.may(p, registry.Read, access.Quotas, ""); err != nil {
		return Project{}, err
	}
	row, err := e.lookup(ctx, ref)
	if err != nil {
		return Project{}, err
	}
	all, err := e.dress(ctx, []catalog.Project{row})
	if err != nil {
		return Project{}, err
	}
	return all[0], nil
}

// SetQuota says how much a project may have, in bytes; 0 for any amount. That is nothing for whoever
// administers the project to say.
func (e *Estate) SetQuota(ctx context.Context, p registry.Principal, ref Ref, bytes int64) error {
	if err := e.may(p, registry.Update, access.Quotas, ""); err != nil {
		return err
	}
	row, err := e.lookup(ctx, ref)
	if err != nil {
		return err
	}
	if row.Quota == bytes {
		return nil // a proxy that had none has none
	}
	return e.write(ctx, p, row, registry.Update, access.Quotas, func(next *catalog.Project) error {
		next.Quota = bytes
		return nil
	})
}
