package api

import (
	"slices"
	"testing"

	"roadstead/registry/registrytest"
)

func TestTheDocumentHasAllCallsAndNothingElse(t *testing.T) {
	served, err := documentJSON()
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string][]byte{"YAML": document, "JSON": served} {
		described := registrytest.NewContract(t, text).Operations()
		var there []string
		for _, row := range slices.Concat(routes, mines) {
			there = append(there, row.method+" "+row.pattern)
		}
		for _, one := range there {
			if !slices.Contains(described, one) {
				t.Errorf("%s is not described in the %s", one, form)
			}
		}
		for _, one := range described {
			if !slices.Contains(there, one) {
				t.Errorf("%s is described in the %s, and there is no such call", one, form)
			}
		}
		if len(there) != len(described) {
			t.Errorf("%d calls, %d are described", len(there), len(described))
		}
	}
}
