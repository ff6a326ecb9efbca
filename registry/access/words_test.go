package access

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What Harbor's own robots are mostly given, in its words.
const harborsWords = `
system: user:read user:list audit-log:list catalog:read garbage-collection:create garbage-collection:list garbage-collection:read garbage-collection:stop
system: garbage-collection:update project:create project:list quota:list quota:read quota:update registry:create registry:delete registry:list
system: registry:read registry:update replication-adapter:list robot:list robot:read system-volumes:read
project: accessory:list artifact-addition:read artifact:create artifact:delete artifact:list artifact:read immutable-tag:create
project: immutable-tag:delete immutable-tag:list immutable-tag:update log:list member:create member:delete member:list member:read member:update
project: metadata:create metadata:delete metadata:list metadata:read metadata:update project:delete project:read project:update quota:read
project: repository:delete repository:list repository:pull repository:push repository:read repository:update robot:create robot:delete
project: robot:list robot:read tag-retention:create tag-retention:delete tag-retention:list tag-retention:operate tag-retention:read
project: tag-retention:update tag:create tag:delete tag:list`

func TestWordsOfHarborAreListedAndTaken(t *testing.T) {
	system, project := PermissionWords()
	for line := range strings.Lines(strings.TrimSpace(harborsWords)) {
		fields := strings.Fields(line)
		kind := strings.TrimSuffix(fields[0], ":")
		listed, namespace := project, "production"
		if kind == "system" {
			listed, namespace = system, "/"
		}
		for _, text := range fields[1:] {
			resource, action, _ := strings.Cut(text, ":")
			if !slices.Contains(listed, Word{Resource: resource, Action: action}) {
				t.Errorf("%s of %s is not listed", text, kind)
			}
			want := []Word{{resource, action, "allow"}}
			p, err := PermissionOf(kind, namespace, want)
			if err != nil {
				t.Errorf("%s of %s: %v", text, kind, err)
				continue
			}
			if k, n, words := WordsOf(p); k != kind || n != namespace || !reflect.DeepEqual(words, want) {
				t.Errorf("%s of %s comes back as %s %s %v", text, kind, k, n, words)
			}
		}
	}
	for _, words := range [][]Word{system, project} {
		if !slices.IsSortedFunc(words, func(a, b Word) int { return strings.Compare(a.Resource+":"+a.Action, b.Resource+":"+b.Action) }) {
			t.Errorf("not in order: %v", words)
		}
		if len(slices.Compact(slices.Clone(words))) != len(words) {
			t.Errorf("a word is listed twice: %v", words)
		}
	}
}

// Groups are the provider's here: permissions on them are taken and kept, as robots elsewhere have them.
func TestWordsOfGroupsAreTaken(t *testing.T) {
	for _, word := range []Word{{"user-group", "create", ""}, {"user-group", "list", ""}, {"ldap-user", "list", ""}} {
		if _, err := PermissionOf("system", SystemScope, []Word{word}); err != nil {
			t.Errorf("%+v: %v", word, err)
		}
	}
}

func TestPermissionsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		kind, namespace string
		words           []Word
		says            string
	}{
		{"project", "production", []Word{{"sky", "fly", "allow"}}, `action "fly" on resource "sky"`},
		{"project", "production", []Word{{"repository", "*", "allow"}}, "/api/v2.0/permissions"},
		{"project", "production", []Word{{"*", "pull", ""}}, "/api/v2.0/permissions"},
		{"project", "production", []Word{{"registry", "create", ""}}, "in projects"},
		{"project", "production", []Word{{"repository", "pull", "deny"}}, "the effect"},
		{"project", "production", nil, "allows nothing"},
		{"project", "../x", []Word{{"repository", "pull", ""}}, "no project"},
		{"project", "/", []Word{{"repository", "pull", ""}}, "no project"},
		{"project", "", []Word{{"repository", "pull", ""}}, "no project"},
		{"system", "production", []Word{{"registry", "list", ""}}, "no namespace"},
		{"system", "/", []Word{{"user", "create", ""}}, "in the system"},
		{"system", "/", []Word{{"robot", "create", ""}}, "in the system"},
		{"system", "/", []Word{{"configuration", "update", ""}}, "in the system"},
		{"system", "/", []Word{{"secret", "read", ""}}, "in the system"},
		{"system", "/", []Word{{"repository", "pull", ""}}, "in the system"},
		{"planet", "/", []Word{{"repository", "pull", ""}}, "no kind"},
		{"project", "production", []Word{{"scan", "fly", ""}}, "nothing that a robot may do"},
	} {
		p, err := PermissionOf(test.kind, test.namespace, test.words)
		if code(err) != Invalid || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s %s %v: %+v, %v; want Invalid that says %q", test.kind, test.namespace, test.words, p, err, test.says)
		}
	}
	p, err := PermissionOf("system", "", []Word{{"registry", "list", ""}, {"registry", "list", "allow"}})
	if want := (catalog.Permission{Project: "/", Access: []catalog.Access{{Kind: "registry", Action: "list"}}}); err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("the same twice: %+v, %v; want %+v", p, err, want)
	}
}

// given adds a robot with words, and says who it is.
func (h *house) given(project, name, kind, namespace string, words ...string) registry.Principal {
	h.t.Helper()
	var all []Word
	for _, text := range words {
		resource, action, _ := strings.Cut(text, ":")
		all = append(all, Word{Resource: resource, Action: action})
	}
	p, err := PermissionOf(kind, namespace, all)
	h.must(err)
	r, secret, err := h.AddRobot(h.t.Context(), "test", catalog.Robot{Project: project, Name: name, Permissions: []catalog.Permission{p}})
	h.must(err)
	return h.who(basic(r.FullName(), secret))
}

// A robot has the right that its word names, in the system or in its project, and no other: every
// word against every right.
func TestC3_EachWordIsOneRight(t *testing.T) {
	h := open(t)
	system, project := PermissionWords()
	all := map[right]bool{}
	for _, kind := range ofTheSystem {
		for _, action := range toTheSystem {
			all[right{kind, action}] = true
		}
	}
	for r := range rights {
		all[r] = true
	}
	check := func(word Word, p registry.Principal, ofSystem bool) {
		t.Helper()
		is := right{registry.Kind(word.Resource), registry.Action(word.Action)}
		for r := range all {
			inSystem, inProject := ofSystem && r == systemWords[is], !ofSystem && meaning(catalog.Access{Kind: is.kind, Action: is.action}).brings(r)
			for project, want := range map[string]bool{"": inSystem, "production": inProject, "staging": false, "absent": false} {
				err := h.Authorize(p, r.action, registry.Resource{Kind: r.kind, Repo: registry.Repo{Project: project}})
				if (err == nil) != want {
					t.Errorf("a robot with %v: %s %s in %q: %v, want it allowed: %v", word, r.action, r.kind, project, err, want)
				}
			}
		}
	}
	for i, word := range system {
		check(word, h.given("", fmt.Sprint("s", i), "system", "/", word.Resource+":"+word.Action), true)
	}
	for i, word := range project {
		check(word, h.given("production", fmt.Sprint("p", i), "project", "production", word.Resource+":"+word.Action), false)
	}
	// What means nothing here is good for nothing.
	for _, kind := range idle {
		p := h.given("", "idle-"+string(kind), "project", "*", string(kind)+":create", string(kind)+":read", string(kind)+":list")
		for r := range all {
			if err := h.Authorize(p, r.action, registry.Resource{Kind: r.kind, Repo: web}); err == nil {
				t.Errorf("a robot with %s: %s %s is allowed", kind, r.action, r.kind)
			}
		}
	}
}

