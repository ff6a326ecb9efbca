package clients

import (
	"net/url"
	"strings"
	"testing"
)

// A registry is mirrored by the project that the server takes for it, whatever that is a cache of.
func TestMirrors(t *testing.T) {
	of := func(name, host, prefix string, names ...string) Project {
		return Project{Name: name, Host: host, Prefix: prefix, Names: names}
	}
	for _, row := range []struct {
		name string
		all  []Project
		want string
	}{
		{"by the name it answers to, not by where it asks", []Project{of("docker.io", "harbor.lan:5000", "", "docker.io"), of("quay.io", "harbor.lan:5000", "", "quay.io")},
			"docker.io (^.+$) docker.io, quay.io (^.+$) quay.io"},
		{"all names", []Project{of("team", "harbor.lan", "", "harbor.lan", "old.lan")}, "harbor.lan (^.+$) team, old.lan (^.+$) team"},
		{"a part of a registry", []Project{of("prom", "quay.io", "prometheus")}, "quay.io ^prometheus/(.*) prom"},
		{"a part of a registry, by a name that is none", []Project{of("prom", "quay.io", "prometheus", "prom")}, "quay.io ^prometheus/(.*) prom"},
		{"all of one, which is a part of another", []Project{of("prom", "quay.io", "prometheus", "prom.lan")}, "prom.lan (^.+$) prom, quay.io ^prometheus/(.*) prom"},
		{"a part that is said to be the whole", []Project{of("quay.io", "quay.io", "prometheus", "quay.io")}, "quay.io (^.+$) quay.io"},
		{"two parts", []Project{of("prom", "quay.io", "prometheus"), of("k", "quay.io", "k8s.csi/x")}, "quay.io ^prometheus/(.*) prom ^k8s[.]csi/x/(.*) k"},
		{"no part beside the whole", []Project{of("prom", "quay.io", "prometheus"), of("quay.io", "quay.io", "", "quay.io")}, "quay.io (^.+$) quay.io"},
		{"no part of a part", []Project{of("a", "quay.io", "x"), of("b", "quay.io", "x/y"), of("c", "quay.io", "xy")}, "quay.io ^x/(.*) a ^xy/(.*) c"},
		{"no name that is none of a registry", []Project{of("team", "harbor.lan", "", "team", "localhost", "localhost:5000")}, "localhost (^.+$) team, localhost:5000 (^.+$) team"},
		{"one that no name leads to", []Project{of("second", "quay.io", "")}, ""},
		{"not this server itself", []Project{of("self", "mirror.lan", "", "mirror.lan")}, ""},
		{"what is pushed to", []Project{{Name: "production.lan", Hosted: true}}, ""},
	} {
		var got []string
		for _, m := range (Site{URL: &url.URL{Scheme: "https", Host: "mirror.lan"}, Projects: row.all}).mirrors() {
			text := m.host
			for _, p := range m.parts {
				text += " " + p.pattern() + " " + p.project
			}
			got = append(got, text)
		}
		if s := strings.Join(got, ", "); s != row.want {
			t.Errorf("%s: %q, want %q", row.name, s, row.want)
		}
	}
}
