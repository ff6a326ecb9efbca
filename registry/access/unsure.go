package access

import (
	"context"
	"errors"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Accounts are read from the catalog, and what is decided by is as old as its last answer. While it is
// away that goes on to count for a while, and then nothing is allowed to anybody that is not for
// everybody: elsewhere somebody may have taken it away meanwhile (FAULTS S14, C14).

// trust is for how long after the catalog's last answer accounts count. A token is good for as long
// without anybody being asked, and a database that fails over is back much sooner.
const trust = tokenLife

// errUnsure is said of all that takes an account while it is not known what that may.
var errUnsure error = &registry.Fault{
	Code:       registry.Unavailable,
	Message:    "who may do this is not known now, because the catalog of accounts is away: try again later",
	RetryAfter: 5 * time.Second,
	Err:        catalog.ErrUnavailable,
}

// unsure reports whether accounts are not known, or have not been for too long.
func (a *Access) unsure() bool {
	if !a.begun.Load() {
		return true
	}
	lost := a.lost.Load()
	return lost != 0 && time.Since(time.Unix(0, lost)) > trust
}

// Sure reports whether it is known who may do what. While it is not, only what is for everybody is
// allowed.
func (a *Access) Sure() bool { return !a.unsure() }

// listened notes that the catalog was asked for changes, and what came of it.
func (a *Access) listened(err error, began time.Time) {
	a.asking.Lock()
	defer a.asking.Unlock()
	switch {
	case !errors.Is(err, catalog.ErrUnavailable):
		a.answered = began
		a.lost.Store(0)
	case a.lost.Load() == 0:
		if a.answered.IsZero() {
			a.answered = began
		}
		a.lost.Store(a.answered.UnixNano())
	}
	if err != nil && !a.troubled {
		a.log.Error("accounts may be older than the catalog", "err", err)
	}
	a.troubled = err != nil
}

// Begin reads the keys and accounts of an Access that was opened while the catalog was away, and makes
// the first of them if there are none. It may be called again.
func (a *Access) Begin(ctx context.Context) error {
	// Keys first: whoever is known is given a token.
	if a.shared != nil {
		if err := a.shared.takeOverAll(ctx, keyFolder(a.config.Directory), a.log); err != nil {
			return err
		}
	}
	if err := a.keys.begin(time.Now()); err != nil {
		return err
	}
	if err := a.firstUser(ctx); err != nil {
		return err
	}
	if err := a.reload(ctx); err != nil {
		return err
	}
	a.begun.Store(true)
	return nil
}

// everybody reports whether anybody may do something, whoever that is.
func (s *snapshot) everybody(what right, project string) bool {
	p, there := s.projects[project]
	return there && p.Public && what.looks()
}