// Nobody gives a robot more than he has.
func TestNobodyGivesWhatIsNotHis(t *testing.T) {
	h := open(t)
	h.member("mia", Maintainer)
	h.member("pia", ProjectAdmin)
	ci := h.given("production", "ci", "project", "production", "robot:create", "repository:pull")
	ops := h.given("", "ops", "system", "/", "registry:list")
	everywhere := h.given("", "everywhere", "project", "*", "repository:pull", "robot:create")
	_, token := h.ask(basic("pia", password), "repository:production/web:pull")
	for _, test := range []struct {
		name            string
		p               registry.Principal
		kind, namespace string
		word            Word
		want            registry.Code
	}{
		{"an administrator, everywhere", h.who(basic("admin", password)), "project", "*", Word{Resource: "project", Action: "delete"}, ""},
		{"an administrator, the system", h.who(basic("admin", password)), "system", "/", Word{Resource: "registry", Action: "delete"}, ""},
		{"who administers the project", h.who(basic("pia", password)), "project", "production", Word{Resource: "project", Action: "delete"}, ""},
		{"who administers another one", h.who(basic("pia", password)), "project", "staging", Word{Resource: "repository", Action: "pull"}, registry.Denied},
		{"who administers one, everywhere", h.who(basic("pia", password)), "project", "*", Word{Resource: "repository", Action: "pull"}, registry.Denied},
		{"who administers one, the system", h.who(basic("pia", password)), "system", "/", Word{Resource: "registry", Action: "list"}, registry.Denied},
		{"a maintainer, what is more", h.who(basic("mia", password)), "project", "production", Word{Resource: "robot", Action: "create"}, registry.Denied},
		{"a robot, what it has", ci, "project", "production", Word{Resource: "repository", Action: "pull"}, ""},
		{"a robot, what comes with it", ci, "project", "production", Word{Resource: "tag", Action: "list"}, ""},
		{"a robot, what it has not", ci, "project", "production", Word{Resource: "repository", Action: "push"}, registry.Denied},
		{"a robot of one project, everywhere", ci, "project", "*", Word{Resource: "repository", Action: "pull"}, registry.Denied},
		{"a robot of all projects, everywhere", everywhere, "project", "*", Word{Resource: "repository", Action: "pull"}, ""},
		{"a robot of all projects, in one", everywhere, "project", "staging", Word{Resource: "repository", Action: "pull"}, ""},
		{"a robot of all projects, the system", everywhere, "system", "/", Word{Resource: "registry", Action: "list"}, registry.Denied},
		{"a robot of the system, its own", ops, "system", "/", Word{Resource: "registry", Action: "list"}, ""},
		{"a robot of the system, more", ops, "system", "/", Word{Resource: "registry", Action: "delete"}, registry.Denied},
		{"what means nothing", ci, "project", "production", Word{Resource: "scan", Action: "create"}, ""},
		{"anybody", h.who(""), "project", "public", Word{Resource: "repository", Action: "pull"}, registry.Denied},
		{"who is wrong", h.who(basic("pia", "Wrong-Horse-1")), "project", "production", Word{Resource: "repository", Action: "pull"}, registry.Unauthorized},
		{"a token", h.who(token), "project", "production", Word{Resource: "repository", Action: "pull"}, registry.Denied},
	} {
		permission, err := PermissionOf(test.kind, test.namespace, []Word{test.word})
		h.must(err)
		if got := code(h.MayGive(test.p, []catalog.Permission{permission})); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestRolesHaveHarborsNumbers(t *testing.T) {
	for n, want := range map[int]Role{1: ProjectAdmin, 2: Developer, 3: Guest, 4: Maintainer, 5: LimitedGuest} {
		if got, err := RoleByNumber(n); err != nil || got != want || RoleNumber(want) != n {
			t.Errorf("role %d = %s, %v, and %s is %d; want %s", n, got, err, want, RoleNumber(want), want)
		}
	}
	if len(numbers) != len(Roles) {
		t.Errorf("%d roles have numbers, of %d", len(numbers), len(Roles))
	}
	for _, n := range []int{0, 6, -1} {
		if got, err := RoleByNumber(n); code(err) != Invalid {
			t.Errorf("role %d = %s, %v; want Invalid", n, got, err)
		}
	}
	if RoleNumber("god") != 0 {
		t.Error("what is no role has a number")
	}
}
