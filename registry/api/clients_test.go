package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

const v2 = "/api/v2.0"

// same wants two reads of a thing to have the same in the fields that a client compares.
func same(t *testing.T, what string, got, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if !reflect.DeepEqual(got[key], value) {
			t.Errorf("%s: %s = %v, want %v as it was sent", what, key, got[key], value)
		}
	}
}

func object(t *testing.T, text string) map[string]any { return answer{body: text}.object(t) }

// TestTerraform replays what the Terraform provider sends to make, plan, change and destroy a registry
// and a proxy project: a second plan must find what it sent.
func TestTerraform(t *testing.T) {
	r := open(t)
	r.wants(200, "admin", "GET", v2+"/systeminfo", "")
	sent := fmt.Sprintf(`{"name":"hub","url":%q,"type":"docker-registry","insecure":true,"description":"the hub","credential":{"access_key":"me","access_secret":"canary-registry","type":"basic"}}`, r.upstream.URL())
	path, id := r.makes("admin", v2+"/registries", sent)
	for range 2 { // create, and plan again
		got := r.wants(200, "admin", "GET", path, "").object(t)
		same(t, "registry", got, map[string]any{"name": "hub", "url": r.upstream.URL(), "type": "docker-registry", "insecure": true, "description": "the hub", "status": "healthy"})
		same(t, "credential", got["credential"].(map[string]any), map[string]any{"access_key": "me", "access_secret": "*****", "type": "basic"})
	}
	update := fmt.Sprintf(`{"access_key":"me","access_secret":"*****","credential_type":"basic","description":"changed","insecure":true,"name":"hub","url":%q}`, r.upstream.URL())
	if a := r.wants(200, "admin", "PUT", path, update); a.body != "" {
		t.Errorf("PUT answers %q, want an empty body", a.body)
	}
	r.wants(200, "admin", "POST", v2+"/registries/ping", `{"id":`+id+`}`)
	r.wants(409, "admin", "POST", v2+"/registries", sent)

	metadata := `{"auto_scan":"false","enable_content_trust":"false","enable_content_trust_cosign":"false","prevent_vul":"false","public":"true","severity":"","proxy_speed_kb":"-1","reuse_sys_cve_allowlist":"true"}`
	body := `{"cve_allowlist":{"items":[{"cve_id":"CVE-2020-1"}]},"metadata":` + metadata + `,"project_name":"docker.io","registry_id":` + id + `,"storage_limit":-1}`
	project, number := r.makes("admin", v2+"/projects", body)
	for range 2 {
		got := r.wants(200, "admin", "GET", project, "").object(t)
		same(t, "metadata", got["metadata"].(map[string]any), object(t, metadata))
		if got["name"] != "docker.io" || fmt.Sprint(got["registry_id"]) != id || fmt.Sprint(got["project_id"]) != number || !strings.Contains(fmt.Sprint(got["cve_allowlist"]), "CVE-2020-1") {
			t.Errorf("project = %v", got)
		}
	}
	r.wants(200, "admin", "GET", v2+"/projects/docker.io", "", "X-Is-Resource-Name", "true")
	r.wants(412, "admin", "DELETE", path, "") // a project is a cache of it
	r.wants(200, "admin", "PUT", project, `{"metadata":{"public":"false"},"project_name":"docker.io"}`)
	got := r.wants(200, "admin", "GET", project, "").object(t)["metadata"].(map[string]any)
	same(t, "metadata after a change", got, map[string]any{"public": "false", "proxy_speed_kb": "-1"})
	r.wants(401, "", "GET", project, "")
	r.wants(200, "admin", "PUT", v2+"/quotas/"+number, `{"hard":{"storage":-1}}`)

	r.wants(200, "admin", "DELETE", project, "")
	r.wants(200, "admin", "DELETE", path, "")
	r.wants(404, "admin", "GET", path, "")
	if out := r.log.String(); strings.Contains(out, "canary-registry") {
		t.Errorf("the log has the password of a registry:\n%s", out)
	}
}

