package rewrite

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"roadstead/registry"
)

// Project is what a [Table] has to know of a project.
//
// A project whose name has no dot hides the Docker Hub organisation of the same name from
// requests that name no project; one with a dot hides nothing, as organisations have none.
type Project struct {
	Name   string   // "docker.io"
	Hub    bool     // one-component names are below library/, as on Docker Hub
	Hosts  []string // registries that it stands for, as ?ns= names them; none: that of its name
	Hosted bool     // it is pushed to, and stands for no registry but this one
}

// Table finds the project and repository that a request means. It is closed: a name that
// belongs to none of its projects is refused, and no host in it is ever dialled.
//
// It never changes and may be used concurrently.
type Table struct {
	projects   map[string]*Project // by name
	namespaces map[string]*Project // by canonical ?ns=
	hosts      map[string]*Project // by Host header, folded
	fallback   *Project            // nil: none
}

// NewTable returns the table of the given projects. hosts maps a Host header, with or without
// a port, to a project for clients that send no ns; fallback is the project for what is left,
// or empty.
//
// It refuses what could be understood in two ways: a project named twice, a registry that two
// projects stand for, a project that is not there.
func NewTable(projects []Project, hosts map[string]string, fallback string) (*Table, error) {
	t := &Table{
		projects:   make(map[string]*Project),
		namespaces: make(map[string]*Project),
		hosts:      make(map[string]*Project),
	}
	for _, p := range projects {
		if err := t.add(p); err != nil {
			return nil, fmt.Errorf("project %q: %w", p.Name, err)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		p := t.projects[hosts[host]]
		if p == nil {
			return nil, fmt.Errorf("host %q: there is no project %q", host, hosts[host])
		}
		if err := free(t.hosts, host, fold(host), p); err != nil {
			return nil, err
		}
		t.hosts[fold(host)] = p
	}
	if fallback != "" && !t.Known(fallback) {
		return nil, fmt.Errorf("default project: there is no project %q", fallback)
	}
	t.fallback = t.projects[fallback]
	return t, nil
}

// Misfits says for each of the projects why it could not be in a table with those before it that
// can, or nil.
func Misfits(projects []Project) []error {
	t := &Table{projects: make(map[string]*Project), namespaces: make(map[string]*Project)}
	all := make([]error, len(projects))
	for i, p := range projects {
		all[i] = t.add(p)
	}
	return all
}

// add adds a project, or nothing when there is an error.
func (t *Table) add(p Project) error {
	if err := registry.CheckProject(p.Name); err != nil {
		return err
	}
	if p.Name == "v2" {
		return errors.New("a request for /v2/v2/… could be for this project or for any other")
	}
	if t.Known(p.Name) {
		return errors.New("it is there twice")
	}
	hosts := p.Hosts
	switch {
	case p.Hosted && (p.Hub || len(hosts) > 0):
		return errors.New("it is hosted here and cannot stand for another registry")
	case !p.Hosted && len(hosts) == 0:
		hosts = []string{p.Name}
	}
	for _, host := range hosts {
		if err := free(t.namespaces, host, canonical(host), &p); err != nil {
			return err
		}
	}
	t.projects[p.Name] = &p
	for _, host := range hosts {
		t.namespaces[canonical(host)] = &p
	}
	return nil
}

// free says why a project cannot have a host, or nil: it is none, or is another project's.
func free(table map[string]*Project, host, key string, p *Project) error {
	if key == "" || strings.ContainsAny(key, "/?#@ ") {
		return fmt.Errorf("host %q is not a host name with or without a port", host)
	}
	if other := table[key]; other != nil && other != p {
		return fmt.Errorf("host %q is that of project %q already", host, other.Name)
	}
	return nil
}

// Known reports whether there is a project of this name.
func (t *Table) Known(project string) bool {
	return t.projects[project] != nil
}

// Default is the project that names without one belong to where a client asks by this Host header, or "".
func (t *Table) Default(host string) string {
	p, err := t.project(host, "", "")
	if err != nil {
		return ""
	}
	return p.Name
}

// Names are the registries that a project stands for, as ?ns= names them, in byte order.
func (t *Table) Names(project string) []string {
	var names []string
	for name, p := range t.namespaces {
		if p.Name == project {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Route finds what a request for the repository name means, given its Host header and the
// value of its ns parameter, both of which may be empty. A root as in /v2/<project>/v2/… is
// gone from the name: that is a matter of the path, which the server reads.
//
//  1. The first component of name is a project: that project, whatever ns says. Clients send
//     ns even with a name that their rewrite rules have made.
//  2. ns names a registry that a project stands for: that project.
//  3. Host has a project, with or without its port.
//  4. The default project.
//
// An ns that no project stands for ends the search: whoever asks for a name at one registry
// must not be given what another registry has under the same name, and a client that is told
// so goes on to its next endpoint.
//
// A name of one component in a Docker Hub project is below library/, so there is one Repo for
// both spellings. Errors are NameUnknown or NameInvalid as a [registry.Fault]; a Repo
// returned is well formed. Route runs on every request and allocates nothing but the name
// below library/.
func (t *Table) Route(host, ns, name string) (registry.Repo, error) {
	first, rest, deeper := strings.Cut(name, "/")
	if p := t.projects[first]; p != nil {
		if !deeper {
			return registry.Repo{}, unknown("%q is a project; ask for a repository in it, %s/<repository>", first, first)
		}
		return p.repo(rest)
	}
	p, err := t.project(host, ns, name)
	if err != nil {
		return registry.Repo{}, err
	}
	return p.repo(name)
}

// project finds the project of a name that does not say it itself.
func (t *Table) project(host, ns, name string) (*Project, error) {
	if ns != "" {
		if p := t.namespaces[canonical(ns)]; p != nil {
			return p, nil
		}
		return nil, unknown("no project here stands for the registry %q; ask that registry itself, or have a project configured for it", registry.Clip(ns))
	}
	host = fold(host)
	if p := t.hosts[host]; p != nil {
		return p, nil
	}
	if p := t.hosts[withoutPort(host)]; p != nil {
		return p, nil
	}
	if t.fallback != nil {
		return t.fallback, nil
	}
	return nil, unknown("%q does not begin with a project of this registry; ask for <project>/<repository>, as in docker.io/library/busybox", registry.Clip(name))
}

// repo completes and checks a name below the project.
func (p *Project) repo(name string) (registry.Repo, error) {
	if err := registry.CheckName(name); err != nil {
		return registry.Repo{}, invalid(name, err)
	}
	if p.Hub && !strings.Contains(name, "/") {
		name = "library/" + name
	}
	// The full name has the limit too: it is what clients write and what the store keeps, so
	// whatever ns leads to can be asked for by its full name as well.
	if n := len(p.Name) + len("/") + len(name); n > registry.MaxName {
		return registry.Repo{}, invalid(name, fmt.Errorf("it is %d bytes long with its project", n))
	}
	return registry.Repo{Project: p.Name, Name: name}, nil
}

func unknown(format string, args ...any) error {
	return &registry.Fault{Code: registry.NameUnknown, Message: fmt.Sprintf(format, args...)}
}

func invalid(name string, err error) error {
	return &registry.Fault{
		Code: registry.NameInvalid,
		Message: fmt.Sprintf("%q is not a repository name: lower-case letters and digits joined by '.', '_', '__' or '-', "+
			"in components with '/' between them, at most %d bytes with the project", registry.Clip(name), registry.MaxName),
		Err: err,
	}
}

// dockerHub is the canonical name of the registry that clients know by three.
const dockerHub = "docker.io"

// canonical is the one spelling of a registry's name as ns has it.
func canonical(ns string) string {
	switch ns = fold(ns); ns {
	case "index.docker.io", "registry-1.docker.io":
		return dockerHub
	}
	return ns
}

// fold lower-cases a host and drops the port that https has anyway.
func fold(host string) string {
	return strings.TrimSuffix(strings.ToLower(host), ":443")
}

// withoutPort cuts the port off, and leaves the colons of an IPv6 address alone.
func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i]
	}
	return host
}
