package access

import (
	"context"
	"errors"
	"fmt"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What is here names robots by their numbers, as the API does. A number is never that of another
// robot again, and a robot keeps its name and its project.

// RobotByID returns a robot; registry.NameUnknown says that there is none of that number.
func (a *Access) RobotByID(ctx context.Context, id int64) (catalog.Robot, error) {
	r, err := a.catalog.RobotByID(ctx, id)
	return r, numbered(err, Robots, id)
}

// numbered tells of what is not there by its number.
func numbered(err error, kind registry.Kind, id int64) error {
	if errors.Is(err, catalog.ErrNotFound) {
		return &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf("there is no %s with the number %d", kind, id), Err: err}
	}
	return err
}

// UpdateRobot lets change set the description, the permissions and the end of a robot, and whether
// it is disabled, and returns the robot as it is then. Its name and its project stay as they are. A
// robot that has expired stays so unless it gets another end.
//
// change may be called twice, the last time with the robot as it is when nobody else can change it:
// what others have taken from it meanwhile does not come back. Its error is returned.
func (a *Access) UpdateRobot(ctx context.Context, by string, id int64, change func(*catalog.Robot) error) (catalog.Robot, error) {
	was, err := a.RobotByID(ctx, id)
	if err != nil {
		return catalog.Robot{}, err
	}
	is, err := changed(was, change)
	if err != nil {
		return catalog.Robot{}, err
	}
	if err := a.checkRobot(is); err != nil {
		return catalog.Robot{}, err
	}
	detail := summary(is)
	if is.Disabled != was.Disabled {
		detail = map[bool]string{true: "disabled ", false: "enabled "}[is.Disabled] + detail
	}
	if !is.ExpiresAt.Equal(was.ExpiresAt) {
		detail = endsAt(is.ExpiresAt) + " " + detail
	}
	err = a.change(ctx, deed{by, registry.Update, Robots, was.FullName(), detail}, func(tx *catalog.Tx) error {
		// Another change may have come first: this one is made to what is there now.
		now, err := tx.RobotByID(id)
		if err != nil {
			return err
		}
		if is, err = changed(now, change); err != nil {
			return err
		}
		if err := a.checkRobot(is); err != nil {
			return err
		}
		if !is.ExpiresAt.Equal(now.ExpiresAt) {
			if err := checkEnd(is.ExpiresAt); err != nil {
				return err
			}
		}
		return tx.UpdateRobot(is)
	})
	if err != nil {
		return catalog.Robot{}, err
	}
	return is, nil
}

// changed is a robot after a change of what can be changed.
func changed(r catalog.Robot, change func(*catalog.Robot) error) (catalog.Robot, error) {
	is := r
	if err := change(&is); err != nil {
		return catalog.Robot{}, err
	}
	is.ID, is.Project, is.Name, is.CreatedAt = r.ID, r.Project, r.Name, r.CreatedAt
	return is, nil
}

// SetRobotSecret gives a robot another secret; the old one is void at once. An empty one makes a
// secret of 256 bits, which is returned and which nobody can be told again. One that was chosen has
// to be like a password, by Harbor's rule, and "" is returned.
//
// Harbor takes any secret of eight characters, and scripts and states of Terraform have such ones.
// To refuse those would mean to change clients. But a secret that somebody chose can be guessed,
// from a copy of the catalog with a fast hash a billion times a second. So it is kept as passwords
// are: with argon2id, and with a limit to how often a wrong one can be tried.
func (a *Access) SetRobotSecret(ctx context.Context, by string, id int64, secret string) (made string, err error) {
	r, err := a.RobotByID(ctx, id)
	if err != nil {
		return "", err
	}
	var (
		sum  []byte
		hash string
	)
	if secret == "" {
		made = newSecret()
		sum = sumOf(made)
	} else {
		if err := checkPassword(secret); err != nil {
			fault, _ := errors.AsType[*registry.Fault](err)
			return "", invalid("a secret that is chosen is like a password: %s", fault.Message)
		}
		hash = hashPassword(secret, a.config.cost)
	}
	err = a.change(ctx, deed{by, registry.Update, Robots, r.FullName(), "secret"}, func(tx *catalog.Tx) error {
		return tx.SetRobotSecret(id, sum, hash)
	})
	if err != nil {
		return "", err
	}
	return made, nil
}

// DeleteRobotByID removes a robot.
func (a *Access) DeleteRobotByID(ctx context.Context, by string, id int64) error {
	r, err := a.RobotByID(ctx, id)
	if err != nil {
		return err
	}
	return a.change(ctx, deed{by, registry.Delete, Robots, r.FullName(), ""}, func(tx *catalog.Tx) error {
		if _, err := tx.RobotByID(id); err != nil {
			return err // and another of that name may have come
		}
		return tx.DeleteRobot(r.Project, r.Name)
	})
}
