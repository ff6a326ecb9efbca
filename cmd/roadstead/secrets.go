package main

import (
	"context"
	"fmt"

	"roadstead/registry/access"
)

// Secrets are the commands about what the server has to know of others: passwords of upstreams and
// the client's secret of the OIDC provider. What is stored is encrypted, and never shown again.
type Secrets struct {
	Set    SecretSet    `cmd:"" help:"Store a secret that is read from stdin, instead of the one of that name."`
	List   SecretList   `cmd:"" help:"List the names of the stored secrets."`
	Delete SecretDelete `cmd:"" help:"Forget a secret."`
}

// SecretSet is the command of that name.
type SecretSet struct {
	onAccounts
	Name string `arg:"" help:"What the configuration calls it, in password_secret or client_secret_name."`
}

// Run stores a secret.
func (c *SecretSet) Run(std streams) error {
	value, err := secretFrom("", stdin)
	if err != nil {
		return err
	}
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.PutSecret(ctx, actor, c.Name, string(value)); err != nil {
			return err
		}
		fmt.Fprintf(std.err, "secret %s is stored\n", c.Name)
		return nil
	})
}

// SecretList is the command of that name.
type SecretList struct {
	onAccounts
}

// Run lists secrets.
func (c *SecretList) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		names, err := a.Secrets(ctx)
		for _, name := range names {
			fmt.Fprintln(std.out, name)
		}
		return err
	})
}

// SecretDelete is the command of that name.
type SecretDelete struct {
	onAccounts
	Name string `arg:"" help:"Of the secret."`
}

// Run forgets a secret.
func (c *SecretDelete) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.DeleteSecret(ctx, actor, c.Name); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "secret %s is gone\n", c.Name)
		return nil
	})
}
