package estate

import (
	"errors"
	"fmt"

	"roadstead/registry"
	"roadstead/registry/access"
)

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

// field is the part of a form that an error is about.
type field string

// Error returns the name of the field.
func (f field) Error() string { return "field " + string(f) }

// FieldOf is the field that an error is about, by the name that it has in the REST API and in forms:
// "name", "url", "quota" … "" is none that is known.
func FieldOf(err error) string {
	f, _ := errors.AsType[field](err)
	return string(f)
}

// Wrong says what is wrong with one field, before it is even asked for what it would say.
func Wrong(f string, format string, args ...any) error {
	return &registry.Fault{Code: access.Invalid, Message: fmt.Sprintf(format, args...), Err: field(f)}
}
