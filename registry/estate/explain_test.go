package estate

import (
	"errors"
	"fmt"
	"testing"

	"roadstead/registry"
	"roadstead/rewrite"
	"roadstead/rewrite/registries"
)

// Of a name that is none in a private project nothing is told that is not told where there is no such
// project: neither that the name is the project's, nor what is wrong with it.
func TestNamesThatAreNoneTellOfNoProject(t *testing.T) {
	for _, fallback := range []string{"", "docker.io"} {
		table, err := rewrite.NewTable([]rewrite.Project{{Name: "secret", Hosts: []string{"secret.example"}}, {Name: "docker.io", Hub: true}}, nil, fallback)
		if err != nil {
			t.Fatal(err)
		}
		x := Explainer{Table: table, Self: []string{"mirror"}, Hosted: func(string) bool { return false }, May: func(repo registry.Repo) error {
			if repo.Project == "docker.io" {
				return nil
			}
			return errors.New("it is private")
		}}
		ask := func(host, to string) Here {
			t.Helper()
			f, err := registries.Parse(fmt.Appendf(nil, "mirrors: { %s: { endpoint: [ 'http://mirror' ], rewrite: { '(^.+$)': '%s' } } }", host, to))
			if err != nil {
				t.Fatal(err)
			}
			e, err := x.Explain(t.Context(), rewrite.Image{Host: host, Name: "team/app", Tag: "1"}, f)
			if err != nil {
				t.Fatal(err)
			}
			return *e.Ways[0].Steps[0].Outcomes[0].Here
		}
		for _, to := range []string{"secret", "secret/A"} {
			if got := ask("x.example", to); got.Clause != "" || got.Refused != hidden.Refused {
				t.Errorf("%s with the default %q: %+v", to, fallback, got)
			}
		}
		if got := ask("secret.example", "a/A"); got.Clause != "" || got.Refused != hidden.Refused {
			t.Errorf("by ns with the default %q: %+v", fallback, got)
		}
		if got := ask("x.example", "docker.io"); got.Clause != rewrite.ByName || got.Refused == hidden.Refused {
			t.Errorf("a public one with the default %q: %+v", fallback, got)
		}
	}
}

// Where nobody knows the URL of the server, it is written as clients of one with a certificate, or without,
// would have it.
func TestTheSchemeWithoutAURL(t *testing.T) {
	table, err := rewrite.NewTable([]rewrite.Project{{Name: "quay.io"}}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for plain, want := range map[bool]string{false: "https://<this-server>/v2", true: "http://<this-server>/v2"} {
		x := Explainer{Table: table, Plain: plain, Hosted: func(string) bool { return false }, Upstream: func(registry.Repo, string) []string { return nil }}
		e, err := x.Explain(t.Context(), rewrite.Image{Host: "quay.io", Name: "team/app", Tag: "1"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range e.Ways {
			if got := way.Steps[0].Endpoint; got != want {
				t.Errorf("plain %t, %s: %s, want %s", plain, way.Client, got, want)
			}
		}
	}
}
