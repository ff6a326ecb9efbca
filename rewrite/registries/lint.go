package registries

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/rewrite"
)

// Finding is something in a file that does not do what it seems to say.
type Finding struct {
	Line    int    `json:"line"`    // from 1
	Rule    string `json:"rule"`    // which of the known mistakes it is; see Rules
	Breaks  bool   `json:"breaks"`  // images are not found where they should be, on some node at some time; else it is worth knowing
	What    string `json:"what"`    // what is there
	Why     string `json:"why"`     // what comes of it
	Instead string `json:"instead"` // what to write
}

// String is the finding as "what (why); write …", to go after the file and the line.
func (f Finding) String() string {
	return fmt.Sprintf("%s (%s); write %s", f.What, f.Why, f.Instead)
}

// Rules are all that Lint looks for, by the names that findings have.
var Rules = []string{
	"shape", "unknown-key", "token-key", "duplicate-key", "host-key", "empty-host",
	"endpoint", "endpoint-twice", "override-path", "ping", "rewrite-lost",
	"escape", "pattern", "group", "ambiguous", "no-match", "climbs", "wharfie-name", "library",
	"wildcard-auth", "config-key", "auth", "tls", "project", "unfinished",
}

// House is what is known of the registry that the file should lead to.
type House struct {
	// Table is what projects there are. Nil: it is not known, and nothing is said of them.
	Table *rewrite.Table

	// Self are the hosts, with a port if they have one, by which nodes know this registry. None: each
	// endpoint may be it that is not a registry that some project stands for. What is found by that
	// guess breaks nothing, for it may as well be another mirror, with other projects.
	Self []string

	// Names are some repositories of a registry that are known here, as images call them, to find
	// examples among. Nil: there are none.
	Names func(host string) []string
}

// Is reports whether an endpoint of the mirror of a registry, given by its host, is this registry.
func (h House) Is(endpoint, mirror string) bool {
	if h.Table == nil {
		return false
	}
	if len(h.Self) > 0 {
		return slices.ContainsFunc(h.Self, func(s string) bool {
			return strings.EqualFold(strings.TrimSuffix(s, ":443"), strings.TrimSuffix(endpoint, ":443"))
		})
	}
	if endpoint == mirror || endpoint == hubHost {
		return false
	}
	_, err := h.Table.Place(rewrite.Image{Host: endpoint, Name: "team/app"})
	return err != nil
}

// Lint returns all that is to be said of a file, in the order of its lines. Files that nobody has written
// by hand may take it seconds; it ends with ctx, whose error it returns then.
func Lint(ctx context.Context, f *File, house House) ([]Finding, error) {
	l := linter{file: f, house: house, left: mostWork, rendered: f.hosts(), names: map[string][]string{}, all: slices.Clone(f.findings)}
	l.addresses()
	for i := range f.Mirrors {
		if err := l.mirror(ctx, &f.Mirrors[i]); err != nil {
			return nil, err
		}
	}
	for i := range f.Configs {
		l.config(&f.Configs[i])
	}
	slices.SortStableFunc(l.all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Rule, b.Rule))
	})
	return slices.Compact(l.all), context.Cause(ctx)
}

// Broken reports whether any of the findings breaks pulls.
func Broken(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Breaks })
}

type linter struct {
	file     *File
	house    House
	rendered map[string]*rendered
	near     map[string][]string // what configs of endpoints are called, by that without the usual ports
	meant    map[string]bool     // what configs may be called: as mirrors and as endpoints are
	names    map[string][]string // of House, by the host
	left     int                 // of mostWork
	pairs    int                 // of rules that were compared
	all      []Finding
}

// known are the names of House, which may come from far away: each is asked for once.
func (l *linter) known(host string) []string {
	if l.house.Names == nil {
		return nil
	}
	all, ok := l.names[host]
	if !ok {
		all = l.house.Names(host)
		l.names[host] = all
	}
	return all
}

func (l *linter) breaks(line int, rule, what, why, instead string) {
	l.all = append(l.all, Finding{Line: line, Rule: rule, Breaks: true, What: what, Why: why, Instead: instead})
}

func (l *linter) note(line int, rule, what, why, instead string) {
	l.all = append(l.all, Finding{Line: line, Rule: rule, What: what, Why: why, Instead: instead})
}

// guess is breaks for what is so only if an endpoint is this registry, which nobody may have said.
func (l *linter) guess(host string, line int, what, why, instead string) {
	if len(l.house.Self) > 0 {
		l.breaks(line, "project", what, why, instead)
		return
	}
	l.note(line, "project", what, why+fmt.Sprintf(", if %s is this server: --server says which endpoints are", host), instead)
}

