package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Whoever administers is named with each change: a user's name, or how the operator of a command
// is called. Rights are checked by who calls; what is checked here holds for everybody.
//
// Errors are of three kinds that a client may be told: Invalid (what was given is not taken),
// registry.NameUnknown (there is no such thing) and registry.Conflict (there is one already).
// registry.Denied says that it would leave nobody who could administer.

// Actions of administration beside create, update and delete.
const (
	enable  registry.Action = "enable"
	disable registry.Action = "disable"
)

// deed is what is administered, as the audit log has it.
type deed struct {
	by     string
	action registry.Action
	kind   registry.Kind
	name   string
	detail string // never a secret
}

// change changes accounts and records it, both or neither, and decides by it at once.
func (a *Access) change(ctx context.Context, d deed, fn func(*catalog.Tx) error) error {
	err := a.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.AddAudit(tidy(catalog.Entry{
			At: time.Now(), Actor: d.by, Action: d.action, Kind: d.kind, Resource: d.name, Outcome: registry.Done, Detail: d.detail,
		}))
	})
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf("there is no %s %s", d.kind, d.name), Err: err}
	case errors.Is(err, catalog.ErrExists):
		return &registry.Fault{Code: registry.Conflict, Message: fmt.Sprintf("there is a %s %s already", d.kind, d.name), Err: err}
	case err != nil:
		return fmt.Errorf("%s %s %s: %w", d.action, d.kind, d.name, err)
	}
	// It is done, whoever waits for it no longer; what is decided by must follow.
	if err := a.reload(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%s %s %s: done, but not in force yet: %w", d.action, d.kind, d.name, err)
	}
	return nil
}
