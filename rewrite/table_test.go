package rewrite

import (
	"errors"
	"strings"
	"testing"

	"roadstead/registry"
)

func newTable(t testing.TB, fallback string) *Table {
	t.Helper()
	table, err := NewTable([]Project{
		{Name: "docker.io", Hub: true, Hosts: []string{"docker.io"}},
		{Name: "quay.io"},
		{Name: "redhat", Hosts: []string{"registry.redhat.io", "Registry.Access.RedHat.com:443", "localhost:5999"}},
		{Name: "production", Hosted: true},
	}, map[string]string{
		"quay.mirror.example":    "quay.io",
		"Mirror.Example:8443":    "redhat",
		"mirror.example":         "production",
		"[2001:db8::1]":          "quay.io",
		"tls.mirror.example:443": "quay.io",
	}, fallback)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestRoute(t *testing.T) {
	table := newTable(t, "docker.io")
	for _, tt := range []struct {
		show           string
		host, ns, name string
		want           string // a registry.Repo, or a code
	}{
		{"the name says its project", "", "", "docker.io/library/busybox", "docker.io/library/busybox"},
		{"ns is ignored after a rewrite", "", "docker.io", "quay.io/coreos/etcd", "quay.io/coreos/etcd"},
		{"unknown ns is ignored after a rewrite", "", "ksd.example.com", "production/team/web", "production/team/web"},
		{"host is ignored after a rewrite", "quay.mirror.example", "", "production/team/web", "production/team/web"},
		{"a deep name", "", "", "production/a/b/c/d", "production/a/b/c/d"},
		{"an organisation called v2", "", "", "quay.io/v2/app", "quay.io/v2/app"},
		{"an image called v2", "", "", "docker.io/v2", "docker.io/library/v2"},
		{"v2 without a project is a name", "", "", "v2/app", "docker.io/v2/app"},
		{"a project alone", "", "", "production", "NAME_UNKNOWN"},
		{"a project alone with ns", "", "docker.io", "production", "NAME_UNKNOWN"},

		{"library is completed", "", "", "docker.io/busybox", "docker.io/library/busybox"},
		{"library elsewhere is not", "", "", "quay.io/busybox", "quay.io/busybox"},
		{"library is completed behind ns", "", "docker.io", "busybox", "docker.io/library/busybox"},
		{"library is completed in the default project", "", "", "busybox", "docker.io/library/busybox"},

		{"ns", "", "quay.io", "coreos/etcd", "quay.io/coreos/etcd"},
		{"ns is no hosted project", "", "production", "team/web", "NAME_UNKNOWN"},
		{"ns in capitals", "", "Quay.IO", "coreos/etcd", "quay.io/coreos/etcd"},
		{"ns with the port of https", "", "quay.io:443", "coreos/etcd", "quay.io/coreos/etcd"},
		{"ns with another port", "", "quay.io:8443", "coreos/etcd", "NAME_UNKNOWN"},
		{"ns with a port that is configured", "", "localhost:5999", "app", "redhat/app"},
		{"ns without the port that is configured", "", "localhost", "app", "NAME_UNKNOWN"},
		{"ns is the second name of a project", "", "registry.access.redhat.com", "ubi9/ubi", "redhat/ubi9/ubi"},
		{"ns is the project's name but not its registry", "", "redhat", "ubi9/ubi", "NAME_UNKNOWN"},
		{"ns is Docker Hub's old name", "", "index.docker.io", "rancher/pause", "docker.io/rancher/pause"},
		{"ns is Docker Hub's address", "", "registry-1.docker.io:443", "rancher/pause", "docker.io/rancher/pause"},
		{"ns decides before host", "quay.mirror.example", "docker.io", "rancher/pause", "docker.io/rancher/pause"},
		{"unknown ns is not the default project's", "", "evil.example", "rancher/pause", "NAME_UNKNOWN"},
		{"unknown ns is not the host's", "quay.mirror.example", "evil.example", "rancher/pause", "NAME_UNKNOWN"},
		{"ns is no URL", "", "https://quay.io", "coreos/etcd", "NAME_UNKNOWN"},

		{"host", "quay.mirror.example", "", "coreos/etcd", "quay.io/coreos/etcd"},
		{"host in capitals", "QUAY.Mirror.example", "", "coreos/etcd", "quay.io/coreos/etcd"},
		{"host with a port", "quay.mirror.example:5000", "", "coreos/etcd", "quay.io/coreos/etcd"},
		{"host with a port of its own", "mirror.example:8443", "", "ubi9/ubi", "redhat/ubi9/ubi"},
		{"host with another port", "mirror.example:9443", "", "ubi9/ubi", "production/ubi9/ubi"},
		{"host with the port of https", "mirror.example:443", "", "ubi9/ubi", "production/ubi9/ubi"},
		{"host configured with the port of https", "tls.mirror.example", "", "coreos/etcd", "quay.io/coreos/etcd"},
		{"host is an IPv6 address", "[2001:db8::1]", "", "coreos/etcd", "quay.io/coreos/etcd"},
		{"host is an IPv6 address with a port", "[2001:db8::1]:5000", "", "coreos/etcd", "quay.io/coreos/etcd"},
		{"unknown host", "other.example", "", "coreos/etcd", "docker.io/coreos/etcd"},

		{"a dotted project's organisation is reached", "", "", "quay/busybox", "docker.io/quay/busybox"},
		{"an organisation is hidden by a project", "", "docker.io", "production/app", "production/app"},

		{"no name", "", "", "", "NAME_INVALID"},
		{"capitals", "", "", "docker.io/Library/busybox", "NAME_INVALID"},
		{"capitals in the project", "", "", "Docker.io/library/busybox", "NAME_INVALID"},
		{"an empty component", "", "", "docker.io//busybox", "NAME_INVALID"},
		{"an empty component after v2", "", "", "docker.io/v2//busybox", "NAME_INVALID"},
		{"nothing after the project", "", "", "docker.io/", "NAME_INVALID"},
		{"nothing after v2", "", "", "docker.io/v2/", "NAME_INVALID"},
		{"nothing before the slash", "", "", "/busybox", "NAME_INVALID"},
		{"dots out of the project", "", "", "quay.io/../production/web", "NAME_INVALID"},
		{"dots behind ns", "", "quay.io", "../production/web", "NAME_INVALID"},
		{"dots alone", "", "", "..", "NAME_INVALID"},
		{"a leading dash", "", "", "docker.io/-x/y", "NAME_INVALID"},
		{"a null byte", "", "", "docker.io/a\x00b", "NAME_INVALID"},
		{"a longest name", "", "", "quay.io/" + strings.Repeat("a", 247), "quay.io/" + strings.Repeat("a", 247)},
		{"a longest name behind ns", "", "quay.io", strings.Repeat("a", 247), "quay.io/" + strings.Repeat("a", 247)},
		{"too long with its project", "", "quay.io", strings.Repeat("a", 248), "NAME_INVALID"},
		{"too long with library", "", "", strings.Repeat("a", 238), "NAME_INVALID"},
		{"too long anyway", "", "", strings.Repeat("a/", 4000) + "a", "NAME_INVALID"},
	} {
		t.Run(tt.show, func(t *testing.T) {
			repo, err := table.Route(tt.host, tt.ns, tt.name)
			got := repo.String()
			if err != nil {
				got = string(checkFault(t, err).Code)
			}
			if got != tt.want {
				t.Errorf("Route(%q, %q, %q) = %q, want %q", tt.host, tt.ns, tt.name, got, tt.want)
			}
		})
	}
}

func TestRouteWithoutDefaultProject(t *testing.T) {
	table := newTable(t, "")
	with := newTable(t, "docker.io")
	for _, host := range []string{"", "some.example.com", "some.example.com:5000"} {
		if table.Default(host) != "" || with.Default(host) != "docker.io" {
			t.Errorf("the default projects at %q are %q and %q", host, table.Default(host), with.Default(host))
		}
	}
	for host, project := range map[string]string{"quay.mirror.example": "quay.io", "MIRROR.example:8443": "redhat", "mirror.example:5000": "production", "tls.mirror.example": "quay.io"} {
		if got := table.Default(host); got != project {
			t.Errorf("the default project at %s is %q, want %q", host, got, project)
		}
	}
	if repo, err := table.Route("", "docker.io", "busybox"); err != nil || repo.String() != "docker.io/library/busybox" {
		t.Errorf("by ns: %v, %v", repo, err)
	}
	_, err := table.Route("other.example", "", "rancher/pause")
	if fault := checkFault(t, err); fault.Code != registry.NameUnknown {
		t.Errorf("code %s, want %s", fault.Code, registry.NameUnknown)
	}
}

// TestRouteSaysWhatToDo holds the messages to what a person at the other end needs of them.
func TestRouteSaysWhatToDo(t *testing.T) {
	table := newTable(t, "")
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		show, ns, name string
		want           []string
	}{
		{"no project in the name", "", "team/web", []string{`"team/web"`, "<project>/<repository>"}},
		{"a project alone", "", "production", []string{"production/<repository>"}},
		{"unknown ns", "evil.example", "team/web", []string{`"evil.example"`, "project configured"}},
		{"control characters stay in quotes", "a\r\nb\x1b[0m", "team/web", []string{`"a\r\nb\x1b[0m"`}},
		{"bad name", "quay.io", "Team/web", []string{`"Team/web"`, "lower-case", "255"}},
		{"a long ns is cut", long, "team/web", []string{"xxx…"}},
		{"a long name is cut", "", long, []string{"xxx…"}},
	} {
		t.Run(tt.show, func(t *testing.T) {
			_, err := table.Route("", tt.ns, tt.name)
			fault := checkFault(t, err)
			for _, want := range tt.want {
				if !strings.Contains(fault.Message, want) {
					t.Errorf("message %q does not say %q", fault.Message, want)
				}
			}
		})
	}
}