// TestHarborCLI replays what harbor-cli sends, which has zero numbers and times in it.
func TestHarborCLI(t *testing.T) {
	r := open(t)
	_, id := r.makes("admin", v2+"/registries", fmt.Sprintf(`{"creation_time":"0001-01-01T00:00:00.000Z","credential":{"access_key":"","access_secret":"","type":"basic"},"description":"","id":0,"insecure":false,"name":"plain","type":"docker-registry","update_time":"0001-01-01T00:00:00.000Z","url":%q}`, r.upstream.URL()))
	r.makes("admin", v2+"/projects", `{"project_name":"cache","registry_id":`+id+`,"public":true,"storage_limit":-1}`)
	_, number := r.makes("admin", v2+"/projects", `{"metadata":{"public":"false"},"project_name":"production","registry_id":null,"storage_limit":1048576}`)
	q := r.wants(200, "admin", "GET", v2+"/quotas/"+number, "").object(t)
	if fmt.Sprint(q["hard"]) != "map[storage:1.048576e+06]" {
		t.Errorf("quota = %v", q)
	}
	r.wants(200, "admin", "HEAD", v2+"/projects?project_name=production", "")
	r.wants(404, "admin", "HEAD", v2+"/projects?project_name=nothing", "")

	robot := r.wants(201, "admin", "POST", v2+"/robots", `{"description":"d","disable":false,"duration":-1,"level":"project","name":"ci","permissions":[{"access":[{"action":"pull","effect":"","resource":"repository"},{"action":"push","resource":"repository"}],"kind":"project","namespace":"production"}]}`)
	made := robot.object(t)
	if made["name"] != "robot$production+ci" || len(made["secret"].(string)) < 8 || made["expires_at"] != -1.0 {
		t.Errorf("robot = %v", made)
	}
	path := robot.header.Get("Location")
	// The CLI escapes q twice.
	for _, q := range []string{"Level%3Dproject%2CProjectID%3D" + number, "Level%253Dproject%252CProjectID%253D" + number} {
		if all := r.wants(200, "admin", "GET", v2+"/robots?q="+q, "").list(t); len(all) != 1 {
			t.Errorf("q=%s: %v, want the robot", q, all)
		}
	}
	before := r.wants(200, "admin", "GET", path, "").object(t)
	text, err := json.Marshal(before)
	r.must(err)
	r.wants(200, "admin", "PUT", path, string(text)) // all of it back, under its full name
	same(t, "robot", r.wants(200, "admin", "GET", path, "").object(t), before)
	r.wants(200, "admin", "PATCH", path, `{"secret":"Chosen-Canary-7"}`)
	r.secrets["robot$production+ci"] = "Chosen-Canary-7"
	r.wants(412, "robot$production+ci", "GET", v2+"/users/current", "")
	r.wants(400, "admin", "PATCH", path, `{"secret":"short"}`)
	if again := r.wants(200, "admin", "PATCH", path, `{"secret":""}`).object(t); len(again["secret"].(string)) < 8 {
		t.Errorf("PATCH without a secret = %v, want one", again)
	}
	r.wants(401, "robot$production+ci", "GET", v2+"/users/current", "")
	r.wants(200, "admin", "DELETE", path, "")
	if strings.Contains(r.log.String(), "Canary") {
		t.Error("the log has a secret")
	}
}

const retention = `{"algorithm":"or","rules":[{"action":"retain","disabled":false,"params":{"latestPushedK":10},"scope_selectors":{"repository":[{"decoration":"repoMatches","kind":"doublestar","pattern":"**"}]},"tag_selectors":[{"decoration":"matches","extras":"{\"untagged\":true}","kind":"doublestar","pattern":"**"}],"template":"latestPushedK"}],"scope":{"level":"project","ref":%s},"trigger":{"kind":"Schedule","references":{},"settings":{"cron":"0 0 3 * * *"}}}`

