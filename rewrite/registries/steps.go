package registries

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"roadstead/rewrite"
)

// Client is a program that obeys registries.yaml.
type Client string

// The clients. RKE2 pulls its own first images by wharfie, and all else by containerd.
const (
	Containerd Client = "containerd"
	Wharfie    Client = "wharfie"
)

// Clients are all that there are.
var Clients = []Client{Containerd, Wharfie}

// Way is all that a client does to find an image, if nobody has it: one endpoint after the other is
// asked until one has.
type Way struct {
	Client Client   `json:"client"`
	Mirror string   `json:"mirror,omitempty"` // the key below "mirrors" that holds for the image; "": none does
	Line   int      `json:"line,omitempty"`   // of that
	Notes  []string `json:"notes,omitempty"`  // what is not as the file seems to say
	Steps  []Step   `json:"steps"`
}

// Step is one endpoint.
type Step struct {
	Endpoint string `json:"endpoint"`       // with its path: "https://mirror.example.com/v2"
	Line     int    `json:"line,omitempty"` // of it in the file; 0: it is there anyway
	Default  bool   `json:"default"`        // it is the image's own registry
	NS       string `json:"ns,omitempty"`
	User     string `json:"user,omitempty"` // whose credentials are used: "" nobody's, "(token)" those of no name
	TLS      *TLS   `json:"-"`
	Auth     *Auth  `json:"-"`

	// Outcomes are what it is asked for. Where there are several, the random order in which the
	// client looks at the rules decides, for each pull anew.
	Outcomes []Outcome `json:"outcomes"`
}

// Outcome is what a name may become, and what is asked for then.
type Outcome struct {
	Rule       string    `json:"rule,omitempty"` // the pattern, as the client sees it; "": none has changed the name
	Line       int       `json:"line,omitempty"` // of the rule
	Repository string    `json:"repository"`
	Scope      string    `json:"scope"` // of the token, if the endpoint wants one
	Requests   []Request `json:"requests"`
}

// Request is one that a client sends, in this order.
type Request struct {
	Kind   string `json:"kind"` // "ping", "tag", "manifest" or "blob"
	Method string `json:"method"`
	URL    string `json:"url"` // with "<digest>" where only the answer before says which
}

// Steps says, endpoint by endpoint, what a client asks for when it is told to pull an image.
func Steps(f *File, image rewrite.Image, client Client) Way {
	if client == Wharfie {
		return f.wharfie(image)
	}
	return f.containerd(image)
}

// containerd looks for the hosts.toml of exactly the image's registry, and then for that of "_default".
func (f *File) containerd(image rewrite.Image) Way {
	w := Way{Client: Containerd}
	all, key := f.hosts(), image.Host
	if all[key] == nil {
		key = wildcard
	}
	found := all[key]
	if found == nil {
		u, _, _, err := address(image.Host)
		if err == nil {
			w.Steps = append(w.Steps, f.containerdStep(image, &target{url: u, config: f.configFor(image.Host)}, nil, true))
		}
		return w
	}
	if m := f.mirror(key); m != nil {
		w.Mirror, w.Line = m.Host, m.Line
	}
	var rules []Rewrite
	if len(found.endpoints) > 0 {
		var blame *Rewrite
		var err error
		if rules, blame, err = decoded(found.rewrites); err != nil {
			w.Notes = append(w.Notes, fmt.Sprintf("line %d: containerd cannot read the hosts.toml that comes of this, because %v; it asks the registry itself instead, without a word", blame.Line, err))
			u, _, _, err := address(image.Host)
			if err == nil {
				w.Steps = append(w.Steps, f.containerdStep(image, &target{url: u}, nil, true))
			}
			return w
		}
	}
	for i := range found.endpoints {
		w.Steps = append(w.Steps, f.containerdStep(image, &found.endpoints[i], rules, false))
	}
	if found.fallback == nil {
		w.Notes = append(w.Notes, "the registry itself is not asked: disable-default-registry-endpoint")
		return w
	}
	t := *found.fallback
	if t.url == nil || t.url.Host == "" {
		u, _, _, err := address(image.Host)
		if err != nil {
			return w
		}
		t.url = u
	}
	if found.lost {
		w.Notes = append(w.Notes, fmt.Sprintf("line %d: the last endpoint is the registry itself, which is asked without the rewrites", t.line))
	}
	w.Steps = append(w.Steps, f.containerdStep(image, &t, nil, true))
	return w
}

// containerdStep is one endpoint as containerd asks it.
func (f *File) containerdStep(image rewrite.Image, t *target, rules []Rewrite, isDefault bool) Step {
	base := t.url.Scheme + "://" + t.url.Host
	s := Step{Endpoint: base + asked(t.url, t.override), Line: t.line, Default: isDefault, NS: namespace(image.Host, t.url.Host, hubHost), TLS: t.config.TLS}
	// Credentials are looked up by the host, and never by "*".
	name := t.url.Host
	if name == hubHost {
		name = hub
	}
	if c := f.configFor(name); c.Auth.given() {
		s.Auth, s.User = c.Auth, c.Auth.user()
	}
	names, _ := rewrite.Outcomes(plain(rules), image.Host, image.Name)
	results := alone(rules, func(one []rewrite.Rule) string {
		_, scope := rewrite.Containerd(one, image.Name)
		return scope
	})
	for _, scope := range names {
		o := Outcome{Scope: scope}
		o.Rule, o.Line = ruleOf(rules, results, image.Name, scope)
		root := path.Join(asked(t.url, t.override), scope)
		o.Repository = strings.TrimPrefix(strings.TrimPrefix(root, asked(t.url, t.override)), "/")
		at := func(kind, reference string) string {
			return withNamespace(base+escaped(path.Join(root, kind, reference)), s.NS)
		}
		if image.Digest == "" {
			o.Requests = append(o.Requests, Request{"tag", "HEAD", at("manifests", image.Tag)})
		} else {
			o.Requests = append(o.Requests, Request{"tag", "HEAD", at("manifests", string(image.Digest))})
		}
		o.Requests = append(o.Requests, Request{"manifest", "GET", at("manifests", digestOf(image))}, Request{"blob", "GET", at("blobs", "<digest>")})
		s.Outcomes = append(s.Outcomes, o)
	}
	return s
}

