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

// remoteKey is the key under which a context has the address that a request came from.
type remoteKey struct{}

// From returns a context in which what is administered is recorded with the address of whoever asks
// for it. It goes with the context as it decides nothing and all that is administered has one.
func From(ctx context.Context, remote string) context.Context {
	return context.WithValue(ctx, remoteKey{}, remote)
}

// deed is what is administered, as the audit log has it.
type deed struct {
	by     string
	action registry.Action
	kind   registry.Kind
	name   string
	detail string // never a secret
}

// Audited runs fn in a transaction of the catalog together with the record of it in the audit log,
// so that what another room changes is recorded if it is changed, and changed if it is recorded.
// by is whoever does it, and kind and name are what it is done to; detail says more, and is never a
// secret. Nothing of it stays when fn returns an error.
//
// catalog.ErrNotFound and catalog.ErrExists of fn become registry.NameUnknown and registry.Conflict
// with a message of kind and name; other errors come back with what was being done in front of them.
// Accounts are in force as they are now when it returns. What fn does must be short: nobody else
// writes meanwhile.
//
// It takes so many things one by one because that is how all of its callers have them, each once.
func (a *Access) Audited(ctx context.Context, by string, action registry.Action, kind registry.Kind, name, detail string, fn func(*catalog.Tx) error) error {
	return a.change(ctx, deed{by, action, kind, name, detail}, fn)
}

// change changes accounts and records it, both or neither, and decides by it at once.
func (a *Access) change(ctx context.Context, d deed, fn func(*catalog.Tx) error) error {
	remote, _ := ctx.Value(remoteKey{}).(string) // none: a command, or the house itself
	err := a.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return tx.AddAudit(tidy(catalog.Entry{
			At: time.Now(), Actor: d.by, Action: d.action, Kind: d.kind, Resource: d.name, Remote: remote, Outcome: registry.Done, Detail: d.detail,
		}))
	})
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return registry.Because(registry.NameUnknown, err, "unknown", "there is no %s %s", d.kind, d.name)
	case errors.Is(err, catalog.ErrExists):
		return registry.Because(registry.Conflict, err, "taken", "there is a %s %s already", d.kind, d.name)
	case err != nil:
		return fmt.Errorf("%s %s %s: %w", d.action, d.kind, d.name, err)
	}
	// It is done, whoever waits for it no longer; what is decided by must follow.
	if err := a.reload(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%s %s %s: done, but not in force yet: %w", d.action, d.kind, d.name, err)
	}
	return nil
}
