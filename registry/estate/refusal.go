package estate

import (
	"errors"

	"roadstead/registry"
	"roadstead/registry/access"
)

// What is refused is said in English, by the REST API and in logs, and by a key with arguments, so
// that the console can say it in the language of whoever reads it. A key stays what it is when the
// sentence becomes a better one. The console's messages have both sentences under "why." and the key.

// refuse says why something is not done.
func refuse(code registry.Code, key, format string, args ...any) error {
	return registry.Because(code, nil, key, format, args...)
}

func invalid(key, format string, args ...any) error {
	return registry.Because(access.Invalid, nil, key, format, args...)
}

func unknown(key, format string, args ...any) error {
	return registry.Because(registry.NameUnknown, nil, key, format, args...)
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
func Wrong(f, key, format string, args ...any) error {
	return registry.Because(access.Invalid, field(f), key, format, args...)
}

// declaredProject refuses a change of what the configuration, or nobody, says.
func (e *Estate) declaredProject(name string) error {
	if e.config.File == "" {
		return refuse(registry.Denied, "builtin.project", "project %s is built in: make a project of your own of that name instead, or write one into a configuration file", name)
	}
	return refuse(registry.Denied, "declared.project", "project %s is declared in %s: change it there and send the server a SIGHUP", name, e.config.File)
}

// declaredRegistry is declaredProject for a registry.
func (e *Estate) declaredRegistry(name string) error {
	if e.config.File == "" {
		return refuse(registry.Denied, "builtin.registry", "registry %s is built in: make a project of your own of that name instead, or write one into a configuration file", name)
	}
	return refuse(registry.Denied, "declared.registry", "registry %s is declared in %s: change it there and send the server a SIGHUP", name, e.config.File)
}
