package rewrite

import "strings"

// Clause is the rule of [Table.Route] by which a name has found its project.
type Clause string

// The clauses, in the order in which they are tried.
const (
	ByName    Clause = "name"    // the name begins with the project
	ByNS      Clause = "ns"      // the registry that ns names is the project's
	ByHost    Clause = "host"    // the Host header has a project
	ByDefault Clause = "default" // the default project takes what is left
	ByNothing Clause = ""        // there is none
)

// Clause says by which rule Route finds the project of a request, whether or not the rest of the name
// is one.
func (t *Table) Clause(host, ns, name string) Clause {
	first, _, _ := strings.Cut(name, "/")
	switch {
	case t.Known(first):
		return ByName
	case ns != "" && t.namespaces[canonical(ns)] != nil:
		return ByNS
	case ns != "":
		return ByNothing
	}
	host = fold(host)
	switch {
	case t.hosts[host] != nil || t.hosts[withoutPort(host)] != nil:
		return ByHost
	case t.fallback != nil:
		return ByDefault
	}
	return ByNothing
}

// Project is the one that Route looks in for a name, whether or not the rest of the name is one, or "".
func (t *Table) Project(host, ns, name string) string {
	first, _, _ := strings.Cut(name, "/")
	if t.Known(first) {
		return first
	}
	p, err := t.project(host, ns, name)
	if err != nil {
		return ""
	}
	return p.Name
}
