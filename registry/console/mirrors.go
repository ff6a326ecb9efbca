package console

import (
	"regexp"
	"slices"
	"strings"

	"roadstead/registry/estate"
)

// mirror is a registry as clients name it, and the projects here that images of it come from.
type mirror struct {
	Host  string
	Parts []part
}

// part is a project that has all of a registry, or what is below a prefix there.
type part struct {
	Prefix  string // "": all
	Project string
}

// whole is the project that has all of the registry, or "".
func (m mirror) whole() string {
	if len(m.Parts) == 1 && m.Parts[0].Prefix == "" {
		return m.Parts[0].Project
	}
	return ""
}

// pattern is a part's rule as registries.yaml has it. A backslash in one makes containerd drop the
// whole file, so dots are written as a class.
func (p part) pattern() string {
	if p.Prefix == "" {
		return "(^.+$)"
	}
	return "^" + strings.ReplaceAll(regexp.QuoteMeta(p.Prefix), `\.`, "[.]") + "/(.*)"
}

// mirrors are the registries that the projects are caches of, in the order of their names. A project
// stands for those that the server takes it for. One that stands for none and has a part of its
// registry only is a mirror of that part, unless another project has all of it: of two rules that
// fit, clients take any.
func mirrors(all []estate.Project) []mirror {
	var list []mirror
	add := func(host string, p part) {
		i := slices.IndexFunc(list, func(m mirror) bool { return m.Host == host })
		if i < 0 {
			list = append(list, mirror{Host: host})
			i = len(list) - 1
		}
		list[i].Parts = append(list[i].Parts, p)
	}
	for _, p := range all {
		for _, host := range p.Names {
			if strings.ContainsAny(host, ".:") { // another is an organisation of Docker Hub to clients
				add(host, part{"", p.Name})
			}
		}
	}
	for _, p := range all {
		prefix := strings.Trim(p.Policy.Prefix, "/")
		if len(p.Names) > 0 || p.Host == "" || prefix == "" {
			continue
		}
		clash := slices.ContainsFunc(list, func(m mirror) bool {
			return m.Host == p.Host && slices.ContainsFunc(m.Parts, func(o part) bool { return overlap(o.Prefix, prefix) })
		})
		if !clash {
			add(p.Host, part{prefix, p.Name})
		}
	}
	slices.SortFunc(list, func(a, b mirror) int { return strings.Compare(a.Host, b.Host) })
	return list
}

// overlap reports whether a repository can be below both prefixes.
func overlap(a, b string) bool {
	return a == "" || b == "" || strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}
