package access

import (
	"context"
	"errors"
	"strings"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// NewUser is a user to be added.
type NewUser struct {
	Name string
	catalog.Profile
	Admin    bool
	Password string // see SetPassword
}

// maxUser is the longest name of a user, in bytes, as in Harbor.
const maxUser = 255

// checkUser says whether a user may be called that: what can be written in a Basic header, a
// command line and a log without a second thought. "$" would make it a robot.
func checkUser(name string) error {
	const more = "._-@+"
	ok := name != "" && len(name) <= maxUser && !strings.ContainsAny(name[:1], more)
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(more, c) >= 0
	}
	if !ok {
		return improper("user.name", "%q cannot be the name of a user: it is 1 to %d letters, digits and the signs %s, a letter or digit first", registry.Clip(name), maxUser, more)
	}
	return nil
}

// CheckUser says whether a user may be called that, for whoever prepares to add one.
func CheckUser(name string) error { return checkUser(name) }

// firstAdmin is the name of the user that the first start makes.
const firstAdmin = "admin"

// firstUser makes the first user when there is none.
func (a *Access) firstUser(ctx context.Context) error {
	password := a.config.AdminPassword
	if password == "" && a.config.Announce == nil {
		return nil
	}
	users, err := a.catalog.Users(ctx)
	if err != nil || len(users) > 0 {
		return err
	}
	made := password == ""
	if made {
		password = newSecret()
	}
	if err := checkPassword(password); err != nil {
		fault, _ := errors.AsType[*registry.Fault](err)
		return invalid("the password for the first start: %s", fault.Message)
	}
	hash := hashPassword(password, a.config.cost)
	late := errors.New("another process was quicker")
	err = a.change(ctx, deed{by: "first start", action: registry.Create, kind: Users, name: firstAdmin, detail: "admin"}, func(tx *catalog.Tx) error {
		users, _, err := tx.CountUsers()
		if err == nil && users > 0 {
			err = late
		}
		if err == nil {
			_, err = tx.AddUser(catalog.User{Name: firstAdmin, Admin: true}, hash)
		}
		return err
	})
	switch {
	case errors.Is(err, late):
		return nil
	case err != nil:
		return err
	case made:
		a.config.Announce(firstAdmin, password)
	}
	return nil
}

// Users lists all users, in the order of their names.
func (a *Access) Users(ctx context.Context) ([]catalog.User, error) { return a.catalog.Users(ctx) }

// AddUser adds a user who logs in with a password.
func (a *Access) AddUser(ctx context.Context, by string, u NewUser) error {
	_, err := a.CreateUser(ctx, by, u)
	return err
}

// SetPassword gives a user another password: 8 to 128 characters, with an upper-case letter, a
// lower-case letter and a digit. A user of an OIDC provider has none.
func (a *Access) SetPassword(ctx context.Context, by, name, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash := hashPassword(password, a.config.cost)
	return a.change(ctx, deed{by, registry.Update, Users, name, "password"}, func(tx *catalog.Tx) error {
		u, err := tx.User(name)
		if err == nil && u.Issuer != "" {
			err = noPassword(name)
		}
		if err == nil {
			err = tx.SetPassword(name, hash)
		}
		return err
	})
}

// SetAdmin makes a user an administrator of everything, or no longer one. The last one stays.
func (a *Access) SetAdmin(ctx context.Context, by, name string, admin bool) error {
	detail := "no admin"
	if admin {
		detail = "admin"
	}
	return a.change(ctx, deed{by, registry.Update, Users, name, detail}, func(tx *catalog.Tx) error {
		return keepsAdmin(tx, tx.SetAdmin(name, admin))
	})
}

// DisableUser shuts a user out at once, or lets it in again. The last administrator stays.
func (a *Access) DisableUser(ctx context.Context, by, name string, disabled bool) error {
	action := enable
	if disabled {
		action = disable
	}
	return a.change(ctx, deed{by, action, Users, name, ""}, func(tx *catalog.Tx) error {
		return keepsAdmin(tx, tx.SetDisabled(name, disabled))
	})
}

// DeleteUser removes a user and what it is a member of. The last administrator stays.
func (a *Access) DeleteUser(ctx context.Context, by, name string) error {
	return a.change(ctx, deed{by, registry.Delete, Users, name, ""}, func(tx *catalog.Tx) error {
		return keepsAdmin(tx, tx.DeleteUser(name))
	})
}

// keepsAdmin refuses a change that leaves no administrator, once it is made and before it is
// committed. Those whom a group of the OIDC provider makes one do not count: the provider may be
// away.
func keepsAdmin(tx *catalog.Tx, err error) error {
	if err != nil {
		return err
	}
	users, admins, err := tx.CountUsers()
	if err == nil && admins == 0 && users > 0 {
		err = registry.Because(registry.Denied, nil, "user.last", "this is the last administrator who can log in: make another user one first")
	}
	return err
}