// TestDescriptions: what a repository is for is written down here, in a proxy as well.
func TestDescriptions(t *testing.T) {
	r := open(t)
	_, id := r.makes("admin", v2+"/registries", fmt.Sprintf(`{"name":"hub","type":"docker-registry","url":%q}`, r.upstream.URL()))
	r.makes("admin", v2+"/projects", `{"project_name":"proxy","registry_id":`+id+`}`)
	r.artifact(registry.Repo{Project: "proxy", Name: "app"}, "v1")
	r.wants(200, "admin", "PUT", v2+"/projects/proxy/repositories/app", `{"description":"the app"}`)
	if got := r.wants(200, "admin", "GET", v2+"/projects/proxy/repositories/app", "").object(t)["description"]; got != "the app" {
		t.Errorf("description = %v", got)
	}
}

// TestOrigins: whatever is administered is recorded with where the call came from.
func TestOrigins(t *testing.T) {
	r := open(t)
	_, id := r.makes("admin", v2+"/registries", fmt.Sprintf(`{"name":"hub","type":"docker-registry","url":%q}`, r.upstream.URL()))
	r.wants(200, "admin", "PUT", v2+"/registries/"+id, `{"description":"changed"}`)
	r.makes("admin", v2+"/projects", `{"project_name":"production"}`)
	r.makes("admin", v2+"/users", `{"username":"alice","password":"`+password+`"}`)
	r.makes("admin", v2+"/projects/production/members", `{"role_id":2,"member_user":{"username":"alice"}}`)
	r.wants(201, "admin", "POST", v2+"/robots", `{"duration":-1,"level":"project","name":"ci","permissions":[{"access":[{"action":"pull","resource":"repository"}],"kind":"project","namespace":"production"}]}`)
	log := r.wants(200, "admin", "GET", v2+"/audit-logs?q=username=admin&page_size=100", "").list(t)
	recorded := 0
	for _, one := range log {
		entry := one.(map[string]any)
		if from, _ := entry["remote_address"].(string); entry["operation"] != "login" && !strings.HasPrefix(from, "127.0.0.1:") {
			t.Errorf("%v %v %v came from %q", entry["operation"], entry["resource_type"], entry["resource"], from)
		}
		recorded++
	}
	if recorded < 6 {
		t.Errorf("%d records, want one of each call", recorded)
	}
}

// TestUsers makes, plans, changes and finds users as the Terraform provider does: what it sent it reads.
func TestUsers(t *testing.T) {
	r := open(t)
	sent := `{"username":"dev1","email":"dev1@example.com","realname":"Developer One","comment":"of the shop"}`
	path, _ := r.makes("admin", v2+"/users", strings.Replace(sent, "{", `{"password":"`+password+`",`, 1))
	same(t, "user", r.wants(200, "admin", "GET", path, "").object(t), object(t, sent))
	changed := strings.NewReplacer("One", "1", "shop", "market").Replace(sent)
	r.wants(200, "admin", "PUT", path, changed)
	same(t, "user", r.wants(200, "admin", "GET", path, "").object(t), object(t, changed))
	r.wants(200, "dev1", "PUT", path, `{"realname":"Dev"}`)
	if u := r.wants(200, "admin", "GET", path, "").object(t); u["realname"] != "Dev" || u["comment"] != "of the market" || u["email"] != "dev1@example.com" {
		t.Errorf("user = %v, want the rest of it as it was", u)
	}

	other, _ := r.makes("admin", v2+"/users", `{"username":"dev2","email":"not-dev1@example.com","password":"`+password+`"}`)
	r.wants(409, "admin", "POST", v2+"/users", `{"username":"dev3","email":"Dev1@example.com","password":"`+password+`"}`)
	r.wants(409, "admin", "PUT", other, `{"email":"dev1@example.com"}`)
	r.wants(400, "admin", "PUT", other, `{"comment":"two\nlines"}`)
	for q, want := range map[string]int{"username=dev1": 1, "username=dev": 0, "username=~dev": 2, "email=~dev1": 2, "email=dev1@example.com": 1, "username=dev2,email=~dev1": 1} {
		if got := r.wants(200, "admin", "GET", v2+"/users?q="+q, "").list(t); len(got) != want {
			t.Errorf("q=%s finds %v, want %d", q, got, want)
		}
	}
}

