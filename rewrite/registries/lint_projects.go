package registries

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"roadstead/rewrite"
)

// Locate reads a path, up to the repository, as this registry does: as a full name, and the project that
// it begins with. known says whether there is one.
func (h House) Locate(p string) (name, project string, known bool) {
	root, rest, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	below := func(rest string) string {
		if first, after, _ := strings.Cut(rest, "/"); first == "v2" {
			return after
		}
		return rest
	}
	if root == "v2" {
		name = rest
		if first, after, _ := strings.Cut(rest, "/"); h.Table.Known(first) {
			name = first + "/" + below(after)
		}
	} else {
		name = root + "/" + below(rest)
	}
	project, _, _ = strings.Cut(name, "/")
	return name, project, h.Table.Known(project)
}

// projects looks at where the requests of a mirror arrive here.
func (l *linter) projects(ctx context.Context, m *Mirror) error {
	if l.house.Table == nil || strings.Contains(m.Host, "/") || starred(m.Host) || single(m.Host) {
		return nil
	}
	for _, e := range m.Endpoints {
		u, _, override, err := address(e.Text)
		if err != nil || !l.house.Is(u.Host, m.Host) {
			continue
		}
		if override {
			if _, _, known := l.house.Locate(asked(u, true) + "/team/app"); !known {
				continue // said of the endpoint already
			}
		}
		root := asked(u, override)
		ns := namespace(m.Host, u.Host, hubHost)
		rules, _, err := decoded(m.Rewrites)
		if err != nil {
			rules = m.Rewrites
		}
		for _, r := range rules {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if l.left <= 0 {
				l.unfinished(r.Line)
				return nil
			}
			l.lands(m, e, r, root, u.Host, ns)
		}
		if len(rules) == 0 && m.Host != wildcard {
			name, _, known := l.house.Locate(root + "/team/app")
			if _, err := l.house.Table.Route(u.Host, ns, name); err != nil && !known {
				l.guess(u.Host, e.Line, fmt.Sprintf("endpoint %q has no project that stands for %s", e.Text, m.Host),
					fmt.Sprintf("a request with ns=%s is not found here, and the client goes on to the next endpoint", m.Host), l.insteadOf(m, "a rewrite \"(^.+$)\": \"%s/$1\""))
			}
		}
	}
	return nil
}

// lands looks at the project that a rule makes of a name.
func (l *linter) lands(m *Mirror, e Endpoint, r Rewrite, root, host, ns string) {
	pattern, err := regexp.Compile(r.Pattern)
	if err != nil {
		return
	}
	from := l.witness(m.Host, l.known(m.Host), []string{r.Pattern}, func(name string) bool {
		return pattern.ReplaceAllString(name, r.Replace) != name
	})
	if from == "" {
		return
	}
	requestPath, scope := rewrite.Containerd([]rewrite.Rule{r.Rule}, from)
	if strings.Contains(scope, "..") {
		return // said of the rule already
	}
	name, project, known := l.house.Locate(root + strings.TrimPrefix(requestPath, "/v2"))
	if known {
		if m.Host == wildcard {
			l.allToOne(r, pattern, project, host)
		}
		return
	}
	if m.Host == wildcard {
		ns = ""
	}
	before, _, _ := strings.Cut(from, "/")
	repo, err := l.house.Table.Route(host, ns, name)
	if place, err2 := l.house.Table.Place(rewrite.Image{Host: m.Host, Name: from}); err == nil && err2 == nil && place == repo {
		return // the way that the name has taken ends where it should
	}
	switch {
	case err != nil || m.Host == wildcard && project != before:
		l.guess(host, r.ReplaceLine, fmt.Sprintf("the rule %q: %q makes %q of %q, and %q is no project here", r.Pattern, r.Replace, name, from, project),
			"it is not found, and the client goes on to the next endpoint", l.insteadOf(m, "%q: \"%s/$1\""))
	case project != before:
		l.guess(host, r.ReplaceLine, fmt.Sprintf("the rule %q: %q makes %q of %q, and %q is no project here", r.Pattern, r.Replace, name, from, project),
			fmt.Sprintf("it is looked for in project %s as %s, where it is not", repo.Project, repo.Name), l.insteadOf(m, "%q: \"%s/$1\""))
	}
}

// allToOne is a rule by which images of all registries are looked for at the one that a project stands
// for. A project that is pushed to may well have them all.
func (l *linter) allToOne(r Rewrite, pattern *regexp.Regexp, project, host string) {
	stands := slices.DeleteFunc(l.house.Table.Names(project), func(n string) bool { return !strings.ContainsAny(n, ".:") })
	if len(stands) == 0 {
		return
	}
	for _, name := range samples {
		if !strings.HasPrefix(pattern.ReplaceAllString(name, r.Replace), project+"/") {
			return // it is for some names, which may be known to be there
		}
	}
	l.guess(host, r.ReplaceLine, fmt.Sprintf("the rule %q: %q of mirrors.\"*\" leads images of all registries to %q, which stands for %s", r.Pattern, r.Replace, project, strings.Join(stands, " and ")),
		"what is called the same there is another image, and would be pulled in its place", "no rewrite below \"*\", as clients say by ?ns= which registry they mean; or a mirror for each registry")
}

// insteadOf names the project that stands for the registry of a mirror in a format that has one %s, or
// a %q for a pattern before it.
func (l *linter) insteadOf(m *Mirror, format string) string {
	project := "<project>"
	if repo, err := l.house.Table.Place(rewrite.Image{Host: m.Host, Name: "team/app"}); err == nil {
		project = repo.Project
	}
	if strings.Contains(format, "%q") {
		return fmt.Sprintf(format, "(^.+$)", project)
	}
	return fmt.Sprintf(format, project)
}
