package clients

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"roadstead/rewrite"
)

// table is what the server of a site makes of names.
func table(t *testing.T, s Site) *rewrite.Table {
	t.Helper()
	var all []rewrite.Project
	for _, p := range s.Projects {
		hosts := p.Names
		if !p.Hosted && len(hosts) == 0 {
			hosts = []string{p.Name}
		}
		all = append(all, rewrite.Project{Name: p.Name, Hub: p.Name == "hub", Hosts: hosts, Hosted: p.Hosted})
	}
	made, err := rewrite.NewTable(all, nil, s.Default)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// registriesYAML is what nodes read of such a file.
type registriesYAML struct {
	Mirrors map[string]struct {
		Endpoint []string
		Rewrite  map[string]string
	}
	Configs map[string]struct {
		Auth struct{ Username, Password string }
		TLS  struct {
			CA string `yaml:"ca_file"`
		}
	}
}

// Whatever of the two pullers of RKE2 asks by the generated rules, in whatever order it tries them, is
// led to the project of the image: by one answer only, with or without a wildcard.
func TestRewritesLeadToTheProjects(t *testing.T) {
	images := map[string]string{ // as pods name them → the repository here; "": not here
		"docker.io library/busybox":           "hub/library/busybox",
		"docker.io rancher/rke2-runtime":      "hub/rancher/rke2-runtime",
		"docker.io a/b/c":                     "hub/a/b/c",
		"old.lan:5000 team/app":               "old/team/app",
		"harbor.lan app":                      "old/app",
		"registry.k8s.io pause":               "registry.k8s.io/pause",
		"registry.k8s.io coredns/coredns":     "registry.k8s.io/coredns/coredns",
		"quay.io prometheus/node-exporter":    "prom/node-exporter",
		"quay.io k8s.csi/deep/provisioner":    "csi/provisioner",
		"quay.io k8sxcsi/deep/provisioner":    "",
		"quay.io prometheus-operator/adapter": "",
		"ghcr.io team/app":                    "",
	}
	for name, s := range sites(t) {
		for _, wildcard := range []bool{false, true} {
			s.Wildcard = wildcard
			files, err := rke2(s)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(files[0].Text, `\`) && s.Password == "" {
				t.Errorf("%s has a backslash, with which containerd drops all of it:\n%s", name, files[0].Text)
			}
			var read registriesYAML
			if err := yaml.Unmarshal([]byte(files[0].Text), &read); err != nil {
				t.Fatal(err)
			}
			if got := read.Configs[s.URL.Host]; got.TLS.CA != s.CA || s.Username != "" && (got.Auth.Username != s.Username || got.Auth.Password != s.Password) {
				t.Errorf("%s: %+v in configs, want %s and %s", name, got, s.CA, s.Username)
			}
			routes := table(t, s)
			for image, want := range images {
				host, repo, _ := strings.Cut(image, " ")
				mirror, ok := read.Mirrors[host]
				if !ok {
					mirror, ok = read.Mirrors["*"]
				}
				if !ok {
					if want != "" {
						t.Errorf("%s, wildcard %v: no mirror for %s", name, wildcard, image)
					}
					continue
				}
				var rules []rewrite.Rule
				for pattern, replace := range mirror.Rewrite {
					rules = append(rules, rewrite.Rule{Pattern: pattern, Replace: replace})
				}
				asked, wharfie := rewrite.Outcomes(rules, host, repo)
				if len(asked) != 1 || len(wharfie) != 1 {
					t.Errorf("%s: %s becomes %q and %q", name, image, asked, wharfie)
				}
				endpoint, err := url.Parse(mirror.Endpoint[0])
				if err != nil || endpoint.Path != "" || endpoint.Host != s.URL.Host {
					t.Fatalf("%s: the endpoint is %q", name, mirror.Endpoint)
				}
				containerd, _ := rewrite.Containerd(rules, repo)
				for _, ask := range []string{strings.TrimPrefix(containerd, "/v2/"), wharfie[0]} {
					check(t, routes, name+", "+image, host, ask, want)
				}
			}
		}
	}
}

// The hosts.toml of a registry has its project in the path, and one for all has ns.
func TestHostsLeadToTheProjects(t *testing.T) {
	for name, s := range sites(t) {
		files, err := containerd(s)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, f := range files {
			host := path.Base(path.Dir(f.Path))
			_, at, ok := strings.Cut(f.Text, `[host."`+s.URL.String())
			if !ok || host == s.URL.Host {
				continue
			}
			found++
			at, _, _ = strings.Cut(at, `"]`)
			want := map[string]string{"docker.io": "hub", "old.lan:5000": "old", "harbor.lan": "old", "registry.k8s.io": "registry.k8s.io"}[host]
			check(t, table(t, s), name+", "+host, host, strings.TrimPrefix(at, "/v2/")+"/team/app", want+"/team/app")
		}
		if found != 4 {
			t.Errorf("%s: %d mirrors, want 4", name, found)
		}
	}
}

// check has a server asked for a name, as it is called at a registry.
func check(t *testing.T, routes *rewrite.Table, what, ns, name, want string) {
	t.Helper()
	repo, err := routes.Route("mirror.example.com", ns, name)
	got := repo.String()
	if err != nil {
		got = ""
	}
	if got != want {
		t.Errorf("%s is asked for as %s: %q, %v; want %q", what, name, got, err, want)
	}
}
