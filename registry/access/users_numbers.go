package access

import (
	"context"
	"errors"
	"unicode/utf8"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What is here names users by their numbers, as the API does. A number is never that of another
// user again.

// UserByID returns a user; registry.NameUnknown says that there is none of that number.
func (a *Access) UserByID(ctx context.Context, id int64) (catalog.User, error) {
	u, err := a.catalog.UserByID(ctx, id)
	return u, numbered(err, Users, id)
}

// FindUsers lists users in the order of their names: n after the first skip, and how many there are
// in all. n < 0 means no end. It is for administrators.
func (a *Access) FindUsers(ctx context.Context, f catalog.UserFilter, skip, n int) (page []catalog.User, all int, err error) {
	return a.catalog.FindUsers(ctx, f, max(skip, 0), n)
}

// SearchUsers lists the IDs and names of at most n users whose names have some text in them, for
// whoever makes them members (the right {Users, Search}). It looks at no address.
func (a *Access) SearchUsers(ctx context.Context, text string, n int) ([]catalog.User, error) {
	return a.catalog.UserNames(ctx, text, n)
}

// CreateUser is AddUser, and returns the user as it is now, with its ID.
func (a *Access) CreateUser(ctx context.Context, by string, u NewUser) (made catalog.User, err error) {
	if err := checkUser(u.Name); err != nil {
		return catalog.User{}, err
	}
	if err := checkProfile(u.Profile); err != nil {
		return catalog.User{}, err
	}
	if err := checkPassword(u.Password); err != nil {
		return catalog.User{}, err
	}
	hash, detail := hashPassword(u.Password, a.config.cost), ""
	if u.Admin {
		detail = "admin"
	}
	err = a.change(ctx, deed{by, registry.Create, Users, u.Name, detail}, func(tx *catalog.Tx) error {
		if err := unshared(tx, u.Email, 0); err != nil {
			return err
		}
		id, err := tx.AddUser(catalog.User{Name: u.Name, Profile: u.Profile, Admin: u.Admin}, hash)
		if err == nil {
			made, err = tx.UserByID(id)
		}
		return err
	})
	if err != nil {
		return catalog.User{}, err
	}
	return made, nil
}

func checkProfile(p catalog.Profile) error {
	if len(p.Email) > maxUser || p.Email != plain(p.Email) || !utf8.ValidString(p.Email) {
		return improper("email.wrong", "%q is no address", registry.Clip(p.Email))
	}
	for _, text := range []string{p.RealName, p.Comment} {
		if text != plain(text) || !utf8.ValidString(text) {
			return improper("profile.wrong", "%q is longer than %d bytes or has control characters: it cannot be said of a user", registry.Clip(text), maxUser)
		}
	}
	return nil
}

// unshared refuses an address that is another user's: Harbor has none twice. What an OIDC provider says
// is not looked at so, as nobody must be kept from logging in by what another has written here.
func unshared(tx *catalog.Tx, email string, but int64) error {
	if email == "" {
		return nil
	}
	taken, err := tx.EmailTaken(email, but)
	if err == nil && taken {
		err = &registry.Fault{Code: registry.Conflict, Message: "there is a user with the address " + registry.Clip(email) + " already"}
	}
	return err
}

// changeUser changes the user of a number, whom fn is given as it is in the transaction.
func (a *Access) changeUser(ctx context.Context, by string, action registry.Action, id int64, detail string, fn func(*catalog.Tx, catalog.User) error) error {
	u, err := a.UserByID(ctx, id)
	if err != nil {
		return err
	}
	return a.change(ctx, deed{by, action, Users, u.Name, detail}, func(tx *catalog.Tx) error {
		u, err := tx.UserByID(id)
		if err != nil {
			return err // and another of that name may have come
		}
		return fn(tx, u)
	})
}

// SetProfile has fn change what is said of a user. The address that an OIDC provider says of one is
// written again at each login by it, and so is changed there.
func (a *Access) SetProfile(ctx context.Context, by string, id int64, fn func(*catalog.Profile)) error {
	return a.changeUser(ctx, by, registry.Update, id, "profile", func(tx *catalog.Tx, u catalog.User) error {
		next := u.Profile
		fn(&next)
		if err := checkProfile(next); err != nil {
			return err
		}
		if next.Email != u.Email {
			if u.Issuer != "" {
				return improper("user.oidc.email", "user %s logs in at its OIDC provider, which says its address: change it there", u.Name)
			}
			if err := unshared(tx, next.Email, id); err != nil {
				return err
			}
		}
		return tx.SetProfile(u.Name, next)
	})
}

// ResetPassword is SetPassword of the user of a number, for administrators. Its sessions end.
func (a *Access) ResetPassword(ctx context.Context, by string, id int64, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash := hashPassword(password, a.config.cost)
	return a.changeUser(ctx, by, registry.Update, id, "password", func(tx *catalog.Tx, u catalog.User) error {
		if u.Issuer != "" {
			return noPassword(u.Name)
		}
		return tx.SetPassword(u.Name, hash)
	})
}

func noPassword(name string) error {
	return improper("user.oidc.password", "user %s logs in at its OIDC provider and has no password here", name)
}

// ChangePassword gives a user another password by itself, who has to know the old one: whoever finds
// a browser that is logged in does not get the account with it. To guess the old one is limited as
// logins are, from the address remote. All sessions of the user end; the caller signs it in again.
//
// registry.Denied says that the old one is wrong. It is not Unauthorized, as whoever asks is logged
// in.
func (a *Access) ChangePassword(ctx context.Context, id int64, old, password, remote string) error {
	u := a.now.Load().users[id]
	switch {
	case u == nil:
		return numbered(catalog.ErrNotFound, Users, id)
	case u.Issuer != "":
		return noPassword(u.Name)
	}
	if err := checkPassword(password); err != nil {
		return err
	}
	if old == password {
		return improper("password.same", "the new password is the old one: take another")
	}
	if old == "" || utf8.RuneCountInString(old) > maxPassword {
		return oldWrong
	}
	was := u.password
	err := a.prove(u.Name, was, old, remote)
	if errors.Is(err, registry.Unauthorized) {
		return oldWrong
	}
	if err != nil {
		return err
	}
	hash := hashPassword(password, a.config.cost)
	return a.changeUser(ctx, u.Name, registry.Update, id, "password", func(tx *catalog.Tx, u catalog.User) error {
		// An administrator who has set another one meanwhile had a reason.
		err := tx.ReplacePassword(u.Name, was, hash)
		if errors.Is(err, catalog.ErrNotFound) {
			return oldWrong
		}
		return err
	})
}

var oldWrong error = registry.Because(registry.Denied, nil, "password.old", "the old password is wrong")

// SetAdminByID is SetAdmin of the user of a number. The last administrator stays.
func (a *Access) SetAdminByID(ctx context.Context, by string, id int64, admin bool) error {
	detail := "no admin"
	if admin {
		detail = "admin"
	}
	return a.changeUser(ctx, by, registry.Update, id, detail, func(tx *catalog.Tx, u catalog.User) error {
		return keepsAdmin(tx, tx.SetAdmin(u.Name, admin))
	})
}

// DeleteUserByID is DeleteUser of the user of a number. The last administrator stays.
func (a *Access) DeleteUserByID(ctx context.Context, by string, id int64) error {
	return a.changeUser(ctx, by, registry.Delete, id, "", func(tx *catalog.Tx, u catalog.User) error {
		return keepsAdmin(tx, tx.DeleteUser(u.Name))
	})
}
