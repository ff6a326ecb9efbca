package registries

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"roadstead/rewrite"
)

// What the real clients did with each of the vectors is what Steps says.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../testdata/rewrite-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ Pattern, Replace, Registry, Repo, Containerd, ContainerdScope, Wharfie string }
	if err := json.Unmarshal(text, &all); err != nil || len(all) == 0 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	for _, v := range all {
		f := &File{Mirrors: []Mirror{{Host: v.Registry, Endpoints: []Endpoint{{Text: "https://mirror.test", Line: 3}},
			Rewrites: []Rewrite{{Rule: rewrite.Rule{Pattern: v.Pattern, Replace: v.Replace}, Line: 5}}}}}
		image := rewrite.Image{Host: v.Registry, Name: v.Repo, Tag: "1"}
		for client, want := range map[Client][2]string{
			Containerd: {"HEAD https://mirror.test" + v.Containerd + "/manifests/1?ns=" + v.Registry, v.ContainerdScope},
			Wharfie:    {"GET https://mirror.test/v2/" + v.Wharfie + "/manifests/1?ns=" + v.Registry, v.Wharfie},
		} {
			w := Steps(f, image, client)
			if len(w.Steps) != 2 || !w.Steps[1].Default || len(w.Steps[0].Outcomes) != 1 {
				t.Errorf("%s of %+v: %+v", client, v, w)
				continue
			}
			o := w.Steps[0].Outcomes[0]
			i := slices.IndexFunc(o.Requests, func(r Request) bool { return r.Kind == "tag" })
			if got := o.Requests[i].Method + " " + o.Requests[i].URL; got != want[0] || o.Scope != want[1] {
				t.Errorf("%s of %+v asks %s with scope %s, want %s with %s", client, v, got, o.Scope, want[0], want[1])
			}
		}
	}
}

// sketch is a way on few lines.
func sketch(w Way) string {
	var b strings.Builder
	for _, n := range w.Notes {
		fmt.Fprintf(&b, "! %s\n", n)
	}
	for _, s := range w.Steps {
		for _, o := range s.Outcomes {
			for _, r := range o.Requests {
				if r.Kind == "tag" || r.Kind == "ping" {
					fmt.Fprintf(&b, "%s %s", r.Method, r.URL)
					if s.User != "" {
						fmt.Fprintf(&b, " as %s", s.User)
					}
					if s.Default {
						b.WriteString(" default")
					}
					b.WriteString("\n")
				}
			}
		}
	}
	return b.String()
}

