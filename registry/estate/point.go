package estate

import (
	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Where a proxy asks is not for whoever administers it: the registry is asked with credentials that
// are not his, and what it answers is what everybody gets under the name that they trust. So it takes
// rights on registries: to read them to make a proxy of one, to change them to have one that is there
// ask elsewhere or to take the place of a built-in one.

// elsewhere reports whether a project asks another registry after a change, or there for other
// repositories.
func elsewhere(was, next catalog.Project) bool {
	return next.Registry != was.Registry || next.Policy.Prefix != was.Policy.Prefix
}

// mayPoint says why somebody may not have a project ask elsewhere, or nil.
func (e *Estate) mayPoint(p registry.Principal, next catalog.Project) error {
	if err := e.may(p, registry.Update, Registries, ""); err != nil {
		return err
	}
	if len(next.Policy.Pin) > 0 {
		return refuse(InUse, "project.pinned", "project %s pins what it has of where it asked so far: take the pins off first, and set them again afterwards", next.Name)
	}
	return nil
}