func (l *linter) mirror(ctx context.Context, m *Mirror) error {
	l.hostKey(m)
	if len(m.Endpoints) == 0 {
		if len(m.Rewrites) > 0 {
			l.breaks(m.Rewrites[0].Line, "empty-host", fmt.Sprintf("mirrors.%q has rewrites and no endpoint", m.Host),
				"rewrites are for endpoints, and the registry itself is asked without", `endpoint: [ "https://<mirror>" ] beside them`)
		} else if other := l.file.mirror(wildcard); m.Host != wildcard && l.file.config(m.Host) == nil && other != nil && len(other.Endpoints) > 0 {
			l.breaks(m.Line, "empty-host", fmt.Sprintf("mirrors.%q has no endpoint, and there is no config of that name", m.Host),
				`nothing is written for it, so containerd takes it for one of "*" and asks those endpoints, while wharfie asks the registry itself`,
				fmt.Sprintf(`endpoint: [ "https://%s" ] below it to have that asked, or nothing of it`, m.Host))
		}
	}
	l.endpoints(m)
	if err := l.rewrites(ctx, m); err != nil {
		return err
	}
	return l.projects(ctx, m)
}

// hostKey looks at what the mirror is called, which must be what images are.
func (l *linter) hostKey(m *Mirror) {
	key := fmt.Sprintf("mirrors.%q", m.Host)
	bare, port, _ := strings.Cut(m.Host, ":")
	switch {
	case m.Host == wildcard:
	case strings.Contains(m.Host, "/"):
		name := m.Host
		if _, after, ok := strings.Cut(name, "://"); ok {
			name = after
		}
		name, _, _ = strings.Cut(name, "/")
		l.breaks(m.Line, "host-key", key+" is no host", "a mirror is found by the host of an image alone, without scheme and path, so this one never is", fmt.Sprintf("%q", name))
	case m.Host == hubRegistry || m.Host == hubHost:
		l.breaks(m.Line, "host-key", key+" is not what the images of Docker Hub are called", "containerd looks for docker.io, whatever the image is written as", `"docker.io"`)
	case starred(m.Host):
		l.breaks(m.Line, "host-key", key+" is no host", `hosts are compared letter by letter, and "*" is for all registries only when it stands alone`, `a mirror for each host, or "*"`)
	case single(m.Host):
		l.breaks(m.Line, "host-key", key+" is no host that an image can have", fmt.Sprintf("without a dot or a port it is an organisation: %s/app is docker.io/%s/app", m.Host, m.Host), "the host that images are called by, with its domain or its port")
	case m.Host != strings.ToLower(m.Host):
		l.breaks(m.Line, "host-key", key+" has capital letters", "hosts are compared letter by letter, and images have theirs in lower case", fmt.Sprintf("%q", strings.ToLower(m.Host)))
	case port == "443" || port == "80":
		l.breaks(m.Line, "host-key", fmt.Sprintf("%s has the port that an image need not name", key),
			fmt.Sprintf("containerd finds it for images %s/… only, and wharfie for %s/… too but without its rewrites", m.Host, bare), fmt.Sprintf("%q", bare))
	}
}

// starred reports whether a host is a pattern to whoever wrote it, and single whether it is the first
// component of a name at Docker Hub.
func starred(host string) bool { return host != wildcard && strings.Contains(host, "*") }

func single(host string) bool {
	return host != wildcard && host != "localhost" && !strings.ContainsAny(host, ".:")
}

func (l *linter) endpoints(m *Mirror) {
	seen := map[string]bool{}
	rendered := l.rendered[m.Host]
	for i, e := range m.Endpoints {
		u, _, override, err := address(e.Text)
		if err == nil && u.Host == "" {
			err = errNoHost
		}
		if err == nil && u.Scheme != "http" && u.Scheme != "https" {
			err = fmt.Errorf("its scheme is %q", u.Scheme)
		}
		if err != nil {
			l.breaks(e.Line, "endpoint", fmt.Sprintf("endpoint %q is no URL of a registry", registry.Clip(e.Text)), fmt.Sprintf("it is overlooked: %v", err), `a URL such as "https://registry.example.com"`)
			continue
		}
		if seen[u.String()] {
			l.note(e.Line, "endpoint-twice", fmt.Sprintf("endpoint %q is there a second time", e.Text), "only the first is asked", "it once")
			continue
		}
		seen[u.String()] = true
		if rendered != nil && rendered.lost && i+1 == len(m.Endpoints) {
			l.lost(m, e)
		}
		if override {
			l.path(m, e)
		}
	}
}

// lost is a last endpoint that is the registry itself.
func (l *linter) lost(m *Mirror, e Endpoint) {
	u, _, _, _ := address(e.Text)
	instead := "another endpoint last"
	if u.Port() == "" {
		with := u.Scheme + "://" + u.Host + ":" + cmp.Or(map[string]string{"http": "80"}[u.Scheme], "443")
		instead = fmt.Sprintf("%q, which is the same place and keeps them; or another endpoint last", with)
		if c := l.file.configFor(usual(u.Host)); c.Auth.given() || c.TLS != nil {
			instead = fmt.Sprintf("%q, which is the same place and keeps them, with a config of its own for %q; or another endpoint last", with, strings.TrimPrefix(with, u.Scheme+"://"))
		}
	}
	l.breaks(e.Line, "rewrite-lost", fmt.Sprintf("the last endpoint %q is the registry %s itself", e.Text, m.Host),
		"K3s makes it the default endpoint, and that one is asked without the rewrites", instead)
}

