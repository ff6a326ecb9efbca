package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Robots are the commands about accounts of machines.
type Robots struct {
	Add     RobotAdd     `cmd:"" help:"Add a robot and print its secret, once."`
	List    RobotList    `cmd:"" help:"List all robots."`
	Renew   RobotRenew   `cmd:"" help:"Give a robot another secret and print it, once. The old one is void; its end stays."`
	Disable RobotDisable `cmd:"" help:"Shut a robot out, at once."`
	Enable  RobotEnable  `cmd:"" help:"Let a robot in again."`
	Delete  RobotDelete  `cmd:"" help:"Remove a robot."`
}

// endAfter is when a robot ends that may do something for so many days.
func endAfter(days int) (time.Time, error) {
	switch {
	case days < 0:
		return time.Time{}, fmt.Errorf("--days=%d is no number of days; write 1 or more, or 0 for no end", days)
	case days == 0:
		return time.Time{}, nil
	}
	return time.Now().AddDate(0, 0, days), nil
}

// RobotAdd is the command of that name.
type RobotAdd struct {
	onAccounts
	Name        string   `arg:"" help:"What it is called, without \"robot$\" and the project."`
	Project     string   `placeholder:"NAME" help:"The project that it belongs to and is bound to. Default: none, and --permission says where."`
	Permission  []string `sep:"," placeholder:"WORD" help:"What it may do: pull, push, delete or warm, or one right in Harbor's words, RESOURCE/ACTION such as artifact/list. Can be given again. Default: pull, of --project. Without --project: PROJECT:WORD, with \"*\" for all projects and \"/\" for the system."`
	Description string   `placeholder:"TEXT" help:"What it is for."`
	Days        int      `placeholder:"N" help:"It may do nothing after so many days. Default: it has no end."`
}

// Help is the long help.
func (c *RobotAdd) Help() string {
	return `A robot logs in as robot$PROJECT+NAME, or as robot$NAME when it belongs to no project. Its secret is alone on stdout:

    roadstead robot add ci --project production --permission push --days 90 > secret

To push is to pull as well. In a shell, write its name in single quotes: '$' means something there.`
}

// Run adds a robot.
func (c *RobotAdd) Run(std streams) error {
	permissions, err := c.permissions()
	if err != nil {
		return plain(err)
	}
	expires, err := endAfter(c.Days)
	if err != nil {
		return err
	}
	r := catalog.Robot{Project: c.Project, Name: c.Name, Description: c.Description, Permissions: permissions, ExpiresAt: expires}
	return c.with(func(ctx context.Context, a *access.Access) error {
		_, secret, err := a.AddRobot(ctx, actor, r)
		if err != nil {
			return err
		}
		tell(std, secret, "robot %s is there, %s; its secret is on stdout, and not shown again", r.FullName(), until(expires))
		return nil
	})
}

func until(expires time.Time) string {
	if expires.IsZero() {
		return "without an end"
	}
	return "until " + timeText(expires, "") + " UTC"
}

// permissions reads "push", or "production:push" for a robot of no project.
func (c *RobotAdd) permissions() ([]catalog.Permission, error) {
	given := c.Permission
	if len(given) == 0 {
		if c.Project == "" {
			return nil, errors.New("a robot needs to be told where it may pull: write --project PROJECT, or --permission with \"PROJECT:pull\", or with \"*:pull\" for all projects")
		}
		given = []string{"pull"}
	}
	words, exact := map[string][]string{}, map[string][]access.Word{}
	for _, text := range given {
		project, word, found := strings.Cut(text, ":")
		switch {
		case !found && c.Project == "":
			return nil, fmt.Errorf("--permission=%s does not say where: write PROJECT:%s, \"*:%s\" for all projects, or --project", registry.Clip(text), registry.Clip(text), registry.Clip(text))
		case !found:
			project, word = c.Project, text
		}
		if resource, action, ok := strings.Cut(word, "/"); ok {
			exact[project] = append(exact[project], access.Word{Resource: resource, Action: action})
			continue
		}
		words[project] = append(words[project], word)
	}
	var all []catalog.Permission
	for _, project := range slices.Sorted(maps.Keys(words)) {
		p, err := access.Permit(project, words[project]...)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, project := range slices.Sorted(maps.Keys(exact)) {
		p, err := access.PermissionOf(either(project == access.SystemScope, "system", "project"), project, exact[project])
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(other catalog.Permission) bool { return other.Project == project })
		if i < 0 {
			all = append(all, p)
			continue
		}
		for _, a := range p.Access {
			if !slices.Contains(all[i].Access, a) {
				all[i].Access = append(all[i].Access, a)
			}
		}
	}
	return all, nil
}