// TestRetentionOfProxies: a proxy keeps from its first day on what was pulled in the last seven; how many
// there are is said by the one rule that it has, and by its policy.
func TestRetentionOfProxies(t *testing.T) {
	r := open(t)
	_, id := r.makes("admin", v2+"/registries", fmt.Sprintf(`{"name":"hub","type":"docker-registry","url":%q}`, r.upstream.URL()))
	project, id := r.makes("admin", v2+"/projects", `{"project_name":"proxy","registry_id":`+id+`}`)
	if got := r.wants(200, "admin", "GET", project, "").object(t)["metadata"].(map[string]any)["retention_id"]; got != id {
		t.Errorf("retention_id = %v, want %q", got, id)
	}
	path := v2 + "/retentions/" + id
	days := func() any {
		t.Helper()
		rules := r.wants(200, "admin", "GET", path, "").object(t)["rules"].([]any)
		rule := rules[0].(map[string]any)
		if len(rules) != 1 || rule["template"] != "nDaysSinceLastPull" {
			t.Errorf("rules = %v", rules)
		}
		return rule["params"].(map[string]any)["nDaysSinceLastPull"]
	}
	if got := days(); got != 7.0 {
		t.Errorf("a new proxy keeps for %v days, want 7", got)
	}
	sent := strings.ReplaceAll(fmt.Sprintf(retention, id), "latestPushedK", "nDaysSinceLastPull")
	r.wants(200, "admin", "PUT", path, sent)
	same(t, "policy", r.wants(200, "admin", "GET", path, "").object(t), object(t, sent))
	if got := r.wants(200, "admin", "GET", "/api/roadstead/v1/projects/proxy/policy", "").object(t)["keep"]; got != "240h0m0s" {
		t.Errorf("keep = %v, want ten days", got)
	}
	r.wants(200, "admin", "PUT", "/api/roadstead/v1/projects/proxy/policy", `{"keep":"48h"}`)
	if got := days(); got != 2.0 {
		t.Errorf("kept for %v days, want the two of the policy", got)
	}
	r.wants(400, "admin", "PUT", path, fmt.Sprintf(retention, id))
	r.wants(400, "admin", "PUT", path, strings.Replace(sent, `"pattern":"**"`, `"pattern":"web"`, 1))
	r.wants(200, "admin", "DELETE", path, "")
	if got := days(); got != 7.0 {
		t.Errorf("after a deletion it keeps for %v days, want 7", got)
	}
	r.makes("admin", v2+"/retentions", sent)
	r.wants(409, "admin", "POST", v2+"/retentions", sent)
}

