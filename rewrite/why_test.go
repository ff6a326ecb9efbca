package rewrite

import "testing"

func TestClausesAreThoseOfRoute(t *testing.T) {
	table, err := NewTable([]Project{{Name: "docker.io", Hub: true}, {Name: "quay.io"}}, map[string]string{"hub.example.com": "docker.io"}, "quay.io")
	if err != nil {
		t.Fatal(err)
	}
	empty, err := NewTable(nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		table          *Table
		host, ns, name string
		want           Clause
	}{
		{table, "h", "docker.io", "quay.io/a/b", ByName},
		{table, "h", "index.docker.io:443", "a/b", ByNS},
		{table, "hub.example.com", "ghcr.io", "a/b", ByNothing},
		{table, "hub.example.com:5000", "", "a/b", ByHost},
		{table, "h", "", "a/b", ByDefault},
		{empty, "h", "", "a/b", ByNothing},
	} {
		got := tt.table.Clause(tt.host, tt.ns, tt.name)
		_, err := tt.table.Route(tt.host, tt.ns, tt.name)
		if got != tt.want || (err != nil) != (got == ByNothing) {
			t.Errorf("%s at %s with ns %q is found by %q, want %q; Route says %v", tt.name, tt.host, tt.ns, got, tt.want, err)
		}
	}
}
