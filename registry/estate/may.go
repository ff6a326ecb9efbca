package estate

import "roadstead/registry"

// May reports whether somebody may do something to what belongs to a project or, with no project, to
// the system: for whoever shows only what can be done.
func (e *Estate) May(p registry.Principal, action registry.Action, kind registry.Kind, project string) bool {
	return e.may(p, action, kind, project) == nil
}

// MayIn says why somebody may not do something to what belongs to a project or, with no project, to the
// system, or nil.
func (e *Estate) MayIn(p registry.Principal, action registry.Action, kind registry.Kind, project string) error {
	return e.may(p, action, kind, project)
}