// TestAccessories: what refers to an image is listed with it and not beside it, and is not counted; a
// chart has what it says of itself.
func TestAccessories(t *testing.T) {
	r := open(t)
	r.makes("admin", v2+"/projects", `{"project_name":"production"}`)
	repo := registry.Repo{Project: "production", Name: "web"}
	image := r.artifact(repo, "v1")
	signature, sbom, chart := digest.FromString("signature"), digest.FromString("sbom"), digest.FromString("chart")
	subject := &registry.Descriptor{Digest: registry.Digest(image), Size: 100, MediaType: "application/vnd.oci.image.manifest.v1+json"}
	r.must(r.db.Durable(t.Context(), func(tx *catalog.Tx) error {
		add := func(d registry.Digest, refs registry.References) error {
			return tx.AddManifest(repo, registry.Manifest{Descriptor: registry.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: d, Size: 100}}, refs)
		}
		return errors.Join(
			add(signature, registry.References{Subject: subject, ArtifactType: "application/vnd.dev.sigstore.bundle.v0.3+json"}),
			add(sbom, registry.References{Subject: subject, ArtifactType: "application/spdx+json"}),
			add(chart, registry.References{}),
		)
	}))
	artifacts := v2 + "/projects/production/repositories/web/artifacts"
	a := r.wants(200, "admin", "GET", artifacts, "")
	if got := a.header.Get("X-Total-Count"); len(a.list(t)) != 2 || got != "2" {
		t.Errorf("%s artifacts: %s", got, a.body)
	}
	if got := r.wants(200, "admin", "GET", v2+"/projects/production/repositories/web", "").object(t)["artifact_count"]; got != 2.0 {
		t.Errorf("artifact_count = %v, want as many as are listed", got)
	}
	if got := r.wants(200, "admin", "GET", artifacts+"?q=digest="+signature.String(), "").list(t); len(got) != 1 {
		t.Errorf("by its digest: %v", got)
	}
	kinds := map[any]any{}
	for _, one := range r.wants(200, "admin", "GET", artifacts+"/v1/accessories", "").list(t) {
		one := one.(map[string]any)
		kinds[one["digest"]] = one["type"]
		if one["subject_artifact_digest"] != image || one["subject_artifact_repo"] != "production/web" {
			t.Errorf("an accessory of something else: %v", one)
		}
	}
	if want := map[any]any{signature.String(): "signature.cosign", sbom.String(): "subject.accessory"}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("accessories = %v, want %v", kinds, want)
	}
	for path, want := range map[string]int{"/v1": 0, "/v1?with_accessory=true": 2, "/" + signature.String() + "?with_accessory=true": 0} {
		if got := r.wants(200, "admin", "GET", artifacts+path, "").object(t)["accessories"].([]any); len(got) != want {
			t.Errorf("%s: accessories = %v, want %d", path, got, want)
		}
	}
	view := shelf{}.view(catalog.Artifact{}, estate.Look{ConfigType: estate.HelmConfig, Chart: map[string]any{"name": "web", "appVersion": "1.2"}}, maxWords)
	if view.Type != "CHART" || view.Attributes["appVersion"] != "1.2" {
		t.Errorf("a chart is %+v", view)
	}
}

// TestRetentionAndRules makes, plans, changes and destroys a policy and a rule.
func TestRetentionAndRules(t *testing.T) {
	r := open(t)
	project, id := r.makes("admin", v2+"/projects", `{"project_name":"production"}`)
	sent := fmt.Sprintf(retention, id)
	path, number := r.makes("admin", v2+"/retentions", sent)
	if number != id {
		t.Errorf("the policy has the number %s, want that of its project", number)
	}
	same(t, "policy", r.wants(200, "admin", "GET", path, "").object(t), object(t, sent))
	if got := r.wants(200, "admin", "GET", project, "").object(t)["metadata"].(map[string]any)["retention_id"]; got != id {
		t.Errorf("retention_id = %v, want %q", got, id)
	}
	r.wants(409, "admin", "POST", v2+"/retentions", sent)
	for _, bad := range []string{
		strings.ReplaceAll(sent, "latestPushedK", "latestActiveK"), strings.Replace(sent, `"pattern":"**"`, `"pattern":"[web"`, 1),
		strings.Replace(sent, "repoMatches", "matches", 1), strings.Replace(sent, `"kind":"doublestar"`, `"kind":"label"`, 1),
		strings.Replace(sent, "0 0 3 * * *", "every night", 1), strings.Replace(sent, `:10}`, `:0}`, 1),
	} {
		if a := r.wants(400, "admin", "PUT", path, bad); strings.Contains(bad, "latestActiveK") && !strings.Contains(a.body, "latestPushedK") {
			t.Errorf("%s, want it to name what is understood", a.body)
		}
	}
	changed := strings.Replace(sent, `:10}`, `:3}`, 1)
	r.wants(200, "admin", "PUT", path, changed)
	same(t, "policy", r.wants(200, "admin", "GET", path, "").object(t), object(t, changed))
	rows, err := r.db.AllProjects(t.Context())
	r.must(err)
	if p := rows[0]; !p.Retention.Equal(catalog.Retention{Rules: []catalog.Rule{{Newest: 3, Untagged: true}}}) || p.Schedule != "0 0 3 * * *" {
		t.Errorf("in force: %+v %q", p.Retention, p.Schedule)
	}
	r.makes("admin", path+"/executions", `{"dry_run":true}`)
	if o := r.cleaner.orders[0]; !o.Dry || o.Project != "production" {
		t.Errorf("order = %+v", o)
	}
	r.wants(200, "admin", "DELETE", path, "")
	r.wants(404, "admin", "GET", path, "")

	rule := `{"disabled":false,"action":"immutable","template":"immutable_template","scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"web"}]},"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}]}`
	path, _ = r.makes("admin", project+"/immutabletagrules", rule)
	all := r.wants(200, "admin", "GET", project+"/immutabletagrules", "").list(t)
	same(t, "rule", all[0].(map[string]any), object(t, rule))
	r.wants(200, "admin", "PUT", path, strings.Replace(rule, `"disabled":false`, `"disabled":true`, 1))
	if rows, err = r.db.AllProjects(t.Context()); err != nil || len(rows[0].Immutable) != 0 {
		t.Errorf("a disabled rule is in force: %v, %v", rows[0].Immutable, err)
	}
	r.wants(200, "admin", "PUT", path, rule)
	r.wants(409, "admin", "POST", project+"/immutabletagrules", rule)
	r.wants(200, "admin", "DELETE", path, "")
	if a := r.wants(200, "admin", "GET", project+"/immutabletagrules", ""); a.body != "[]\n" {
		t.Errorf("no rules = %q, want []", a.body)
	}
}

