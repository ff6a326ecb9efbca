package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Permit makes a permission of a robot out of words: "pull", "push", which is of no use without
// pull and has it, "delete", and "warm", which has a proxy fetch images. project may be "*": all of them.
func Permit(project string, words ...string) (catalog.Permission, error) {
	p := catalog.Permission{Project: project}
	add := func(kind registry.Kind, action registry.Action) {
		if a := (catalog.Access{Kind: kind, Action: action}); !slices.Contains(p.Access, a) {
			p.Access = append(p.Access, a)
		}
	}
	if len(words) == 0 {
		return p, invalid("a robot that may do nothing is of no use: name pull, push, delete or warm")
	}
	for _, word := range words {
		switch word {
		case "pull":
			add(registry.Repository, registry.Pull)
		case "push":
			add(registry.Repository, registry.Pull)
			add(registry.Repository, registry.Push)
			add(registry.Tags, registry.Create)
		case "delete":
			add(registry.Artifact, registry.Delete)
			add(registry.Tags, registry.Delete)
		case "warm":
			add(Cache, registry.Create)
		default:
			return p, invalid("%q is nothing that a robot may do: pull, push, delete or warm", registry.Clip(word))
		}
	}
	return p, nil
}

// SplitRobot cuts the full name of a robot into its project, "" for one of the system, and its
// name: "robot$name" or "robot$project+name".
func SplitRobot(full string) (project, name string, err error) {
	rest, ok := strings.CutPrefix(full, "robot$")
	if !ok {
		return "", "", invalid("%q is no robot: those are called robot$name or robot$project+name", registry.Clip(full))
	}
	project, name, ok = strings.Cut(rest, "+")
	if !ok {
		return "", rest, nil
	}
	return project, name, nil
}

// Robots lists all robots, those of the system first.
func (a *Access) Robots(ctx context.Context) ([]catalog.Robot, error) { return a.catalog.Robots(ctx) }

// AddRobot adds a robot, disabled if r is, and returns it as it is now, with its ID, and its secret,
// which nobody can be told again.
func (a *Access) AddRobot(ctx context.Context, by string, r catalog.Robot) (made catalog.Robot, secret string, err error) {
	if err := a.checkRobot(r); err != nil {
		return catalog.Robot{}, "", err
	}
	if err := checkEnd(r.ExpiresAt); err != nil {
		return catalog.Robot{}, "", err
	}
	secret = newSecret()
	err = a.change(ctx, deed{by, registry.Create, Robots, r.FullName(), summary(r)}, func(tx *catalog.Tx) error {
		id, err := tx.AddRobot(r, sumOf(secret))
		if err == nil {
			made, err = tx.RobotByID(id)
		}
		return err
	})
	if err != nil {
		return catalog.Robot{}, "", err
	}
	return made, secret, nil
}

func checkEnd(expires time.Time) error {
	if !expires.IsZero() && expires.Before(time.Now()) {
		return improper("robot.ended", "the robot would have expired already: give a number of days, or none for no end")
	}
	return nil
}

// checkRobot says whether a robot may be like that, by Harbor's grammar of names.
func (a *Access) checkRobot(r catalog.Robot) error {
	if registry.CheckProject(r.Name) != nil {
		return improper("robot.wrong", "%q cannot be the name of a robot: it is lower-case letters and digits joined by single '.', '_' or '-'", registry.Clip(r.Name))
	}
	if r.Project != "" {
		if err := a.checkProject(r.Project); err != nil {
			return err
		}
	}
	if len(r.Description) > 1<<10 || strings.ContainsFunc(r.Description, func(c rune) bool { return c < ' ' }) {
		return improper("robot.description", "the description is longer than 1024 bytes or has control characters")
	}
	if len(r.Permissions) == 0 {
		return improper("robot.idle", "a robot that may do nothing is of no use: give it a permission")
	}
	for _, p := range r.Permissions {
		switch {
		case r.Project != "" && p.Project != r.Project:
			return invalid("a robot of project %s may do nothing in %s: make a robot of the system for that", r.Project, registry.Clip(p.Project))
		case p.Project != "*" && p.Project != SystemScope && registry.CheckProject(p.Project) != nil:
			return invalid("%q is no project", registry.Clip(p.Project))
		case len(p.Access) == 0:
			return invalid("a permission that allows nothing is of no use")
		}
		for _, access := range p.Access {
			if system := p.Project == SystemScope; !permitted(access, system) {
				return notPermitted(access, system)
			}
		}
	}
	return nil
}

// summary is what the audit log says of a robot.
func summary(r catalog.Robot) string {
	var parts []string
	for _, p := range r.Permissions {
		for _, access := range p.Access {
			parts = append(parts, fmt.Sprintf("%s:%s:%s", p.Project, access.Kind, access.Action))
		}
	}
	return strings.Join(parts, " ")
}

// End is when a robot that is renewed ends from then on. The zero value leaves it as it is.
type End struct {
	Change bool
	At     time.Time // zero: it has no end
}

// RenewRobot gives a robot another secret, and another end if there is to be one, and returns the secret and
// the end that it has then. The old secret is void at once. One that has expired has to get another end: the
// secret would be of no use.
func (a *Access) RenewRobot(ctx context.Context, by, full string, end End) (secret string, expires time.Time, err error) {
	project, name, err := SplitRobot(full)
	if err != nil {
		return "", time.Time{}, err
	}
	detail := "secret"
	if end.Change {
		if err := checkEnd(end.At); err != nil {
			return "", time.Time{}, err
		}
		detail += ", " + endsAt(end.At)
	}
	secret = newSecret()
	err = a.change(ctx, deed{by, registry.Update, Robots, full, detail}, func(tx *catalog.Tx) error {
		expires = end.At
		if !end.Change {
			r, err := tx.Robot(project, name)
			if err != nil {
				return err
			}
			if expires = r.ExpiresAt; checkEnd(expires) != nil {
				return invalid("%s has expired, and another secret changes nothing of that: give it another number of days as well, or 0 for no end", full)
			}
		}
		return tx.RenewRobot(project, name, sumOf(secret), expires)
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return secret, expires, nil
}

// endsAt is what the audit log says of the end of a robot.
func endsAt(expires time.Time) string {
	if expires.IsZero() {
		return "without an end"
	}
	return "until " + expires.UTC().Format(time.RFC3339)
}

// DisableRobot shuts a robot out at once, or lets it in again.
func (a *Access) DisableRobot(ctx context.Context, by, full string, disabled bool) error {
	project, name, err := SplitRobot(full)
	if err != nil {
		return err
	}
	action := enable
	if disabled {
		action = disable
	}
	return a.change(ctx, deed{by, action, Robots, full, ""}, func(tx *catalog.Tx) error {
		return tx.DisableRobot(project, name, disabled)
	})
}

// DeleteRobot removes a robot.
func (a *Access) DeleteRobot(ctx context.Context, by, full string) error {
	project, name, err := SplitRobot(full)
	if err != nil {
		return err
	}
	return a.change(ctx, deed{by, registry.Delete, Robots, full, ""}, func(tx *catalog.Tx) error {
		return tx.DeleteRobot(project, name)
	})
}
