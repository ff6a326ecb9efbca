package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roadstead/storage/catalog"
)

// policy is a policy as Harbor's clients send it, with these rules.
func policy(project string, rules ...string) string {
	return `{"algorithm":"or","rules":[` + strings.Join(rules, ",") + `],"scope":{"level":"project","ref":` + project +
		`},"trigger":{"kind":"Schedule","references":{},"settings":{"cron":""}}}`
}

func policyRule(template, params, repos, repo, tags, tag, extras string) string {
	return fmt.Sprintf(`{"action":"retain","disabled":false,"template":%q,"params":%s,"scope_selectors":{"repository":[{"decoration":%q,"kind":"doublestar","pattern":%q}]},"tag_selectors":[{"decoration":%q,"kind":"doublestar","pattern":%q,"extras":%q}]}`,
		template, params, repos, repo, tags, tag, extras)
}

// TestRetentionRules: rules with selectors of every kind mean what they do in Harbor, are read back as
// they were sent, and are recorded.
func TestRetentionRules(t *testing.T) {
	r := open(t)
	_, id := r.makes("admin", v2+"/projects", `{"project_name":"production"}`)
	const day = 24 * time.Hour
	path := ""
	for _, tt := range []struct {
		rule string
		want catalog.Rule
	}{
		{policyRule("latestPushedK", `{"latestPushedK":3}`, "repoMatches", "web/**", "matches", "v*", `{"untagged":true}`),
			catalog.Rule{Repositories: catalog.Selector{Glob: "web/**"}, Tags: catalog.Selector{Glob: "v*"}, Newest: 3, Untagged: true}},
		{policyRule("latestPulledN", `{"latestPulledN":"4"}`, "repoExcludes", "{a,b}", "matches", "**", `{"untagged":false}`),
			catalog.Rule{Repositories: catalog.Selector{Glob: "{a,b}", Except: true}, LastPulled: 4}},
		{policyRule("nDaysSinceLastPush", `{"nDaysSinceLastPush":5}`, "repoMatches", "**", "excludes", "dev-*", `{"untagged":true}`),
			catalog.Rule{Tags: catalog.Selector{Glob: "dev-*", Except: true}, Pushed: 5 * day}},
		{policyRule("nDaysSinceLastPull", `{"nDaysSinceLastPull":6}`, "repoMatches", "**", "excludes", "dev-*", `{"untagged":false}`),
			catalog.Rule{Tags: catalog.Selector{Glob: "dev-*", Except: true}, Pulled: 6 * day, Untagged: true}},
		{policyRule("always", `null`, "repoMatches", "**", "excludes", "dev-*", ""),
			catalog.Rule{Tags: catalog.Selector{Glob: "dev-*", Except: true}, Untagged: true}},
		{policyRule("always", `{}`, "repoMatches", "**", "matches", "stable", ""), catalog.Rule{Tags: catalog.Selector{Glob: "stable"}, Untagged: true}},
		{`{"template":"always"}`, catalog.Rule{Untagged: true}},
	} {
		sent := policy(id, tt.rule, strings.Replace(policyRule("always", `{}`, "repoMatches", "**", "matches", "off", ""), `"disabled":false`, `"disabled":true`, 1))
		if path == "" {
			path, _ = r.makes("admin", v2+"/retentions", sent)
		}
		r.wants(200, "admin", "PUT", path, sent)
		same(t, "policy", r.wants(200, "admin", "GET", path, "").object(t), object(t, sent))
		rows, err := r.db.AllProjects(t.Context())
		r.must(err)
		if want := (catalog.Retention{Rules: []catalog.Rule{tt.want}}); !rows[0].Retention.Equal(want) {
			t.Errorf("%s means %+v, want %+v", tt.rule, rows[0].Retention, want)
		}
	}
	two := policy(id, policyRule("always", `{}`, "repoMatches", "a", "matches", "**", ""), policyRule("always", `{}`, "repoMatches", "b", "matches", "v*", ""))
	r.wants(200, "admin", "PUT", path, two)
	same(t, "policy", r.wants(200, "admin", "GET", path, "").object(t), object(t, two))
	entry := r.wants(200, "admin", "GET", v2+"/audit-logs?page_size=1&sort=-op_time", "").list(t)[0].(map[string]any)
	same(t, "record", entry, map[string]any{
		"operation": "update", "resource_type": "tag-retention", "resource": "production", "operation_description": "keeps by 2 rules", "username": "admin",
	})

	const selectors = `[{"decoration":"matches","kind":"doublestar","pattern":"a"},{"decoration":"excludes","kind":"doublestar","pattern":"ab"}]`
	for _, bad := range []string{
		`{"template":"always","tag_selectors":` + selectors + `}`, `{"template":"always","scope_selectors":{"project":[]}}`,
		`{"template":"always","action":"delete"}`, `{"template":"latestPulledN","params":{"latestPulledN":0}}`,
		policyRule("always", `{}`, "nsMatches", "a", "matches", "**", ""), policyRule("always", `{}`, "repoMatches", "a", "withLabels", "**", ""),
	} {
		if a := r.wants(400, "admin", "PUT", path, policy(id, bad)); !strings.Contains(a.body, "rule 1: ") {
			t.Errorf("%s: %s, want it to say which rule", bad, a.body)
		}
	}
	same(t, "policy after faulty ones", r.wants(200, "admin", "GET", path, "").object(t), object(t, two))
}

// TestRetentionInHarborsWords: what the file or somebody in a browser has said is a policy that means
// the same when it is sent back.
func TestRetentionInHarborsWords(t *testing.T) {
	r := open(t)
	project, id := r.makes("admin", v2+"/projects", `{"project_name":"production"}`)
	said := catalog.Retention{Newest: 3, Pulled: 36 * time.Hour, Rules: []catalog.Rule{
		{Repositories: catalog.Selector{Glob: "web", Except: true}, Tags: catalog.Selector{Glob: "v*", Except: true}, Untagged: true},
		{Repositories: catalog.Selector{Glob: "web"}, LastPulled: 2, Pushed: time.Hour},
	}}
	r.must(r.db.Durable(t.Context(), func(tx *catalog.Tx) error {
		p, err := tx.AnyProject("production")
		if err != nil {
			return err
		}
		p.Retention = said
		return tx.PutProject(p)
	}))
	path := v2 + "/retentions/" + id
	got := r.wants(200, "admin", "GET", path, "")
	if n := r.wants(200, "admin", "GET", project, "").object(t)["metadata"].(map[string]any)["retention_id"]; n != id {
		t.Errorf("retention_id = %v, want %s", n, id)
	}
	r.wants(200, "admin", "PUT", path, got.body)
	same(t, "policy", r.wants(200, "admin", "GET", path, "").object(t), got.object(t))
	rows, err := r.db.AllProjects(t.Context())
	r.must(err)
	const day = 24 * time.Hour
	want := catalog.Retention{Rules: []catalog.Rule{
		{Newest: 3}, {Pushed: 2 * day}, {Pulled: 2 * day}, said.Rules[0],
		{Repositories: catalog.Selector{Glob: "web"}, LastPulled: 2}, {Repositories: catalog.Selector{Glob: "web"}, Pushed: day},
	}}
	if !rows[0].Retention.Equal(want) {
		t.Errorf("sent back it means %+v, want %+v", rows[0].Retention, want)
	}
}
