package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// onAccounts are the settings of commands about accounts.
type onAccounts struct {
	onCatalog
}

// with calls fn with the accounts of the data directory.
func (s onAccounts) with(fn func(ctx context.Context, a *access.Access) error) error {
	return s.onCatalog.with(func(ctx context.Context, cfg Config, data *Data) error {
		holding, err := readHolding(ctx, data.Catalog)
		if err != nil {
			return err
		}
		cfg.AdminPassword = "" // the first user is made by the first start of the server
		a, err := openAccess(ctx, cfg, data, slog.New(slog.DiscardHandler), nil, nil)
		if err != nil {
			return err
		}
		// Who may what does not depend on the passwords of registries.
		served, err := holding.over(cfg, func(catalog.Registry) (Secret, error) { return "", nil })
		if err != nil {
			return err
		}
		a.SetProjects(accessProjects(served, holding.beside(cfg)))
		return plain(fn(ctx, a))
	})
}

// plain is an error as people are told it, where there is a text for them.
func plain(err error) error {
	if fault, ok := errors.AsType[*registry.Fault](err); ok && fault.Message != "" {
		return errors.New(fault.Message)
	}
	return err
}

// Users are the commands about people's accounts.
type Users struct {
	Add      UserAdd      `cmd:"" help:"Add a user. Without --password-file it prints the password, once."`
	List     UserList     `cmd:"" help:"List all users."`
	Password UserPassword `cmd:"" help:"Give a user another password. Without --password-file it prints it, once."`
	Admin    UserAdmin    `cmd:"" help:"Make a user an administrator of everything, or no longer one."`
	Disable  UserDisable  `cmd:"" help:"Shut a user out, at once."`
	Enable   UserEnable   `cmd:"" help:"Let a user in again."`
	Delete   UserDelete   `cmd:"" help:"Remove a user, and its roles."`
}

// newPassword are flags that say where a password comes from.
type newPassword struct {
	PasswordFile string `placeholder:"FILE" help:"The file that the password is in; \"-\" is stdin. It needs 8 to 128 characters, both cases and a digit."`
}

// password returns it, and whether it was made up, so that it has to be told.
func (p newPassword) password() (password string, made bool, err error) {
	if p.PasswordFile == "" {
		// Two times 130 bits; clients like Harbor's want both cases and a digit.
		return rand.Text() + strings.ToLower(rand.Text()) + "7", true, nil
	}
	path := p.PasswordFile
	if path == "-" {
		path = ""
	}
	secret, err := secretFrom(path, stdin)
	return string(secret), false, err
}

// tell prints a secret that nobody can be told again: alone on stdout, for scripts.
func tell(std streams, secret, note string, args ...any) {
	fmt.Fprintln(std.out, secret)
	fmt.Fprintf(std.err, note+"\n", args...)
}

// UserAdd is the command of that name.
type UserAdd struct {
	onAccounts
	Name  string `arg:"" help:"What the user logs in as."`
	Admin bool   `help:"It administrates everything."`
	Email string `placeholder:"ADDRESS" help:"Where to reach the user."`
	newPassword
}

// Run adds a user.
func (c *UserAdd) Run(std streams) error {
	password, made, err := c.password()
	if err != nil {
		return err
	}
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.AddUser(ctx, actor, access.NewUser{Name: c.Name, Profile: catalog.Profile{Email: c.Email}, Admin: c.Admin, Password: password}); err != nil {
			return err
		}
		if made {
			tell(std, password, "user %s is there; its password is on stdout, and not shown again", c.Name)
			return nil
		}
		fmt.Fprintf(std.err, "user %s is there\n", c.Name)
		return nil
	})
}

// UserList is the command of that name.
type UserList struct {
	onAccounts
}

// Run lists users.
func (c *UserList) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		users, err := a.Users(ctx)
		if err != nil {
			return err
		}
		return aligned(std.out, func(row func(string, ...any)) {
			row("USER\tEMAIL\tMADE\tLAST LOGIN\tNOTES")
			for _, u := range users {
				var notes []string
				if u.Admin {
					notes = append(notes, "admin")
				}
				if u.Disabled {
					notes = append(notes, "disabled")
				}
				if u.Issuer != "" {
					notes = append(notes, "signs in at "+u.Issuer)
				}
				row("%s\t%s\t%s\t%s\t%s", u.Name, u.Email, timeText(u.CreatedAt, "-"), timeText(u.LastLogin, "never"), strings.Join(notes, ", "))
			}
		})
	})
}

// UserPassword is the command of that name.
type UserPassword struct {
	onAccounts
	Name string `arg:"" help:"Of the user."`
	newPassword
}

// Run changes a password.
func (c *UserPassword) Run(std streams) error {
	password, made, err := c.password()
	if err != nil {
		return err
	}
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.SetPassword(ctx, actor, c.Name, password); err != nil {
			return err
		}
		if made {
			tell(std, password, "the new password of user %s is on stdout, and not shown again", c.Name)
			return nil
		}
		fmt.Fprintf(std.err, "user %s has another password\n", c.Name)
		return nil
	})
}

// UserAdmin is the command of that name.
type UserAdmin struct {
	onAccounts
	Name string `arg:"" help:"Of the user."`
	Off  bool   `help:"It is an administrator no longer."`
}

// Run makes an administrator.
func (c *UserAdmin) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.SetAdmin(ctx, actor, c.Name, !c.Off); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "user %s is %s\n", c.Name, either(c.Off, "no administrator", "an administrator of everything"))
		return nil
	})
}

// UserDisable is the command of that name.
type UserDisable struct {
	onAccounts
	Name string `arg:"" help:"Of the user."`
}

// Run disables a user.
func (c *UserDisable) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.DisableUser(ctx, actor, c.Name, true); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "user %s is shut out\n", c.Name)
		return nil
	})
}

// UserEnable is the command of that name.
type UserEnable struct {
	onAccounts
	Name string `arg:"" help:"Of the user."`
}

// Run enables a user.
func (c *UserEnable) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.DisableUser(ctx, actor, c.Name, false); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "user %s may log in again\n", c.Name)
		return nil
	})
}

// UserDelete is the command of that name.
type UserDelete struct {
	onAccounts
	Name string `arg:"" help:"Of the user."`
}

// Run deletes a user.
func (c *UserDelete) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.DeleteUser(ctx, actor, c.Name); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "user %s is gone\n", c.Name)
		return nil
	})
}
