package access

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestWhatAProviderSaysOfAUser(t *testing.T) {
	for _, tt := range []struct {
		name   string
		claims string
		want   identity
	}{
		{"all of it", `{"preferred_username": "ada", "email": "ada@example.com", "email_verified": true, "groups": ["ops", "dev"]}`,
			identity{name: "ada", email: "ada@example.com", groups: []string{"dev", "ops"}}},
		{"nothing", `{}`, identity{}},
		{"one group that is no list", `{"groups": "dev"}`, identity{groups: []string{"dev"}}},
		{"groups twice", `{"groups": ["dev", "dev"]}`, identity{groups: []string{"dev"}}},
		{"groups of another kind", `{"groups": {"dev": true}, "preferred_username": 7}`, identity{}},
		{"a list with something else in it is none", `{"groups": ["dev", 7]}`, identity{}},
		{"a group that would look like another", `{"groups": ["d\u202eev", " dev", "dev\u0000", ""]}`, identity{}},
		{"unverified email", `{"email": "ada@example.com", "email_verified": false}`, identity{}},
		{"unverified email in words", `{"email": "ada@example.com", "email_verified": "false"}`, identity{}},
		{"email without a word on it", `{"email": "ada@example.com"}`, identity{email: "ada@example.com"}},
		{"no email", `{"email": "ada"}`, identity{}},
		{"endless email", fmt.Sprintf(`{"email": "%s@example.com"}`, strings.Repeat("a", 300)), identity{}},
		{"lines in a name", `{"preferred_username": "ada\r\nlove\u001b[31m"}`, identity{name: "adalove[31m"}},
	} {
		var c profile
		if err := json.Unmarshal([]byte(tt.claims), &c); err != nil {
			t.Fatal(err)
		}
		tt.want.issuer, tt.want.subject = "https://login.example.com", "1"
		got := (&OIDC{Issuer: "https://login.example.com"}).identity("1", c)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestClaimsByOtherNames(t *testing.T) {
	o := &OIDC{UsernameClaim: "nick", GroupsClaim: "roles"}
	c := profile{"nick": []byte(`"ada"`), "roles": []byte(`["dev"]`), "groups": []byte(`["admins"]`), "preferred_username": []byte(`"root"`)}
	got := o.identity("1", c)
	if got.name != "ada" || !reflect.DeepEqual(got.groups, []string{"dev"}) {
		t.Errorf("%+v, want ada of dev", got)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	var groups []string
	for i := range maxGroups + 1 {
		groups = append(groups, fmt.Sprintf("group-%04d", i))
	}
	list, err := json.Marshal(groups)
	if err != nil {
		t.Fatal(err)
	}
	got := (&OIDC{}).identity("1", profile{"groups": list})
	if !got.cut || len(got.groups) != maxGroups {
		t.Errorf("%d groups, cut: %v; want %d, true", len(got.groups), got.cut, maxGroups)
	}
}