// path is an endpoint that is asked below a path of its own.
func (l *linter) path(m *Mirror, e Endpoint) {
	u, _, _, _ := address(e.Text)
	p := asked(u, true)
	if l.house.Is(u.Host, m.Host) {
		_, project, known := l.house.Locate(p + "/team/app")
		if known {
			return // every way to ask for a project is served here, and has a ping
		}
		if p != "/v2" {
			l.guess(u.Host, e.Line, fmt.Sprintf("endpoint %q leads to %q, which is no project here", e.Text, project),
				"what is asked for there is not found", l.insteadOf(m, u.Scheme+"://"+u.Host+"/v2/%s"))
		}
		if len(l.house.Self) > 0 {
			return
		}
	}
	segments := strings.Split(strings.Trim(p, "/"), "/")
	switch {
	case !slices.Contains(segments, "v2"):
		l.breaks(e.Line, "override-path", fmt.Sprintf("endpoint %q has a path without /v2", e.Text),
			fmt.Sprintf("the path is taken as it is (override_path), so %s/<repository>/manifests/… is asked for, which few registries serve", p),
			fmt.Sprintf("%q", u.Scheme+"://"+u.Host+"/v2"+p))
	case p != "/v2":
		l.note(e.Line, "ping", fmt.Sprintf("endpoint %q has a path of its own", e.Text),
			fmt.Sprintf("it is taken as it is (override_path), which containerd is content with; wharfie asks GET %s/ first, and where that is a 404, RKE2 does not start", u.Scheme+"://"+u.Host+p),
			fmt.Sprintf("%q and a rewrite %q: %q, unless that registry answers there", u.Scheme+"://"+u.Host, "(^.+$)", strings.TrimPrefix(strings.TrimPrefix(p, "/v2"), "/")+"/$1"))
	}
}

// config looks at how a registry is spoken to.
func (l *linter) config(c *Config) {
	key := fmt.Sprintf("configs.%q", c.Host)
	if c.Host == wildcard && c.Auth.given() {
		l.breaks(c.Auth.Line, "wildcard-auth", key+".auth is for no registry", `containerd never looks there for credentials (k3s#11352): "*" is for tls only, though wharfie obeys it`,
			"the auth below configs.\"<host of the endpoint>\"")
	}
	if strings.Contains(c.Host, "/") {
		_, name, found := strings.Cut(c.Host, "://")
		if !found {
			name = c.Host
		}
		name, _, _ = strings.Cut(name, "/")
		l.breaks(c.Line, "config-key", key+" is no host", "configs are found by the host of an endpoint alone, without scheme and path", fmt.Sprintf("%q", name))
	} else {
		l.port(c, key)
	}
	if a := c.Auth; a != nil && !a.odd {
		switch {
		case !a.given():
			l.breaks(a.Line, "auth", key+".auth says nothing", "requests go out without credentials", "username and password")
		case a.Username != "" && a.Password == "" && a.IdentityToken == "" && a.Auth == "":
			l.breaks(a.Line, "auth", key+".auth has a username and no password", "the registry refuses it", "password beside it")
		case a.Username == "" && a.Password != "":
			l.breaks(a.Line, "auth", key+".auth has a password and no username", "the registry refuses it", "username beside it")
		}
	}
	if t := c.TLS; t != nil && (t.CertFile == "") != (t.KeyFile == "") {
		l.breaks(t.Line, "tls", key+".tls has one of cert_file and key_file", "neither client connects without the other", "both, or neither")
	}
}

// addresses looks at all endpoints once: a file may have as many configs as endpoints.
func (l *linter) addresses() {
	l.near, l.meant = map[string][]string{}, map[string]bool{}
	for _, m := range l.file.Mirrors {
		l.meant[m.Host] = true
		for _, e := range m.Endpoints {
			u, name, _, err := address(e.Text)
			if err != nil {
				continue
			}
			l.meant[u.Host], l.meant[name] = true, true
			if at := usual(name); !slices.Contains(l.near[at], name) {
				l.near[at] = append(l.near[at], name)
			}
		}
	}
}

// usual is how a registry is called, without the ports that need not be named.
func usual(host string) string {
	host = strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
	if host == hubHost {
		return hub
	}
	return host
}

// port looks for endpoints that a config is meant for, and that are called otherwise by their port
// alone. Both clients look configs up by host and port as the endpoint has them.
func (l *linter) port(c *Config, key string) {
	for _, other := range l.near[usual(c.Host)] {
		if !l.meant[c.Host] {
			l.breaks(c.Line, "config-key", key+" is the config of no endpoint", fmt.Sprintf("the endpoint is called %q, and the port counts", other), fmt.Sprintf("%q", other))
			return
		}
		if l.file.configFor(other).Host == "" && (c.Auth.given() || c.TLS != nil) {
			l.breaks(c.Line, "config-key", fmt.Sprintf("%s is not the config of the endpoint %q", key, other), "the port counts, so that one is asked without it", fmt.Sprintf("configs.%q with the same, beside it", other))
		}
	}
}
