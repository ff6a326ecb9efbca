package main

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"roadstead/storage/catalog"
)

// Config is the whole configuration, checked: every value in it can be used as it is. It is
// made by [parseConfig] and never changed afterwards.
type Config struct {
	File string // where it was read; "" when there is no file and all of this is the default

	Listen string // the registry's address, "host:port"
	Admin  string // the address of metrics and health; "" is off
	TLS    TLS    // the zero value is plain HTTP
	URL    string // what clients call this server, "https://mirror.example.com"; "" is what each of them says

	Offline bool // no upstream is ever asked

	AdminPassword Secret // of the first user, at the first start only; "" has one made
	OIDC          OIDC

	Creators string // who may create projects: "everyone" or "adminonly"; "": whom somebody has let, or administrators

	Storage Storage
	Cluster Cluster
	Uploads Uploads
	Collect Collect
	Audit   AuditLog
	Plans   []Plan        // what is warmed by schedule
	Memory  int64         // bytes of manifests kept in memory
	Drain   time.Duration // how long streams may take to end after SIGTERM
	Log     Log

	// PrivateNetworks are where upstreams may be without AllowPrivate, whoever has made them.
	PrivateNetworks []netip.Prefix

	DefaultProject string            // what names without a project belong to; "" for none
	Hosts          map[string]string // Host header, in lower case and without :443 → project
	Projects       []Project         // in the order of their names
}

// TLS names the files of the server's certificate.
type TLS struct{ Certificate, Key string }

// Storage says where content lives and how much of it.
type Storage struct {
	Directory string
	S3        S3    // where content is instead, if it names a bucket
	Hot       Hot   // and copies of what is used then
	MaxSize   int64 // bytes; zero: only the floor bounds it
	MaxShare  int   // percent of the filesystem, instead of MaxSize; zero: none
	Floor     int64 // bytes left free; zero: the storage room decides; negative: none

	// Catalog is the URL of a database of PostgreSQL, with no password in it. "": the catalog is a file
	// in Directory.
	Catalog         string
	CatalogPassword Secret // "": none, or what PostgreSQL's own PGPASSWORD and ~/.pgpass say
}

// Uploads bounds what is being pushed, in bytes. Zero: no bound.
type Uploads struct {
	Max        int64         // of one upload
	MaxProject int64         // of all of a project
	MaxNode    int64         // of all there are
	Idle       time.Duration // one that nobody goes on with is thrown away after this
}

// Collect says when pushed content that nothing refers to any more goes.
type Collect struct {
	Grace time.Duration // it stays this long
	Every time.Duration // zero: never by itself
}

// AuditLog says how long it is known what was done.
type AuditLog struct {
	Keep time.Duration // zero: without end
}

// OIDC is where people sign in beside the accounts of this server. Without an issuer they do not.
type OIDC struct {
	Issuer           string
	ClientID         string
	ClientSecret     Secret // "" for a public client
	ClientSecretName string // of a stored secret, instead
	CAFile           string // "": the system's
	CA               string // what is in it
	Scopes           []string
	UsernameClaim    string
	GroupsClaim      string
	AdminGroup       string // its members administrate everything; "": nobody by a group
	Groups           []Group
	Trust            time.Duration // how long the secret for docker login outlives the last sign-in; zero: 7 days
}

// Group gives the members of a group of the issuer a role in a project.
type Group struct{ Group, Project, Role string }

// Log says what is written to stderr.
type Log struct {
	Level slog.Level
	JSON  bool
}

// Project is one upstream under the name that clients use, or, if it is hosted, what people push
// there. What is about upstreams is zero then, and the other way round.
type Project struct {
	Name    string
	Public  bool // anybody may pull from it
	Hosted  bool
	Builtin bool // no file declares it: it makes way for one of its name that somebody makes

	Redirect redirect // in a bucket; zero: as the bucket says

	Quota     int64    // bytes of stored content; zero: none
	Immutable []string // globs "repo" or "repo:tag" of tags that never move and never go
	Retain    Retain

	Remote Remote
	Hub    bool     // names of one component are below library/
	Names  []string // values of ?ns= that mean this project; the first one is what it is called upstream

	// A tag is served for TTL without a question, "unknown" is remembered for Negative, and
	// a tag that upstream cannot be asked for is served for StaleFor (zero: without end).
	TTL, Negative, StaleFor time.Duration

	Keep             time.Duration // evicted only this long after the last use
	Allow, Deny, Pin []string      // globs "repo" or "repo:tag"
	Cooldown         time.Duration // a tag follows upstream only when it has been there for so long; zero: at once
	CooldownNew      bool          // and one that is new here is served only then
	Verify           Verify        // what is asked of signatures
	KeepGone         bool          // a tag that upstream no longer has is still served
	DenyWithUpstream bool          // upstream's denial holds for what is cached too
}

// hosted are the projects that people push to and that the configuration has, as the catalog
// keeps them.
func (c Config) hosted() []catalog.Project {
	var all []catalog.Project
	for _, p := range c.Projects {
		if p.Hosted {
			all = append(all, catalog.Project{
				Name: p.Name, Configured: true, Public: p.Public, Quota: p.Quota, Immutable: p.Immutable,
				Retention: catalog.Retention{Newest: p.Retain.Newest, Pulled: p.Retain.Pulled, Rules: p.Retain.Rules}, Schedule: p.Retain.Schedule,
			})
		}
	}
	return all
}

