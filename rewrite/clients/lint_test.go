package clients

import (
	"testing"

	"roadstead/rewrite/registries"
)

// Of what is generated our own linter has nothing to say, whatever house it is for.
func TestTheLinterFindsNothing(t *testing.T) {
	for name, s := range sites(t) {
		for _, s.Wildcard = range []bool{false, true} {
			files, err := rke2(s)
			if err != nil {
				t.Fatal(err)
			}
			f, err := registries.Parse([]byte(files[0].Text))
			if err != nil {
				t.Fatal(err)
			}
			all, err := registries.Lint(t.Context(), f, registries.House{Table: table(t, s), Self: []string{s.URL.Host}})
			if err != nil {
				t.Fatal(err)
			}
			for _, finding := range all {
				t.Errorf("%s, wildcard %v: %s", name, s.Wildcard, finding)
			}
		}
	}
}
