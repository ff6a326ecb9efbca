package console

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// What is to be written into the files of clients leads here, with each registry mirrored once.
func TestSnippets(t *testing.T) {
	v := open(t)
	v.image(registry.Repo{Project: "hub", Name: "a"}, "1", plainConfig, `{}`)
	b := v.as("gina")
	for client, wants := range map[string][]string{
		"rke2":       {`"docker.io":`, `endpoint: [ "http://mirror.example.com" ]`, `"(^.+$)": "hub/$1"`, `"quay.io":`},
		"containerd": {"/etc/containerd/certs.d/docker.io/hosts.toml", `server = "https://registry-1.docker.io"`, `[host."http://mirror.example.com/v2/hub"]`, "override_path = true"},
		"docker":     {`"registry-mirrors": [ "http://mirror.example.com" ]`, `"insecure-registries"`, "docker pull mirror.example.com/hub/library/busybox"},
		"podman":     {`prefix = "docker.io"`, `location = "mirror.example.com/hub"`, "insecure = true"},
		"buildkit":   {`[registry."docker.io"]`, `mirrors = [ "mirror.example.com/hub" ]`, "http = true"},
	} {
		p := b.get("/c/connect?for=" + client)
		p.body = html.UnescapeString(p.body)
		p.has(t, http.StatusOK, append(wants, "mirror.example.com/shop/NAME:TAG")...)
		if n := strings.Count(p.body, `"docker.io":`); n > 1 {
			t.Errorf("%s has docker.io %d times", client, n)
		}
	}
	b.get("/c/connect?for=abacus").has(t, http.StatusOK, "registries.yaml")
}

// A registry is mirrored by the project that the server takes for it, whatever that is a cache of.
func TestMirrors(t *testing.T) {
	of := func(name, host, prefix string, names ...string) estate.Project {
		p := estate.Project{Project: catalog.Project{Name: name, Registry: 1, Public: true}, Host: host, Names: names}
		p.Policy.Prefix = prefix
		return p
	}
	for _, row := range []struct {
		name string
		all  []estate.Project
		want string
	}{
		{"by the name it answers to, not by where it asks", []estate.Project{of("docker.io", "harbor.lan:5000", "", "docker.io"), of("quay.io", "harbor.lan:5000", "", "quay.io")},
			"docker.io (^.+$) docker.io, quay.io (^.+$) quay.io"},
		{"all names", []estate.Project{of("team", "harbor.lan", "", "harbor.lan", "old.lan")}, "harbor.lan (^.+$) team, old.lan (^.+$) team"},
		{"a part of a registry", []estate.Project{of("prom", "quay.io", "prometheus")}, "quay.io ^prometheus/(.*) prom"},
		{"two parts", []estate.Project{of("prom", "quay.io", "prometheus"), of("k", "quay.io", "k8s.csi/x")}, "quay.io ^prometheus/(.*) prom ^k8s[.]csi/x/(.*) k"},
		{"no part beside the whole", []estate.Project{of("prom", "quay.io", "prometheus"), of("quay.io", "quay.io", "", "quay.io")}, "quay.io (^.+$) quay.io"},
		{"no part of a part", []estate.Project{of("a", "quay.io", "x"), of("b", "quay.io", "x/y"), of("c", "quay.io", "xy")}, "quay.io ^x/(.*) a ^xy/(.*) c"},
		{"no name that is none of a registry", []estate.Project{of("team", "harbor.lan", "", "team", "localhost:5000")}, "localhost:5000 (^.+$) team"},
		{"one that no name leads to", []estate.Project{of("second", "quay.io", "")}, ""},
	} {
		var got []string
		for _, m := range mirrors(row.all) {
			text := m.Host
			for _, p := range m.Parts {
				text += " " + p.pattern() + " " + p.Project
			}
			got = append(got, text)
		}
		if s := strings.Join(got, ", "); s != row.want {
			t.Errorf("%s: %q, want %q", row.name, s, row.want)
		}
	}
}

// Who has to sign in is told how, and an authority is named only as a comment: one that is named and
// not there fails every pull.
func TestSnippetsOfPrivateProjects(t *testing.T) {
	at := &url.URL{Scheme: "https", Host: "mirror.example.com"}
	for _, private := range []bool{false, true} {
		p := estate.Project{Project: catalog.Project{Name: "hub", Registry: 1, Public: !private}, Names: []string{"docker.io"}}
		s := site{at: at, all: []estate.Project{p}, mirrors: mirrors([]estate.Project{p})}
		for _, c := range clients {
			signs := false
			for _, snippet := range c.snippets(s) {
				signs = signs || strings.Contains(snippet.Text, "robot$cluster")
				for line := range strings.Lines(snippet.Text) {
					if strings.Contains(line, "ca_file") && !strings.HasPrefix(line, "#") {
						t.Errorf("%s names an authority that may not be there: %s", c.name, line)
					}
				}
			}
			if signs != private {
				t.Errorf("%s, private %v: says how to sign in: %v", c.name, private, signs)
			}
		}
	}
}