// RobotList is the command of that name.
type RobotList struct {
	onAccounts
}

// Run lists robots.
func (c *RobotList) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		robots, err := a.Robots(ctx)
		if err != nil {
			return err
		}
		return aligned(std.out, func(row func(string, ...any)) {
			row("ROBOT\tMAY\tEXPIRES\tNOTES")
			for _, r := range robots {
				notes := []string{}
				if r.Disabled {
					notes = append(notes, "disabled")
				}
				if !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(time.Now()) {
					notes = append(notes, "EXPIRED")
				}
				if r.Description != "" {
					notes = append(notes, r.Description)
				}
				row("%s\t%s\t%s\t%s", r.FullName(), strings.Join(permitted(r), ", "), timeText(r.ExpiresAt, "never"), strings.Join(notes, ", "))
			}
		})
	})
}

// permitted says what a robot may do, in the words that it is added with where they fit.
func permitted(r catalog.Robot) []string {
	var all []string
	for _, p := range r.Permissions {
		var words []string
		for _, a := range p.Access {
			switch a {
			case catalog.Access{Kind: registry.Repository, Action: registry.Pull}, catalog.Access{Kind: registry.Repository, Action: registry.Push}:
				words = append(words, string(a.Action))
			case catalog.Access{Kind: registry.Artifact, Action: registry.Delete}:
				words = append(words, "delete")
			case catalog.Access{Kind: access.Cache, Action: registry.Create}:
				words = append(words, "warm")
			case catalog.Access{Kind: registry.Tags, Action: registry.Create}, catalog.Access{Kind: registry.Tags, Action: registry.Delete}:
				// part of push and of delete
			default:
				words = append(words, string(a.Action)+" "+string(a.Kind))
			}
		}
		prefix := p.Project + ": "
		if p.Project == r.Project {
			prefix = ""
		}
		all = append(all, prefix+cmp.Or(strings.Join(words, " "), "nothing"))
	}
	return all
}

// RobotRenew is the command of that name.
type RobotRenew struct {
	onAccounts
	Name string `arg:"" help:"The full name, robot$NAME or robot$PROJECT+NAME."`
	Days *int   `placeholder:"N" help:"It may do nothing after so many days from now; 0: it has no end. Default: its end stays as it is."` // nil: not given
}

// Run renews a robot's secret.
func (c *RobotRenew) Run(std streams) error {
	end := access.End{}
	if c.Days != nil {
		at, err := endAfter(*c.Days)
		if err != nil {
			return err
		}
		end = access.End{Change: true, At: at}
	}
	return c.with(func(ctx context.Context, a *access.Access) error {
		secret, expires, err := a.RenewRobot(ctx, actor, c.Name, end)
		if err != nil {
			return err
		}
		tell(std, secret, "robot %s has another secret, %s; it is on stdout, and not shown again", c.Name, until(expires))
		return nil
	})
}

// RobotDisable is the command of that name.
type RobotDisable struct {
	onAccounts
	Name string `arg:"" help:"The full name, robot$NAME or robot$PROJECT+NAME."`
}

// Run disables a robot.
func (c *RobotDisable) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.DisableRobot(ctx, actor, c.Name, true); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "robot %s is shut out\n", c.Name)
		return nil
	})
}

// RobotEnable is the command of that name.
type RobotEnable struct {
	onAccounts
	Name string `arg:"" help:"The full name, robot$NAME or robot$PROJECT+NAME."`
}

// Run enables a robot.
func (c *RobotEnable) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.DisableRobot(ctx, actor, c.Name, false); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "robot %s may log in again\n", c.Name)
		return nil
	})
}

// RobotDelete is the command of that name.
type RobotDelete struct {
	onAccounts
	Name string `arg:"" help:"The full name, robot$NAME or robot$PROJECT+NAME."`
}

// Run deletes a robot.
func (c *RobotDelete) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		if err := a.DeleteRobot(ctx, actor, c.Name); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "robot %s is gone\n", c.Name)
		return nil
	})
}
