package main

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"roadstead/registry/access"
)

// Audit is the command of that name.
type Audit struct {
	onAccounts
	Since durationFlag `default:"24h" placeholder:"TIME" help:"How far back: 24h, 7d."`
	N     int          `short:"n" default:"1000" placeholder:"N" help:"How many of the newest at most."`
	JSON  bool         `help:"One JSON object per line."`
}

// Help is the long help.
func (c *Audit) Help() string {
	return `Lists who logged in, pushed, deleted and administered, the oldest first. Pulls are in the server's log. Nothing in the audit log is changed, and records go when they are older than the configuration keeps them.`
}

// Run lists the audit log.
func (c *Audit) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		entries, err := a.Audit(ctx, time.Now().Add(-time.Duration(c.Since)), c.N)
		if err != nil {
			return err
		}
		if c.JSON {
			out := json.NewEncoder(std.out)
			for _, e := range entries {
				if err := out.Encode(e); err != nil {
					return err
				}
			}
			return nil
		}
		return aligned(std.out, func(row func(string, ...any)) {
			row("TIME (UTC)\tWHO\tFROM\tDID\tTO\tOUTCOME\tDETAIL")
			for _, e := range entries {
				to := e.Resource
				if e.Reference != "" {
					to += " " + e.Reference
				}
				row("%s\t%s\t%s\t%s %s\t%s\t%s\t%s", e.At.UTC().Format(time.DateTime), cmp.Or(e.Actor, "(anybody)"), cmp.Or(e.Remote, "-"), e.Action, e.Kind, to, e.Outcome, e.Detail)
			}
		})
	})
}