func checkFault(t testing.TB, err error) *registry.Fault {
	t.Helper()
	fault, ok := errors.AsType[*registry.Fault](err)
	if !ok {
		t.Fatalf("error %v (%T) is no fault", err, err)
	}
	if fault.Code != registry.NameUnknown && fault.Code != registry.NameInvalid {
		t.Errorf("fault %v has code %s", fault, fault.Code)
	}
	// 80 bytes of a client's own, each "\xff" in quotes at worst, and the sentence round them.
	if fault.Message == "" || len(fault.Message) > 80*len(`\xff`)+250 || strings.ContainsAny(fault.Message, "\r\n\x00\x1b") {
		t.Errorf("message %q is not one for a client", fault.Message)
	}
	return fault
}

func TestKnown(t *testing.T) {
	table := newTable(t, "")
	for project, want := range map[string]bool{
		"docker.io": true, "production": true, "": false, "v2": false, "index.docker.io": false, "docker.io/library": false,
	} {
		if got := table.Known(project); got != want {
			t.Errorf("Known(%q) = %v, want %v", project, got, want)
		}
	}
}

func TestNewTableRefuses(t *testing.T) {
	hub := Project{Name: "docker.io", Hub: true}
	for _, tt := range []struct {
		show     string
		projects []Project
		hosts    map[string]string
		fallback string
		want     string // in the error
	}{
		{"a bad project name", []Project{{Name: "Docker"}}, nil, "", `"Docker"`},
		{"a project without a name", []Project{{}}, nil, "", `project ""`},
		{"hosted here and elsewhere", []Project{{Name: "a", Hosted: true, Hosts: []string{"a.example"}}}, nil, "", "hosted here"},
		{"hosted here and on Docker Hub", []Project{{Name: "a", Hosted: true, Hub: true}}, nil, "", "hosted here"},
		{"a project named like the root", []Project{{Name: "v2"}}, nil, "", `"v2"`},
		{"a project twice", []Project{hub, hub}, nil, "", "twice"},
		{"a registry of two projects", []Project{{Name: "a", Hosts: []string{"quay.io"}}, {Name: "b", Hosts: []string{"Quay.io:443"}}}, nil, "", `project "a" already`},
		{"Docker Hub of two projects", []Project{hub, {Name: "b", Hosts: []string{"index.docker.io"}}}, nil, "", `project "docker.io" already`},
		{"a URL for a registry", []Project{{Name: "a", Hosts: []string{"https://quay.io"}}}, nil, "", `"https://quay.io"`},
		{"an empty registry", []Project{{Name: "a", Hosts: []string{""}}}, nil, "", `host ""`},
		{"a host for no project", []Project{hub}, map[string]string{"h": "quay.io"}, "", `no project "quay.io"`},
		{"a URL for a host", []Project{hub}, map[string]string{"http://h": "docker.io"}, "", `"http://h"`},
		{"a host of two projects", []Project{hub, {Name: "a"}}, map[string]string{"h": "a", "H:443": "docker.io"}, "", "already"},
		{"a default project that is not there", []Project{hub}, nil, "quay.io", `no project "quay.io"`},
	} {
		t.Run(tt.show, func(t *testing.T) {
			_, err := NewTable(tt.projects, tt.hosts, tt.fallback)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestNewTableTakesAliases shows that an operator may list what is known anyway.
func TestNewTableTakesAliases(t *testing.T) {
	projects := []Project{{Name: "hub", Hub: true, Hosts: []string{"docker.io", "index.docker.io", "registry-1.docker.io"}}}
	table, err := NewTable(projects, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	projects[0] = Project{Name: "changed"}
	repo, err := table.Route("", "docker.io", "busybox")
	if want := (registry.Repo{Project: "hub", Name: "library/busybox"}); repo != want || err != nil {
		t.Errorf("Route = %v, %v; want %v", repo, err, want)
	}
}

func FuzzRoute(f *testing.F) {
	for _, name := range []string{
		"", "/", "..", "docker.io", "docker.io/", "docker.io/busybox", "docker.io/v2/library/busybox", "docker.io/v2", "quay.io/v2/v2/x",
		"v2/app", "production/../quay.io/x", "a//b", "A/b", "a\x00", "a_b__c-d.e/f", strings.Repeat("a", 256),
	} {
		f.Add("", "", name)
		f.Add("quay.mirror.example:5000", "", name)
		f.Add("[2001:db8::1]:5000", "", name)
		f.Add("mirror.example", "Index.Docker.IO:443", name)
		f.Add("mirror.example", "evil.example", name)
	}
	table := newTable(f, "docker.io")
	f.Fuzz(func(t *testing.T, host, ns, name string) {
		repo, err := table.Route(host, ns, name)
		if err != nil {
			checkFault(t, err)
			return
		}
		if !table.Known(repo.Project) {
			t.Fatalf("Route(%q, %q, %q) made up project %q", host, ns, name, repo.Project)
		}
		if err := errors.Join(registry.CheckName(repo.Name), registry.CheckName(repo.String())); err != nil {
			t.Fatalf("Route(%q, %q, %q) = %v: %v", host, ns, name, repo, err)
		}
		if repo.Project == "docker.io" && !strings.Contains(repo.Name, "/") {
			t.Fatalf("Route(%q, %q, %q) = %v without library/", host, ns, name, repo)
		}
		// The full name means the same repository to everyone.
		full := repo.String()
		if again, err := table.Route(host, ns, full); again != repo || err != nil {
			t.Fatalf("Route(%q, %q, %q) = %v, but %q leads to %v, %v", host, ns, name, repo, full, again, err)
		}
	})
}

// routes are the ways through the table that a pull takes, and what each may allocate.
var routes = []struct {
	show           string
	host, ns, name string
	allocs         float64
}{
	{"rewritten", "mirror:5000", "docker.io", "docker.io/library/busybox", 0},
	{"ns", "mirror:5000", "docker.io", "rancher/rke2-runtime", 0},
	{"host", "quay.mirror.example:5000", "", "coreos/etcd", 0},
	{"default", "mirror:5000", "", "rancher/rke2-runtime", 0},
	{"library", "mirror:5000", "", "busybox", 1},
}

func TestRouteAllocates(t *testing.T) {
	table := newTable(t, "docker.io")
	for _, r := range routes {
		var err error
		allocs := testing.AllocsPerRun(100, func() { _, err = table.Route(r.host, r.ns, r.name) })
		if err != nil || allocs > r.allocs {
			t.Errorf("%s: %v allocations, want at most %v; error %v", r.show, allocs, r.allocs, err)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	table := newTable(b, "docker.io")
	for _, r := range routes {
		b.Run(r.show, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := table.Route(r.host, r.ns, r.name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Who comes first stays, and one that does not fit is in nobody's way.
func TestMisfits(t *testing.T) {
	got := Misfits([]Project{
		{Name: "docker.io", Hub: true}, {Name: "index.docker.io", Hosts: []string{"free.example", "index.docker.io"}},
		{Name: "free", Hosts: []string{"free.example"}}, {Name: "free", Hosted: true}, {Name: "Upper"},
	})
	for i, misfit := range []bool{false, true, false, true, true} {
		if (got[i] != nil) != misfit {
			t.Errorf("project %d: %v, want a misfit: %v", i, got[i], misfit)
		}
	}
}
