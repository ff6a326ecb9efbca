package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// maxNamesakes is how many users may want the same name: a search that finds none free among so
// many is one that somebody has led astray.
const maxNamesakes = 1000

// onboard notes what the provider says of a user who logs in, who is made at the first time. A user
// is found by issuer and subject alone: names and addresses are what people choose, and may have
// been another's before. Denied says that it is disabled here, whatever the provider says.
func (a *Access) onboard(ctx context.Context, i identity, remote string) (*user, error) {
	var id int64
	err := a.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		now := time.Now()
		u, err := tx.UserOf(i.issuer, i.subject)
		if errors.Is(err, catalog.ErrNotFound) {
			u, err = newcomer(tx, i, now)
		} else if err == nil && !u.Disabled {
			err = tx.SetIdentity(u.Name, i.email, i.groups)
		}
		if err != nil {
			return err
		}
		id = u.ID
		outcome := registry.Done
		if u.Disabled {
			outcome = registry.Refused
		} else if err := tx.LoggedIn(u.ID, now); err != nil {
			return err
		}
		return tx.AddAudit(tidy(catalog.Entry{
			At: now, Actor: u.Name, Action: login, Kind: Users, Resource: u.Name, Remote: remote, Outcome: outcome, Detail: "by " + i.issuer,
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("log in by the OIDC provider: %w", err)
	}
	if err := a.reload(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	u := a.now.Load().users[id]
	if u == nil || u.Disabled {
		return nil, &registry.Fault{Code: registry.Denied, Message: "your account is disabled here; ask an administrator"}
	}
	return u, nil
}

// newcomer makes a user by the name that it would like to have, or one that begins with it when
// that is somebody's already.
func newcomer(tx *catalog.Tx, i identity, now time.Time) (catalog.User, error) {
	wanted := userName(i.name)
	for n := 1; n <= maxNamesakes; n++ {
		u := catalog.User{Name: wanted, Profile: catalog.Profile{Email: i.email}, Issuer: i.issuer, Subject: i.subject, Groups: i.groups, IdentifiedAt: now}
		if n > 1 {
			u.Name += "-" + strconv.Itoa(n)
		} else if wanted == firstAdmin {
			continue // nobody else is called so, there or not
		}
		id, err := tx.AddUser(u, "")
		if errors.Is(err, catalog.ErrExists) {
			continue
		}
		if err != nil {
			return catalog.User{}, err
		}
		u.ID = id
		return u, tx.AddAudit(tidy(catalog.Entry{
			At: now, Actor: u.Name, Action: registry.Create, Kind: Users, Resource: u.Name, Outcome: registry.Done, Detail: "by " + i.issuer,
		}))
	}
	return catalog.User{}, fmt.Errorf("no name is free that begins with %q", wanted)
}

// userName makes a name of what a provider calls somebody: lower-case letters, digits and what
// checkUser allows between them. Whatever else is in it becomes a "-".
func userName(wanted string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(wanted) {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || b.Len() > 0 && strings.ContainsRune("._-@+", r):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := b.String()
	// Room for a number behind it.
	name = strings.TrimRight(name[:min(len(name), maxUser-5)], "._-@+")
	if name == "" {
		return "user"
	}
	return name
}

// putSecret gives a user another secret for docker login, or none when sum is nil.
func (a *Access) putSecret(r *http.Request, u *user, sum []byte) error {
	detail := "secret made"
	if sum == nil {
		detail = "secret removed"
	}
	return a.change(r.Context(), deed{u.Name, registry.Update, Users, u.Name, detail}, func(tx *catalog.Tx) error {
		// The name may be another's by now.
		now, err := tx.User(u.Name)
		switch {
		case err != nil && !errors.Is(err, catalog.ErrNotFound):
			return err
		case err != nil, now.ID != u.ID, now.Disabled:
			return needed
		}
		return tx.SetSecret(u.Name, sum)
	})
}
