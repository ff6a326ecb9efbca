package estate

import (
	"context"
	"errors"
	"slices"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Robots lists the robots of a project, or with the zero Ref those of the system.
func (e *Estate) Robots(ctx context.Context, p registry.Principal, ref Ref) ([]catalog.Robot, error) {
	project := ""
	if ref == (Ref{}) {
		if err := e.may(p, registry.List, access.Robots, ""); err != nil {
			return nil, err
		}
	} else {
		row, err := e.find(ctx, p, registry.List, access.Robots, ref)
		if err != nil {
			return nil, err
		}
		project = row.Name
	}
	all, err := e.access.Robots(ctx)
	return slices.DeleteFunc(all, func(r catalog.Robot) bool { return r.Project != project }), err
}

// Robot returns a robot.
func (e *Estate) Robot(ctx context.Context, p registry.Principal, id int64) (catalog.Robot, error) {
	return e.robot(ctx, p, registry.Read, id)
}

// robot finds a robot and says whether somebody may do something to it.
func (e *Estate) robot(ctx context.Context, p registry.Principal, action registry.Action, id int64) (catalog.Robot, error) {
	r, err := e.access.RobotByID(ctx, id)
	if errors.Is(err, registry.NameUnknown) {
		// What there is none of is of the system, so that nobody learns which numbers there are.
		if err := e.may(p, action, access.Robots, ""); err != nil {
			return catalog.Robot{}, err
		}
	}
	if err != nil {
		return catalog.Robot{}, err
	}
	if err := e.may(p, action, access.Robots, r.Project); err != nil {
		return catalog.Robot{}, err
	}
	return r, nil
}

// AddRobot makes a robot that may nothing that whoever makes it may not, and returns it with its
// secret, which nobody can be told again.
func (e *Estate) AddRobot(ctx context.Context, p registry.Principal, r catalog.Robot) (catalog.Robot, string, error) {
	if err := e.may(p, registry.Create, access.Robots, r.Project); err != nil {
		return catalog.Robot{}, "", err
	}
	if r.Project != "" {
		if _, err := e.find(ctx, p, registry.Create, access.Robots, Ref{Name: r.Project}); err != nil {
			return catalog.Robot{}, "", err
		}
	}
	if err := e.access.MayGive(p, r.Permissions); err != nil {
		return catalog.Robot{}, "", err
	}
	return e.access.AddRobot(ctx, p.Name(), r)
}

// ChangeRobot has fn change what of a robot can be changed. fn may be called twice, and is not to keep
// anything of the first time: the robot may be another one the second time.
func (e *Estate) ChangeRobot(ctx context.Context, p registry.Principal, id int64, fn func(*catalog.Robot) error) error {
	if _, err := e.robot(ctx, p, registry.Update, id); err != nil {
		return err
	}
	_, err := e.access.UpdateRobot(ctx, p.Name(), id, func(r *catalog.Robot) error {
		if err := fn(r); err != nil {
			return err
		}
		return e.access.MayGive(p, r.Permissions)
	})
	return err
}

// SetRobotSecret gives a robot another secret, or makes one up and returns it. Whoever gets the
// secret is the robot, and so has to have its rights.
func (e *Estate) SetRobotSecret(ctx context.Context, p registry.Principal, id int64, secret string) (string, error) {
	r, err := e.robot(ctx, p, registry.Update, id)
	if err != nil {
		return "", err
	}
	if err := e.access.MayGive(p, r.Permissions); err != nil {
		return "", err
	}
	return e.access.SetRobotSecret(ctx, p.Name(), id, secret)
}

// DeleteRobot removes a robot.
func (e *Estate) DeleteRobot(ctx context.Context, p registry.Principal, id int64) error {
	if _, err := e.robot(ctx, p, registry.Delete, id); err != nil {
		return err
	}
	return e.access.DeleteRobotByID(ctx, p.Name(), id)
}