// proxy reports whether a project is one that has an upstream.
func (c Config) proxy(name string) bool {
	return slices.ContainsFunc(c.Projects, func(p Project) bool { return p.Name == name && !p.Hosted })
}

// declaredProxy is proxy for one that makes way for nothing.
func (c Config) declaredProxy(name string) bool {
	return slices.ContainsFunc(c.Projects, func(p Project) bool { return p.Name == name && !p.Hosted && !p.Builtin })
}

// proxies are the projects that have an upstream.
func (c Config) proxies() []Project {
	return slices.DeleteFunc(slices.Clone(c.Projects), func(p Project) bool { return p.Hosted })
}

// Retain says which tags of a hosted project stay: those that any of it keeps. The zero value keeps all.
type Retain struct {
	Newest   int
	Pulled   time.Duration
	Rules    []catalog.Rule
	Schedule string // when the rest goes, in cron's words; "" is with each collection, hosted.Never by command only
}

// Remote is the part of a project that its connection to upstream depends on. What a
// connection reads once and for all from a file is held as well, so that two values differ
// when the file has changed.
type Remote struct {
	Endpoints []string
	Prefix    string

	Username         string
	Password         Secret
	PasswordFile     string // instead of Password; read again when it is refused
	PasswordSecret   string // instead: the name of a stored secret, which Password is once it is known
	CredentialHelper string
	AuthHosts        []string

	CAFile            string // "": the system's
	CA                string // what is in it
	ClientCertificate string // file; it and its key are read for each connection
	ClientKey         string // file

	Insecure     bool
	AllowPrivate bool
	Offline      bool           // as the configuration that is in force says
	Networks     []netip.Prefix // PrivateNetworks of the configuration that is in force
	Proxy        Secret         // URL, "direct", or "" for the environment's; a URL may hold a password
}

// unproven reports whether a certificate is taken without looking at it; plain HTTP has none.
func (r Remote) unproven() bool {
	return r.Insecure && slices.ContainsFunc(r.Endpoints, func(e string) bool { return !strings.HasPrefix(e, "http://") })
}

// credentials reports whether upstream is told who asks.
func (r Remote) credentials() bool {
	return r.Username != "" || r.CredentialHelper != "" || r.ClientCertificate != ""
}

// Secret is text that no log line, error or summary shows.
type Secret string

// String hides the secret. Conversion to string is the only way to it.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString hides it from %#v too.
func (s Secret) GoString() string { return s.String() }

// LogValue hides it from slog's JSON, which does not ask String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// defaults is the configuration of an empty file.
func defaults() Config {
	return Config{
		Listen: ":5000",
		// Metrics and health name every project and how much it is used: they are for this
		// machine until somebody decides otherwise.
		Admin: "127.0.0.1:5001",
		// A fifth is what a node can spare for what would only be faster; drafts go before it.
		Storage:        Storage{Directory: "data", Hot: Hot{Share: 20}},
		Memory:         64 << 20,
		Drain:          time.Minute,
		DefaultProject: "docker.io",
		// A day: an upload that broke in the evening goes on in the morning, and what is about to
		// be tagged has been pushed before.
		Uploads: Uploads{Idle: 24 * time.Hour},
		Collect: Collect{Grace: 24 * time.Hour, Every: 24 * time.Hour},
	}
}

// newProject is a project of which only the name is known.
func newProject(name string) Project {
	return Project{
		Name:   name,
		Public: true,
		// A minute is short enough that a moved tag is seen by the next rollout, and long
		// enough that a hundred nodes starting one image ask upstream once.
		TTL:      time.Minute,
		Negative: 10 * time.Second, // FAULTS U5: a tag just pushed must not stay unknown
		Keep:     7 * 24 * time.Hour,
	}
}

// builtin are the projects that are there without a configuration: the registries that the
// images of a Kubernetes cluster come from, each under its own name.
var builtin = []struct {
	name      string
	hub       bool
	endpoints []string
}{
	{"docker.io", true, []string{"https://registry-1.docker.io"}},
	{"gcr.io", false, []string{"https://gcr.io"}},
	{"ghcr.io", false, []string{"https://ghcr.io"}},
	// Frozen since 2023; what was still missing there was only ever pushed to its successor.
	{"k8s.gcr.io", false, []string{"https://k8s.gcr.io", "https://registry.k8s.io"}},
	{"mcr.microsoft.com", false, []string{"https://mcr.microsoft.com"}},
	{"nvcr.io", false, []string{"https://nvcr.io"}},
	{"public.ecr.aws", false, []string{"https://public.ecr.aws"}},
	{"quay.io", false, []string{"https://quay.io"}},
	{"registry.k8s.io", false, []string{"https://registry.k8s.io"}},
}

func builtinProject(name string) (Project, bool) {
	for _, b := range builtin {
		if b.name == name {
			p := newProject(name)
			p.Hub, p.Remote.Endpoints = b.hub, b.endpoints
			return p, true
		}
	}
	return Project{}, false
}