// wharfie looks a registry up under several names, and asks the registry itself last, always.
func (f *File) wharfie(image rewrite.Image) Way {
	w := Way{Client: Wharfie}
	registry := image.Host
	if registry == hub {
		registry = hubRegistry
	}
	m := f.wharfieMirror(registry)
	if m != nil {
		w.Mirror, w.Line = m.Host, m.Line
		for _, e := range m.Endpoints {
			u, err := wharfieAddress(e.Text)
			if err != nil {
				w.Notes = append(w.Notes, fmt.Sprintf("line %d: the endpoint is overlooked: %v", e.Line, err))
				continue
			}
			w.Steps = append(w.Steps, f.wharfieStep(image, registry, u, e.Line))
		}
	}
	if u, err := wharfieAddress(registry); err == nil {
		w.Steps = append(w.Steps, f.wharfieStep(image, registry, u, 0))
	}
	return w
}

// wharfieMirror is the mirror that it takes the endpoints from.
func (f *File) wharfieMirror(registry string) *Mirror {
	keys := []string{registry}
	if registry == hubRegistry {
		keys = append(keys, hub)
	} else if (&url.URL{Host: registry}).Port() == "" {
		keys = append(keys, registry+":443", registry+":80")
	}
	return f.firstMirror(append(keys, wildcard))
}

// wharfieRules are the rewrites, for which it looks again and not at the names with a port.
func (f *File) wharfieRules(registry string) []Rewrite {
	keys := []string{registry}
	if registry == hubRegistry {
		keys = append(keys, hub)
	}
	if m := f.firstMirror(append(keys, wildcard)); m != nil {
		return m.Rewrites
	}
	return nil
}

func (f *File) firstMirror(keys []string) *Mirror {
	for _, key := range keys {
		if m := f.mirror(key); m != nil {
			return m
		}
	}
	return nil
}

// wharfieStep is one endpoint as wharfie asks it.
func (f *File) wharfieStep(image rewrite.Image, registry string, u *url.URL, line int) Step {
	base := u.Scheme + "://" + u.Host
	s := Step{Endpoint: base + u.Path, Line: line, NS: namespace(image.Host, u.Host, hubRegistry)}
	s.Default = line == 0
	for _, key := range []string{u.Host, map[string]string{hubRegistry: hub}[u.Host], wildcard} {
		if c := f.config(key); c != nil && key != "" {
			s.TLS = c.TLS
			if c.Auth.given() {
				s.Auth, s.User = c.Auth, c.Auth.user()
			}
			break
		}
	}
	var rules []Rewrite
	if namespace(image.Host, u.Host, hubRegistry) != "" {
		rules = f.wharfieRules(registry)
	} else {
		s.Default = true // whichever place it has among the endpoints
	}
	_, names := rewrite.Outcomes(plain(rules), image.Host, image.Name)
	results := alone(rules, func(one []rewrite.Rule) string { return rewrite.Wharfie(one, image.Host, image.Name) })
	for _, name := range names {
		o := Outcome{Repository: name, Scope: name}
		o.Rule, o.Line = ruleOf(rules, results, image.Name, name)
		at := func(rest string) string { return withNamespace(base+escaped(u.Path+"/"+rest), s.NS) }
		o.Requests = []Request{
			{"ping", "GET", at("")},
			{"tag", "GET", at(name + "/manifests/" + image.Reference())},
			{"manifest", "GET", at(name + "/manifests/<digest>")},
			{"blob", "GET", at(name + "/blobs/<digest>")},
		}
		s.Outcomes = append(s.Outcomes, o)
	}
	return s
}

// user is who somebody logs in as.
func (a *Auth) user() string {
	if a.Username != "" {
		return a.Username
	}
	return "(token)"
}

func digestOf(image rewrite.Image) string {
	if image.Digest != "" {
		return string(image.Digest)
	}
	return "<digest>"
}

func plain(rules []Rewrite) []rewrite.Rule {
	var all []rewrite.Rule
	for _, r := range rules {
		all = append(all, r.Rule)
	}
	return all
}

// alone is what each rule makes of a name by itself.
func alone(rules []Rewrite, does func([]rewrite.Rule) string) []string {
	all := make([]string, len(rules))
	for i, r := range rules {
		all[i] = does([]rewrite.Rule{r.Rule})
	}
	return all
}

// ruleOf is the first rule that makes a name what it has become, of those that change it.
func ruleOf(rules []Rewrite, results []string, before, after string) (pattern string, line int) {
	if i := slices.Index(results, after); i >= 0 && after != before {
		return rules[i].Pattern, rules[i].Line
	}
	return "", 0
}

// escaped is a path as it is sent, but for the place of a digest that is not known yet.
func escaped(p string) string {
	return strings.ReplaceAll((&url.URL{Path: p}).EscapedPath(), "%3Cdigest%3E", "<digest>")
}