// TestCollections sets and reads the schedule, which is an empty body as long as nobody has set it.
func TestCollections(t *testing.T) {
	r := open(t)
	const schedule = v2 + "/system/gc/schedule"
	if a := r.wants(200, "admin", "GET", schedule, ""); a.body != "" {
		t.Errorf("no schedule = %q, want an empty body", a.body)
	}
	r.makes("admin", schedule, `{"parameters":{"delete_untagged":true,"dry_run":false,"workers":1},"schedule":{"type":"Custom","cron":"0 0 5 * * *"}}`)
	got := r.wants(200, "admin", "GET", schedule, "").object(t)
	same(t, "schedule", got["schedule"].(map[string]any), map[string]any{"type": "Custom", "cron": "0 0 5 * * *"})
	same(t, "parameters", object(t, got["job_parameters"].(string)), map[string]any{"delete_untagged": true, "dry_run": false})
	if p := r.cleaner.plan; p == nil || !p.Order.Untagged {
		t.Errorf("plan in force = %+v", p)
	}
	r.wants(400, "admin", "PUT", schedule, `{"schedule":{"type":"Custom","cron":"0 0 0 31 2 *"}}`)
	r.wants(200, "admin", "PUT", schedule, `{"schedule":{"type":"None"}}`)
	if a := r.wants(200, "admin", "GET", schedule, ""); a.body != "" {
		t.Errorf("schedule None = %q, want an empty body", a.body)
	}
	if p := r.cleaner.plan; p != nil {
		t.Errorf("after None the plan is %+v, want what the configuration says", p)
	}
	path, _ := r.makes("admin", schedule, `{"schedule":{"type":"Manual"},"parameters":{"dry_run":true}}`)
	one := r.wants(200, "admin", "GET", path, "").object(t)
	same(t, "collection", one, map[string]any{"job_kind": "MANUAL", "job_status": "Running"})
	if all := r.wants(200, "admin", "GET", v2+"/system/gc", "").list(t); len(all) != 1 {
		t.Errorf("history = %v", all)
	}
	o := r.cleaner.orders[0]
	now := one["creation_time"]
	r.must(r.cleaner.note(estateCleaning(o, false)), r.cleaner.note(estateCleaning(o, true)))
	one = r.wants(200, "admin", "GET", path, "").object(t)
	same(t, "collection", one, map[string]any{"job_status": "Success"})
	if now == nil || !strings.Contains(r.wants(200, "admin", "GET", path+"/log", "").body, "would be removed") {
		t.Error("the log does not say what would be removed")
	}
}