func TestSteps(t *testing.T) {
	for _, tt := range []struct{ show, file, image, containerd, wharfie string }{
		{"no file", "", "busybox",
			"HEAD https://registry-1.docker.io/v2/library/busybox/manifests/latest default\n",
			"GET https://index.docker.io/v2/ default\nGET https://index.docker.io/v2/library/busybox/manifests/latest default\n"},
		{"a path of its own, and credentials", `
mirrors: { quay.io: { endpoint: [ "https://h:8443/v2/quay.io" ] } }
configs: { "h:8443": { auth: { username: robot, password: x } } }`, "quay.io/a/b:1",
			"HEAD https://h:8443/v2/quay.io/a/b/manifests/1?ns=quay.io as robot\nHEAD https://quay.io/v2/a/b/manifests/1 default\n",
			"GET https://h:8443/v2/quay.io/?ns=quay.io as robot\nGET https://h:8443/v2/quay.io/a/b/manifests/1?ns=quay.io as robot\n" +
				"GET https://quay.io/v2/ default\nGET https://quay.io/v2/a/b/manifests/1 default\n"},
		{"the wildcard, and credentials that only wharfie sees", `
mirrors: { "*": { endpoint: [ h ] } }
configs: { "*": { auth: { username: robot, password: x } } }`, "localhost:5999/a/b:1",
			"HEAD https://h/v2/a/b/manifests/1?ns=localhost%3A5999\nHEAD http://localhost:5999/v2/a/b/manifests/1 default\n",
			"GET https://h/v2/?ns=localhost%3A5999 as robot\nGET https://h/v2/a/b/manifests/1?ns=localhost%3A5999 as robot\n" +
				"GET http://localhost:5999/v2/ as robot default\nGET http://localhost:5999/v2/a/b/manifests/1 as robot default\n"},
		{"rules without an order", `
mirrors: { quay.io: { endpoint: [ h ], rewrite: { "^a/": "one/", "b$": "two" } } }`, "quay.io/a/b:1",
			"HEAD https://h/v2/one/b/manifests/1?ns=quay.io\nHEAD https://h/v2/a/two/manifests/1?ns=quay.io\nHEAD https://quay.io/v2/a/b/manifests/1 default\n",
			"GET https://h/v2/?ns=quay.io\nGET https://h/v2/one/b/manifests/1?ns=quay.io\nGET https://h/v2/?ns=quay.io\nGET https://h/v2/a/two/manifests/1?ns=quay.io\n" +
				"GET https://quay.io/v2/ default\nGET https://quay.io/v2/a/b/manifests/1 default\n"},
		{"rewrites that the default endpoint loses", `
mirrors: { quay.io: { endpoint: [ quay.io ], rewrite: { "^a/": "one/" } } }`, "quay.io/a/b:1",
			"! line 2: the last endpoint is the registry itself, which is asked without the rewrites\nHEAD https://quay.io/v2/a/b/manifests/1 default\n",
			"GET https://quay.io/v2/ default\nGET https://quay.io/v2/a/b/manifests/1 default\nGET https://quay.io/v2/ default\nGET https://quay.io/v2/a/b/manifests/1 default\n"},
		{"and the same with a port", `
mirrors: { quay.io: { endpoint: [ "quay.io:443" ], rewrite: { "^a/": "one/" } } }`, "quay.io/a/b:1",
			"HEAD https://quay.io:443/v2/one/b/manifests/1?ns=quay.io\nHEAD https://quay.io/v2/a/b/manifests/1 default\n",
			"GET https://quay.io:443/v2/?ns=quay.io\nGET https://quay.io:443/v2/one/b/manifests/1?ns=quay.io\nGET https://quay.io/v2/ default\nGET https://quay.io/v2/a/b/manifests/1 default\n"},
		{"an escape that nobody can read", `
mirrors: { quay.io: { endpoint: [ h ], rewrite: { '^a\.': "one/" } } }`, "quay.io/a.c/b:1",
			"! line 2: containerd cannot read the hosts.toml that comes of this, because \"\\.\" is no escape of TOML; it asks the registry itself instead, without a word\nHEAD https://quay.io/v2/a.c/b/manifests/1 default\n",
			"GET https://h/v2/?ns=quay.io\nGET https://h/v2/one/c/b/manifests/1?ns=quay.io\nGET https://quay.io/v2/ default\nGET https://quay.io/v2/a.c/b/manifests/1 default\n"},
		{"an escape that they read in two ways", `
mirrors: { quay.io: { endpoint: [ h ], rewrite: { '^a\\.': "one/" } } }`, "quay.io/a.c/b:1",
			"HEAD https://h/v2/one/c/b/manifests/1?ns=quay.io\nHEAD https://quay.io/v2/a.c/b/manifests/1 default\n",
			"GET https://h/v2/?ns=quay.io\nGET https://h/v2/a.c/b/manifests/1?ns=quay.io\nGET https://quay.io/v2/ default\nGET https://quay.io/v2/a.c/b/manifests/1 default\n"},
		{"a name with the port that only wharfie looks for", `
mirrors: { "quay.io:443": { endpoint: [ h ], rewrite: { "^a/": "one/" } } }`, "quay.io/a/b:1",
			"HEAD https://quay.io/v2/a/b/manifests/1 default\n",
			"GET https://h/v2/?ns=quay.io\nGET https://h/v2/a/b/manifests/1?ns=quay.io\nGET https://quay.io/v2/ default\nGET https://quay.io/v2/a/b/manifests/1 default\n"},
		{"a host without anything falls to the wildcard for one of them", `
mirrors: { quay.io: , "*": { endpoint: [ h ] } }`, "quay.io/a/b:1",
			"HEAD https://h/v2/a/b/manifests/1?ns=quay.io\nHEAD https://quay.io/v2/a/b/manifests/1 default\n",
			"GET https://quay.io/v2/ default\nGET https://quay.io/v2/a/b/manifests/1 default\n"},
	} {
		image, err := rewrite.ParseImage(tt.image)
		if err != nil {
			t.Fatal(err)
		}
		f := parse(t, tt.file)
		if got := sketch(Steps(f, image, Containerd)); got != tt.containerd {
			t.Errorf("%s: containerd:\n%swant:\n%s", tt.show, got, tt.containerd)
		}
		if got := sketch(Steps(f, image, Wharfie)); got != tt.wharfie {
			t.Errorf("%s: wharfie:\n%swant:\n%s", tt.show, got, tt.wharfie)
		}
	}
}

func TestWithoutADefaultEndpoint(t *testing.T) {
	f := parse(t, `mirrors: { quay.io: { endpoint: [ h ] } }`)
	f.NoDefault = true
	for host, want := range map[string]int{"quay.io": 1, "ghcr.io": 1} {
		w := Steps(f, rewrite.Image{Host: host, Name: "a/b", Tag: "1"}, Containerd)
		if len(w.Steps) != want || w.Steps[0].Default != (host == "ghcr.io") {
			t.Errorf("%s: %+v", host, w)
		}
	}
}
