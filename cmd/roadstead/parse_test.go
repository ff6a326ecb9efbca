package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// parse reads text as "roadstead.yaml" of an empty folder.
func parse(t *testing.T, text string, env ...string) (Config, []Fault) {
	t.Helper()
	return parseConfig("roadstead.yaml", []byte(text), environment(env))
}

// environment makes an os.LookupEnv of "NAME=value" pairs.
func environment(pairs []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, pair := range pairs {
			if got, value, _ := strings.Cut(pair, "="); got == name {
				return value, true
			}
		}
		return "", false
	}
}

func good(t *testing.T, text string, env ...string) Config {
	t.Helper()
	c, faults := parse(t, text, env...)
	for _, f := range faults {
		t.Error(f)
	}
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func project(t *testing.T, c Config, name string) Project {
	t.Helper()
	for _, p := range c.Projects {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no project %q in %d projects", name, len(c.Projects))
	return Project{}
}

func TestEverythingHasADefault(t *testing.T) {
	for name, text := range map[string]string{"empty file": "", "only a comment": "# nothing\n", "nothing below a key": "projects:\nstorage:\n"} {
		t.Run(name, func(t *testing.T) {
			c := good(t, text)
			if c.Listen != ":5000" || c.Admin != "127.0.0.1:5001" || c.Memory != 64<<20 || c.Drain != time.Minute || c.DefaultProject != "docker.io" {
				t.Errorf("got %+v", c)
			}
			var names []string
			for _, p := range c.Projects {
				names = append(names, p.Name)
			}
			want := "docker.io gcr.io ghcr.io k8s.gcr.io mcr.microsoft.com nvcr.io public.ecr.aws quay.io registry.k8s.io"
			if got := strings.Join(names, " "); got != want {
				t.Errorf("projects\ngot  %s\nwant %s", got, want)
			}
			hub := project(t, c, "docker.io")
			if !hub.Hub || hub.TTL != time.Minute || hub.Negative != 10*time.Second || hub.Keep != 168*time.Hour || hub.StaleFor != 0 {
				t.Errorf("docker.io is %+v", hub)
			}
			if got := project(t, c, "k8s.gcr.io").Remote.Endpoints; !reflect.DeepEqual(got, []string{"https://k8s.gcr.io", "https://registry.k8s.io"}) {
				t.Errorf("k8s.gcr.io goes to %q", got)
			}
		})
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	secret := filepath.Join(dir, "secret")
	write(t, secret, "hunter2\n")
	text := `
listen: "127.0.0.1:6000"
admin: ""
tls: { certificate: ` + cert + `, key: ` + key + ` }
storage: { directory: /srv/roadstead, max_size: 80%, floor: 5GB }
memory: 128MiB
drain: 90s
allow_private_networks: [ 10.1.2.3/8, "fd00::1" ]
log: { level: debug, format: json }
default_project: ""
hosts: { "Quay.Mirror.Example:8443": quay.io }
url: https://Mirror.Example:8443/
admin_password_file: ` + secret + `
uploads: { max: 1GiB, max_project: 2GiB, max_node: 3GiB, idle: 2h }
collect: { grace: 3h, every: 0s }
oidc:
  issuer: https://id.example.com/
  client_id: roadstead
  client_secret_file: ` + secret + `
  ca_file: ` + cert + `
  scopes: [ openid, groups ]
  username_claim: email
  groups_claim: roles
  admin_group: ops
  trust: 2d
  groups: [ { group: dev, project: production, role: developer } ]
builtin_projects: false
projects:
  production:
    hosted: true
    public: true
    redirect: false
    quota: 100GiB
    immutable: [ "**:v*", "app" ]
    retain: { newest: 10, pulled: 30d, schedule: never }
  gcr.io:
    username: u
    password_secret: gcr
    public: true
  quay.io:
    endpoints: [ "https://QUAY.io", "http://10.0.0.1:5000/v2/", "https://h/a/b/", "https://h/a/v2" ]
    hub: true
    names: [ Quay.io, "quay.io:8443" ]
    prefix: team/images
    username: u
    password: ${PASSWORD}
    ca_file: ` + cert + `
    client_certificate: ` + cert + `
    client_key: ` + key + `
    insecure: true
    allow_private: true
    auth_hosts: auth.example
    proxy: socks5://p:secret@127.0.0.1:1080
    ttl: 0s
    negative_ttl: 0
    stale_for: 1d12h
    keep: 2w
    allow: [ "library/**", "rancher/*:v1.*" ]
    deny: [ ]
    pin: [ "library/busybox:1.*" ]
    keep_gone: true
    deny_with_upstream: true
`
	text = strings.Replace(text, "2w", "14d", 1)
	c := good(t, text, "PASSWORD=pa$${ss")
	pem, _ := os.ReadFile(cert)
	want := Config{
		File: "roadstead.yaml", Listen: "127.0.0.1:6000", TLS: TLS{cert, key},
		Storage: Storage{Directory: "/srv/roadstead", Hot: Hot{Share: 20}, MaxShare: 80, Floor: 5e9},
		Memory:  128 << 20, Drain: 90 * time.Second, PrivateNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")},
		Log:   Log{Level: slog.LevelDebug, JSON: true},
		Hosts: map[string]string{"quay.mirror.example:8443": "quay.io"},
		URL:   "https://mirror.example:8443", AdminPassword: "hunter2",
		Uploads: Uploads{Max: 1 << 30, MaxProject: 2 << 30, MaxNode: 3 << 30, Idle: 2 * time.Hour},
		Collect: Collect{Grace: 3 * time.Hour},
		OIDC: OIDC{
			Issuer: "https://id.example.com/", ClientID: "roadstead", ClientSecret: "hunter2", CAFile: cert, CA: string(pem),
			Scopes: []string{"openid", "groups"}, UsernameClaim: "email", GroupsClaim: "roles", AdminGroup: "ops", Trust: 48 * time.Hour,
			Groups: []Group{{"dev", "production", "developer"}},
		},
		Projects: []Project{{
			Name: "gcr.io", Public: true, Names: []string{"gcr.io"},
			Remote: Remote{Endpoints: []string{"https://gcr.io"}, Username: "u", PasswordSecret: "gcr"},
			TTL:    time.Minute, Negative: 10 * time.Second, Keep: 7 * 24 * time.Hour,
		}, {
			Name: "production", Hosted: true, Public: true, Redirect: -1, Quota: 100 << 30,
			Immutable: []string{"**:v*", "app"}, Retain: Retain{Newest: 10, Pulled: 30 * 24 * time.Hour, Schedule: "never"},
		}, {
			Name: "quay.io", Hub: true, Names: []string{"quay.io", "quay.io:8443"},
			Remote: Remote{
				Endpoints: []string{"https://quay.io", "http://10.0.0.1:5000", "https://h/a/b", "https://h/a"}, Prefix: "team/images",
				Username: "u", Password: "pa$${ss", AuthHosts: []string{"auth.example"},
				CAFile: cert, CA: string(pem), ClientCertificate: cert, ClientKey: key,
				Insecure: true, AllowPrivate: true, Proxy: "socks5://p:secret@127.0.0.1:1080",
			},
			StaleFor: 36 * time.Hour, Keep: 14 * 24 * time.Hour,
			Allow: []string{"library/**", "rancher/*:v1.*"}, Deny: []string{}, Pin: []string{"library/busybox:1.*"},
			KeepGone: true, DenyWithUpstream: true,
		}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestAProjectMergesOverTheBuiltInOne(t *testing.T) {
	c := good(t, `
projects:
  docker.io:
    ttl: 5m
  quay.io:
  registry.example.com:
    keep: 1h
  mirror:
    endpoints: [ https://mirror.example.com ]
`)
	hub := project(t, c, "docker.io")
	if !hub.Hub || hub.TTL != 5*time.Minute || hub.Keep != 168*time.Hour || hub.Remote.Endpoints[0] != "https://registry-1.docker.io" {
		t.Errorf("docker.io is %+v", hub)
	}
	if len(c.Projects) != 11 {
		t.Errorf("%d projects, want the 9 built-in ones and 2 more", len(c.Projects))
	}
	own := project(t, c, "registry.example.com")
	if own.Remote.Endpoints[0] != "https://registry.example.com" || own.Names[0] != "registry.example.com" {
		t.Errorf("a project named after its host is %+v", own)
	}
}

func TestWithoutBuiltInProjectsNothingIsAddedButUpstreamsAreKnown(t *testing.T) {
	c := good(t, "builtin_projects: false\nprojects: { docker.io: { ttl: 2m } }\n")
	if len(c.Projects) != 1 || !c.Projects[0].Hub || c.DefaultProject != "docker.io" {
		t.Errorf("got %+v", c)
	}
	c = good(t, "builtin_projects: false\nprojects: { quay.io: }\n")
	if c.DefaultProject != "" {
		t.Errorf("default project is %q, which is not there", c.DefaultProject)
	}
}

func TestTheEnvironmentExpandsInEveryValue(t *testing.T) {
	env := []string{"PORT=7000", "EMPTY=", "TTL=3m", "HOST=quay.io", "TRUE=true", "HOSTILE=${PORT}"}
	c := good(t, `
listen: ":${PORT}"
admin: 127.0.0.1:${ADMIN_PORT:-7001}
storage: { max_size: "${SIZE:-1GiB}" }
log: { level: "${EMPTY:-warn}" }
projects:
  quay.io:
    endpoints: [ "https://${HOST}" ]
    username: ${HOSTILE}
    password: a$${PORT}b$c
    ttl: ${TTL}
    keep_gone: ${TRUE}
    allow: [ "${ORG:-library}/**" ]
`, env...)
	p := project(t, c, "quay.io")
	for what, pair := range map[string][2]any{
		"listen":                       {c.Listen, ":7000"},
		"admin":                        {c.Admin, "127.0.0.1:7001"},
		"max_size":                     {c.Storage.MaxSize, int64(1 << 30)},
		"level":                        {c.Log.Level, slog.LevelWarn},
		"username, not expanded twice": {p.Remote.Username, "${PORT}"},
		"password":                     {string(p.Remote.Password), "a${PORT}b$c"},
		"ttl":                          {p.TTL, 3 * time.Minute},
		"keep_gone":                    {p.KeepGone, true},
		"allow":                        {p.Allow[0], "library/**"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
}

func TestRelativePathsStartFromTheFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "s3cret\n")
	text := "storage: { directory: ./content }\nprojects: { quay.io: { username: u, password_file: secret } }\n"
	c, faults := parseConfig(filepath.Join(dir, "roadstead.yaml"), []byte(text), environment(nil))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if got, want := project(t, c, "quay.io").Remote.PasswordFile, filepath.Join(dir, "secret"); got != want {
		t.Errorf("password file is %q, want %q", got, want)
	}
	if want := filepath.Join(dir, "content"); c.Storage.Directory != want {
		t.Errorf("directory is %s, want %s", c.Storage.Directory, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsMayBeEmptyInTheEnvironment(t *testing.T) {
	c := good(t, "projects: { quay.io: { username: \"${USER_NAME:-}\", password: \"${PASSWORD:-}\", credential_helper: \"\" } }\n")
	if r := project(t, c, "quay.io").Remote; r.Username != "" || r.Password != "" {
		t.Errorf("got %+v", r)
	}
}

func TestZeroIsNotTheDefaultWhereItMeansNone(t *testing.T) {
	c := good(t, "memory: 0\nstorage: { floor: 0 }\nprojects: { quay.io: { ttl: 0s, negative_ttl: 0s, keep: 0s } }\n")
	if c.Memory != 1 || c.Storage.Floor >= 0 {
		t.Errorf("memory %d, floor %d", c.Memory, c.Storage.Floor)
	}
	p := cacheProject(project(t, c, "quay.io"), nil)
	if p.TTL >= 0 || p.Negative >= 0 || p.Keep >= 0 || p.StaleFor != 0 {
		t.Errorf("%+v", p)
	}
}

// What somebody has to sign in for at upstream is not for everybody here, unless that is said.
func TestWhichProjectsAreForEverybody(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	c := good(t, `
projects:
  a.example:
  b.example: { username: u, password: p }
  c.example: { username: u, password: p, public: true }
  d.example: { public: false }
  e.example: { username: "", password: "" }
  f.example: { client_certificate: "`+cert+`", client_key: "`+key+`" }
  g: { hosted: true }
  h: { hosted: true, public: true }
  quay.io: { hosted: true }
`)
	for name, public := range map[string]bool{
		"docker.io": true, "a.example": true, "b.example": false, "c.example": true, "d.example": false,
		"e.example": true, "f.example": false, "g": false, "h": true, "quay.io": false,
	} {
		if got := project(t, c, name); got.Public != public {
			t.Errorf("%s: public is %v, want %v", name, got.Public, public)
		}
	}
	if p := project(t, c, "quay.io"); len(p.Remote.Endpoints)+len(p.Names) > 0 || p.Keep > 0 {
		t.Errorf("a hosted project has an upstream left: %+v", p)
	}
}

func TestTheAdminsPasswordComesFromTheEnvironmentOrAFile(t *testing.T) {
	if c := good(t, "", "ROADSTEAD_ADMIN_PASSWORD=hunter2"); c.AdminPassword != "hunter2" {
		t.Error("that of the environment is not taken")
	}
	if c := good(t, "", "ROADSTEAD_ADMIN_PASSWORD="); c.AdminPassword != "" {
		t.Error("an empty one is one")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "hunter3\r\n")
	text := "admin_password_file: " + filepath.Join(dir, "secret") + "\n"
	if c := good(t, text); c.AdminPassword != "hunter3" {
		t.Error("that of the file is not taken")
	}
	_, faults := parse(t, text, "ROADSTEAD_ADMIN_PASSWORD=hunter2")
	if len(faults) != 1 || faults[0].What != "admin_password_file: the environment has ROADSTEAD_ADMIN_PASSWORD as well" {
		t.Errorf("with both: %v", faults)
	}
}

// Images of Docker take a secret from the file that a variable ending in _FILE names.
func TestTheEnvironmentNamesFilesOfPasswords(t *testing.T) {
	dir := t.TempDir()
	secret, empty, absent := filepath.Join(dir, "secret"), filepath.Join(dir, "empty"), filepath.Join(dir, "absent")
	write(t, secret, "hunter4\r\n")
	write(t, empty, "")
	const catalog = "storage: { catalog: 'postgres://roadstead@db.example/roadstead' }\n"
	for _, tt := range []struct {
		name, text string
		env        []string
		admin      Secret
		catalog    Secret
		fault      string
	}{
		{"of the admin", "", []string{"ROADSTEAD_ADMIN_PASSWORD_FILE=" + secret}, "hunter4", "", ""},
		{"of the catalog", catalog, []string{"ROADSTEAD_CATALOG_PASSWORD_FILE=" + secret}, "", "hunter4", ""},
		{"of a catalog that is a file", "", []string{"ROADSTEAD_CATALOG_PASSWORD_FILE=" + absent}, "", "", ""},
		{"empty is none", catalog, []string{"ROADSTEAD_ADMIN_PASSWORD_FILE=" + empty, "ROADSTEAD_CATALOG_PASSWORD_FILE=" + empty}, "", "", ""},
		{"nor is /dev/null one", "", []string{"ROADSTEAD_ADMIN_PASSWORD_FILE=/dev/null"}, "", "", ""},
		{"no name", "", []string{"ROADSTEAD_ADMIN_PASSWORD_FILE="}, "", "", ""},
		{"not there", "", []string{"ROADSTEAD_ADMIN_PASSWORD_FILE=" + absent}, "", "",
			"environment: ROADSTEAD_ADMIN_PASSWORD_FILE: the file cannot be read: open " + absent + ": no such file or directory; name a file that this user can read, or unset it"},
		{"both", "", []string{"ROADSTEAD_ADMIN_PASSWORD_FILE=" + secret, "ROADSTEAD_ADMIN_PASSWORD=hunter2"}, "", "",
			"environment: ROADSTEAD_ADMIN_PASSWORD_FILE: ROADSTEAD_ADMIN_PASSWORD is set as well; unset one of them"},
		{"beside the key", "admin_password_file: " + secret + "\n", []string{"ROADSTEAD_ADMIN_PASSWORD_FILE=" + secret}, "", "",
			"roadstead.yaml:1: admin_password_file: the environment has ROADSTEAD_ADMIN_PASSWORD_FILE as well; remove one of them"},
	} {
		c, faults := parse(t, tt.text, tt.env...)
		var said []string
		for _, f := range faults {
			said = append(said, f.Error())
		}
		if got := strings.Join(said, "\n"); got != tt.fault {
			t.Errorf("%s: the faults are %q, want %q", tt.name, got, tt.fault)
		}
		if tt.fault == "" && (c.AdminPassword != tt.admin || c.Storage.CatalogPassword != tt.catalog) {
			t.Errorf("%s: the passwords are %q and %q", tt.name, string(c.AdminPassword), string(c.Storage.CatalogPassword))
		}
	}
}

func TestThePasswordOfTheCatalogComesFromTheEnvironmentOrAFile(t *testing.T) {
	const place = "postgres://roadstead@db.example/roadstead"
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "a/b @c\n")
	text := "storage:\n  catalog: " + place + "\n"
	file := "  catalog_password_file: " + filepath.Join(dir, "secret") + "\n"
	for _, tt := range []struct{ name, text, env, want string }{
		{"none", text, "", place},
		{"of the environment", text, "ROADSTEAD_CATALOG_PASSWORD=a/b @c", place + "?password=a%2Fb+%40c"},
		{"of a file", text + file, "", place + "?password=a%2Fb+%40c"},
		{"beside others", "storage:\n  catalog: " + place + "?sslmode=disable\n" + file, "", place + "?password=a%2Fb+%40c&sslmode=disable"},
		{"of the environment, for a file of ours", "storage: { directory: /data }\n", "ROADSTEAD_CATALOG_PASSWORD=x", "sqlite:/data/catalog.db"},
	} {
		c := good(t, tt.text, tt.env)
		if got := c.Storage.catalogURL(); got != tt.want {
			t.Errorf("%s: the catalog is %s, want %s", tt.name, got, tt.want)
		}
		var shown strings.Builder
		if err := errors.Join(summary(&shown, c), export(streams{out: &shown}, c)); err != nil || strings.Contains(shown.String(), "a/b @c") {
			t.Errorf("%s: shown as %s, %v", tt.name, shown.String(), err)
		}
	}
	_, faults := parse(t, text+file, "ROADSTEAD_CATALOG_PASSWORD=x")
	if len(faults) != 1 || faults[0].Line != 3 || faults[0].What != "catalog_password_file: the environment has ROADSTEAD_CATALOG_PASSWORD as well" {
		t.Errorf("with both: %v", faults)
	}
}
