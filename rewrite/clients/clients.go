// Package clients writes the configuration of those that pull from here: what RKE2, containerd,
// Docker and the others want in which file, made of what this server has.
//
// What lives here is pure: a [Site] becomes text. Where the projects of a site come from, and what
// becomes of the text, is for others to know.
package clients

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"roadstead/registry"
)

// Site is a server, as its clients have to know it.
type Site struct {
	URL     *url.URL // how they reach it: scheme and host, without a path
	Default string   // the project that names without one belong to at that host; "": none

	Projects []Project

	// CA is a file on the clients with the authority of the server's certificate, and PEM what is in
	// it, for clients that want that instead. "": it is one that everybody knows, or has to be named
	// yet. A comment says where.
	CA, PEM string

	// Username and Password are whom clients sign in as. "": those who need one are shown a place for it.
	Username, Password string

	// Wildcard has one rule for all registries, where a client has such rules, instead of one for each.
	Wildcard bool
}

// Project is what clients have to know of a project.
type Project struct {
	Name    string
	Private bool     // not everybody may pull from it
	Hosted  bool     // it is pushed to, and is called by its own name only
	Names   []string // the registries that it stands for, as [rewrite.Table.Names] has them

	// What it is a cache of, as images are called by it, and what the names there begin with of which it
	// is. It may stand for another registry, or for none.
	Host, Prefix string
}

// File is what to write into a file of a client, or to type.
type File struct {
	Path  string // on the client; relative: wherever one likes; "": it is typed
	Text  string
	Notes []Note // what to know of it
}

// Client is somebody who pulls.
type Client struct {
	Name     string
	Wildcard bool // one rule for all registries is something that it knows

	files func(Site) ([]File, error)
}

// All are the clients that there are, those of clusters first.
var All = []Client{
	{"rke2", true, rke2},
	{"system-default-registry", false, systemDefault},
	{"containerd", true, containerd},
	{"talos", true, talos},
	{"crio", false, crio},
	{"docker", false, docker},
	{"podman", false, podman},
	{"buildkit", false, buildkit},
	{"kaniko", false, kaniko},
}

// Names are those of all clients.
func Names() []string {
	var names []string
	for _, c := range All {
		names = append(names, c.Name)
	}
	return names
}

// Find returns the client of a name.
func Find(name string) (Client, error) {
	i := slices.IndexFunc(All, func(c Client) bool { return c.Name == name })
	if i < 0 {
		return Client{}, fmt.Errorf("no client is called %q; there are %s", registry.Clip(name), strings.Join(Names(), ", "))
	}
	return All[i], nil
}

// Files are what a client needs. An error says why there can be none.
func (c Client) Files(s Site) ([]File, error) {
	if s.Wildcard && !c.Wildcard {
		return nil, fmt.Errorf("%s has no rule for all registries at once; leave the wildcard away for one for each", c.Name)
	}
	return c.files(s)
}

// Caches reports whether there is anything that clients could have a mirror of.
func (s Site) Caches() bool { return len(s.mirrors()) > 0 }

// Private reports whether clients need to sign in for a mirror of something.
func (s Site) Private() bool {
	return slices.ContainsFunc(s.Projects, func(p Project) bool { return p.Private && !p.Hosted })
}

func (s Site) secure() bool { return s.URL.Scheme == "https" }

// signsIn reports whether clients are to be told whom to sign in as.
func (s Site) signsIn() bool { return s.Username != "" || s.Private() }

// Whoever signs in, if nobody is given, is a robot of the system: one that may pull from all that a
// cluster needs.
const (
	someRobot  = "robot$cluster"
	someSecret = "the-secret-of-the-robot"
	someCA     = "/etc/ssl/certs/roadstead-ca.pem"
)

// account is whom clients sign in as.
func (s Site) account() (name, password string) {
	switch {
	case s.Username == "":
		return someRobot, someSecret
	case s.Password == "":
		return s.Username, someSecret
	}
	return s.Username, s.Password
}

// quote writes text as JSON has it. YAML and TOML read that too, which is more than can be said of
// what Go has for itself.
func quote(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string always can be
	return strings.TrimSuffix(b.String(), "\n")
}

// shell quotes text for a shell.
func shell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// comment has each line begin with a mark that YAML and TOML skip.
func comment(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("# " + line)
	}
	return b.String()
}
