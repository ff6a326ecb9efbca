package clients

import (
	"regexp"
	"slices"
	"strings"
)

// mirror is a registry as clients name it, and the projects here that images of it come from.
type mirror struct {
	host  string
	parts []part
}

// part is a project that has all of a registry, or what is below a prefix there.
type part struct {
	prefix  string // "": all
	project string
}

// whole is the project that has all of the registry, or "".
func (m mirror) whole() string {
	if len(m.parts) == 1 && m.parts[0].prefix == "" {
		return m.parts[0].project
	}
	return ""
}

// pattern is a part's rule as registries.yaml has it. A backslash in one makes containerd drop the
// whole file, so dots are written as a class. Anchored, the rules of a registry exclude one another:
// clients go through them in any order.
func (p part) pattern() string {
	if p.prefix == "" {
		return "(^.+$)"
	}
	return "^" + strings.ReplaceAll(regexp.QuoteMeta(p.prefix), `\.`, "[.]") + "/(.*)"
}

// mirrors are the registries that the projects are caches of, in the order of their names. A project
// stands for those that the server takes it for. One that does not stand for the registry that it is a
// cache of, and has a part of that only, is a mirror of the part, unless another project has all of it:
// of two rules that fit, clients take any.
func (s Site) mirrors() []mirror {
	var list []mirror
	add := func(host string, p part) {
		i := slices.IndexFunc(list, func(m mirror) bool { return m.host == host })
		if i < 0 {
			list = append(list, mirror{host: host})
			i = len(list) - 1
		}
		list[i].parts = append(list[i].parts, p)
	}
	for _, p := range s.Projects {
		for _, host := range p.Names {
			// Another is an organisation of Docker Hub to clients. Their own names for this server
			// are no registry elsewhere.
			if !p.Hosted && (strings.ContainsAny(host, ".:") || host == "localhost") && host != s.URL.Host {
				add(host, part{"", p.Name})
			}
		}
	}
	for _, p := range s.Projects {
		prefix := strings.Trim(p.Prefix, "/")
		if p.Hosted || p.Host == "" || prefix == "" || slices.Contains(p.Names, p.Host) {
			continue
		}
		clash := slices.ContainsFunc(list, func(m mirror) bool {
			return m.host == p.Host && slices.ContainsFunc(m.parts, func(o part) bool { return overlap(o.prefix, prefix) })
		})
		if !clash {
			add(p.Host, part{prefix, p.Name})
		}
	}
	slices.SortFunc(list, func(a, b mirror) int { return strings.Compare(a.host, b.host) })
	return list
}

// overlap reports whether a repository can be below both prefixes.
func overlap(a, b string) bool {
	return a == "" || b == "" || strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}

// wholes are the mirrors of whole registries, for clients that know no others.
func (s Site) wholes() []mirror {
	return slices.DeleteFunc(s.mirrors(), func(m mirror) bool { return m.whole() == "" })
}

// notes are those given, and another where a part of a registry has been left out.
func (s Site) notes(all ...Note) []Note {
	if len(s.wholes()) < len(s.mirrors()) {
		all = append(all, noteParts)
	}
	return all
}

// dockerHub is how images of it are called.
const dockerHub = "docker.io"

// hub is the project that stands for Docker Hub, or "".
func (s Site) hub() string {
	for _, m := range s.wholes() {
		if m.host == dockerHub {
			return m.whole()
		}
	}
	return ""
}
