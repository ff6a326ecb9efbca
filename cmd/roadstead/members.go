package main

import (
	"context"
	"fmt"

	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Members are the commands about who has which role in a project.
type Members struct {
	Add    MemberAdd    `cmd:"" help:"Give a user or a group a role in a project, instead of the one it may have."`
	List   MemberList   `cmd:"" help:"List the members of a project."`
	Remove MemberRemove `cmd:"" help:"Take a role away, at once."`
}

// member are the arguments that name one.
type member struct {
	Project string `arg:"" help:"The project, hosted or a proxy."`
	Name    string `arg:"" help:"Of a user, or with --group of a group of the OIDC provider."`
	Group   bool   `help:"The name is that of a group."`
}

func (m member) called() string { return either(m.Group, "group ", "user ") + m.Name }

// MemberAdd is the command of that name.
type MemberAdd struct {
	onAccounts
	member
	Role string `required:"" placeholder:"ROLE" help:"limitedGuest and guest pull, developer pushes too, maintainer deletes too, projectAdmin has it all and gives out roles."`
}

// Run adds a member.
func (c *MemberAdd) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		err := a.SetMember(ctx, actor, catalog.Member{Project: c.Project, Name: c.Name, Group: c.Group, Role: c.Role})
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s is %s in project %s\n", c.called(), c.Role, c.Project)
		return nil
	})
}

// MemberList is the command of that name.
type MemberList struct {
	onAccounts
	Project string `arg:"" help:"The project, hosted or a proxy."`
}

// Run lists members.
func (c *MemberList) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		members, err := a.Members(ctx, c.Project)
		if err != nil {
			return err
		}
		return aligned(std.out, func(row func(string, ...any)) {
			row("MEMBER\tKIND\tROLE")
			for _, m := range members {
				row("%s\t%s\t%s", m.Name, either(m.Group, "group", "user"), m.Role)
			}
		})
	})
}

// MemberRemove is the command of that name.
type MemberRemove struct {
	onAccounts
	member
}

// Run removes a member.
func (c *MemberRemove) Run(std streams) error {
	return c.with(func(ctx context.Context, a *access.Access) error {
		err := a.RemoveMember(ctx, actor, catalog.Member{Project: c.Project, Name: c.Name, Group: c.Group})
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s is no member of project %s any more\n", c.called(), c.Project)
		return nil
	})
}
