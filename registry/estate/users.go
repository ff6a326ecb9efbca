package estate

import (
	"context"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Users lists a page of the users that are looked for, and how many there are.
func (e *Estate) Users(ctx context.Context, p registry.Principal, f catalog.UserFilter, skip, n int) ([]catalog.User, int, error) {
	if err := e.may(p, registry.List, access.Users, ""); err != nil {
		return nil, 0, err
	}
	return e.access.FindUsers(ctx, f, skip, n)
}

// SearchUsers lists at most n users by a part of their names, for whoever makes them members.
func (e *Estate) SearchUsers(ctx context.Context, p registry.Principal, text string, n int) ([]catalog.User, error) {
	if err := e.may(p, access.Search, access.Users, ""); err != nil {
		return nil, err
	}
	return e.access.SearchUsers(ctx, text, n)
}

// self reports whether somebody is the user of a number.
func (e *Estate) self(p registry.Principal, id int64) bool {
	_, user, _, _ := e.access.Describe(p)
	return user != nil && user.ID == id
}

// User returns a user: to itself, or to whoever may look at all.
func (e *Estate) User(ctx context.Context, p registry.Principal, id int64) (catalog.User, error) {
	if !e.self(p, id) {
		if err := e.may(p, registry.Read, access.Users, ""); err != nil {
			return catalog.User{}, err
		}
	}
	return e.access.UserByID(ctx, id)
}

// AddUser makes a user.
func (e *Estate) AddUser(ctx context.Context, p registry.Principal, u access.NewUser) (catalog.User, error) {
	if err := e.may(p, registry.Create, access.Users, ""); err != nil {
		return catalog.User{}, err
	}
	return e.access.CreateUser(ctx, p.Name(), u)
}

// SetProfile has fn change what is said of a user, who may do so itself.
func (e *Estate) SetProfile(ctx context.Context, p registry.Principal, id int64, fn func(*catalog.Profile)) error {
	if !e.self(p, id) {
		if err := e.may(p, registry.Update, access.Users, ""); err != nil {
			return err
		}
	}
	return e.access.SetProfile(ctx, p.Name(), id, fn)
}

// SetPassword gives a user another password. Itself it has to know the old one.
func (e *Estate) SetPassword(ctx context.Context, p registry.Principal, id int64, old, password, remote string) error {
	if e.self(p, id) {
		return e.access.ChangePassword(ctx, id, old, password, remote)
	}
	if err := e.may(p, registry.Update, access.Users, ""); err != nil {
		return err
	}
	return e.access.ResetPassword(ctx, p.Name(), id, password)
}

// SetAdmin makes a user one who administers everything, or no longer one.
func (e *Estate) SetAdmin(ctx context.Context, p registry.Principal, id int64, admin bool) error {
	if err := e.may(p, registry.Update, access.Users, ""); err != nil {
		return err
	}
	return e.access.SetAdminByID(ctx, p.Name(), id, admin)
}

// DeleteUser removes a user.
func (e *Estate) DeleteUser(ctx context.Context, p registry.Principal, id int64) error {
	if err := e.may(p, registry.Delete, access.Users, ""); err != nil {
		return err
	}
	return e.access.DeleteUserByID(ctx, p.Name(), id)
}
