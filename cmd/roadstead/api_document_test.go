package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roadstead/registry/registrytest"
	"roadstead/rewrite/clients"
)

const apiPassword = "Correct-Horse-1"

// bureau is a running roadstead that is administered by its REST API, all of which is held to the
// document that it serves.
type bureau struct {
	*process
	t        *testing.T
	up       *registrytest.Registry
	contract *registrytest.Contract
	client   *http.Client
	config   string                    // the file, which is made of
	projects map[string]map[string]any // these
	more     map[string]any            // and these
}

// openBureau starts one with the project declared.example, a proxy.
func openBureau(t *testing.T) *bureau {
	t.Helper()
	b := &bureau{t: t, up: registrytest.New(t)}
	b.up.PutImage("team/app", "v1", []byte("a layer"))
	secret := filepath.Join(t.TempDir(), "admin")
	write(t, secret, apiPassword)
	b.projects, b.more = map[string]map[string]any{"declared.example": proxied(b.up)}, map[string]any{"admin_password_file": secret}
	b.config = configuration(t, b.projects, b.more)
	b.process = serve(t, b.config)
	status, document := b.get("/api/openapi.json")
	if status != 200 {
		t.Fatalf("the document: %d %s", status, document)
	}
	b.contract = registrytest.NewContract(t, []byte(document))
	b.client = &http.Client{Transport: b.contract.Transport(func(err error) { t.Error(err) })}
	return b
}

// ask sends a request as the administrator and wants a status.
func (b *bureau) ask(want int, method, path, body string) (location string, answer []byte) {
	b.t.Helper()
	return b.askAs("admin", want, method, path, body)
}

func (b *bureau) askAs(user string, want int, method, path, body string) (location string, answer []byte) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, apiPassword)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		b.t.Errorf("%s %s %s: %d %s, %v, want %d", method, path, body, resp.StatusCode, answer, err, want)
	}
	return resp.Header.Get("Location"), answer
}

// push puts an image into a hosted project.
func (b *bureau) push(repo, tag string) (digest string) {
	b.t.Helper()
	send := func(method, path, mediaType string, body []byte) {
		r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, bytes.NewReader(body))
		if err != nil {
			b.t.Fatal(err)
		}
		r.SetBasicAuth("admin", apiPassword)
		r.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			b.t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 201 {
			b.t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
		}
	}
	sum := func(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
	layer := []byte("pushed")
	config := []byte(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created":"2026-01-02T03:04:05Z","created_by":"COPY . ."}]}`)
	for _, blob := range [][]byte{layer, config} {
		send("POST", "/v2/"+repo+"/blobs/uploads/?digest="+sum(blob), "application/octet-stream", blob)
	}
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, sum(config), len(config), sum(layer), len(layer))
	send("PUT", "/v2/"+repo+"/manifests/"+tag, "application/vnd.oci.image.manifest.v1+json", manifest)
	return sum(manifest)
}

// Each call is made well and badly, by an administrator, and all of it is as the document says.
func TestTheAPIIsAsItsDocumentSays(t *testing.T) {
	b := openBureau(t)
	get := func(path string) { t.Helper(); b.ask(200, "GET", path, "") }
	v2, mine := "/api/v2.0", "/api/roadstead/v1"

	// The system.
	for _, path := range []string{"/api/version", "/api/openapi.yaml", "/api/openapi.json", v2 + "/ping", v2 + "/health", v2 + "/systeminfo"} {
		get(path)
		b.askAs("", 200, "GET", path, "")
	}
	for _, path := range []string{"/systeminfo/volumes", "/statistics", "/configurations", "/permissions", "/replication/adapters"} {
		get(v2 + path)
		b.askAs("", 401, "GET", v2+path, "")
	}
	get(v2 + "/search?q=de")
	b.ask(200, "PUT", v2+"/configurations", `{"project_creation_restriction":"everyone"}`)
	get(v2 + "/configurations")
	b.ask(400, "PUT", v2+"/configurations", `{"auth_mode":"ldap_auth"}`)
	b.askAs("", 401, "PUT", v2+"/configurations", `{}`)

	// Registries.
	registry, _ := b.ask(201, "POST", v2+"/registries", fmt.Sprintf(`{"name":"there","type":"docker-registry","url":%q,"allow_private":true,"id":0}`, b.up.URL()))
	b.ask(400, "POST", v2+"/registries", `{"name":`)
	b.ask(409, "POST", v2+"/registries", fmt.Sprintf(`{"name":"there","type":"docker-registry","url":%q,"allow_private":true}`, b.up.URL()))
	get(v2 + "/registries?q=name=~her&sort=-name&page=1&page_size=1")
	b.ask(400, "GET", v2+"/registries?page_size=1000", "")
	get(registry)
	b.ask(404, "GET", v2+"/registries/999", "")
	b.ask(400, "GET", v2+"/registries/none", "")
	b.ask(200, "PUT", registry, `{"description":"next door"}`)
	b.ask(400, "PUT", registry, `{"name":7}`)
	number := registry[strings.LastIndexByte(registry, '/')+1:]
	b.ask(200, "POST", v2+"/registries/ping", `{"id":`+number+`}`)
	b.ask(404, "POST", v2+"/registries/ping", `{"id":999}`)

	// Clients.
	for _, name := range clients.Names() {
		if name != "system-default-registry" {
			get(mine + "/clients/" + name)
		}
	}
	get(mine + "/clients/rke2?wildcard=true")
	b.ask(400, "GET", mine+"/clients/system-default-registry", "") // which needs Docker Hub
	b.ask(400, "GET", mine+"/clients/docker?wildcard=true", "")
	b.ask(404, "GET", mine+"/clients/abacus", "")
	b.ask(200, "POST", mine+"/explain", `{"image":"busybox"}`)
	get(mine + "/clients-seen?q=go")
	b.ask(400, "POST", mine+"/explain", `{"image":"A B"}`)
	b.ask(400, "GET", mine+"/clients-seen?page=first", "")

	// Projects.
	b.ask(201, "POST", v2+"/projects", `{"project_name":"mirror","registry_id":`+number+`,"public":true,"metadata":{"auto_scan":"false"}}`)
	house, _ := b.ask(201, "POST", v2+"/projects", `{"project_name":"house","public":false,"storage_limit":1000000,"cve_allowlist":{"items":[{"cve_id":"CVE-1"}]}}`)
	houseID := house[strings.LastIndexByte(house, '/')+1:]
	b.ask(409, "POST", v2+"/projects", `{"project_name":"mirror","registry_id":`+number+`}`)
	b.ask(400, "POST", v2+"/projects", `{"project_name":"UPPER"}`)
	b.ask(200, "HEAD", v2+"/projects?project_name=house", "")
	b.ask(404, "HEAD", v2+"/projects?project_name=none", "")
	get(v2 + "/projects?page=0&page_size=0")
	b.ask(400, "GET", v2+"/projects?public=perhaps", "")
	for _, path := range []string{"", "/summary", "/_deletable", "/metadatas", "/members", "/immutabletagrules", "/repositories", "/logs"} {
		get(house + path)
		get(v2 + "/projects/mirror" + path)
		b.ask(404, "GET", v2+"/projects/none"+path, "")
	}
	b.ask(404, "GET", house+"/scanner", "")
	b.ask(200, "PUT", house, `{"public":true,"metadata":{"public":"true"}}`)
	b.ask(400, "PUT", house, `{"metadata":{"public":"perhaps"}}`)
	b.ask(403, "PUT", v2+"/projects/declared.example", `{"public":false}`)
	b.ask(200, "POST", house+"/metadatas", `{"severity":"high"}`)
	b.ask(400, "POST", house+"/metadatas", `[]`)
	get(house + "/metadatas/severity")
	b.ask(404, "GET", house+"/metadatas/none", "")
	b.ask(200, "PUT", house+"/metadatas/severity", `{"severity":"low"}`)
	b.ask(400, "PUT", house+"/metadatas/severity", `{"other":"low"}`)
	b.ask(200, "DELETE", house+"/metadatas/severity", "")
	b.ask(404, "DELETE", house+"/metadatas/severity", "")

	// Users and members.
	alice, _ := b.ask(201, "POST", v2+"/users", `{"username":"alice","email":"alice@example.com","password":"`+apiPassword+`"}`)
	b.ask(409, "POST", v2+"/users", `{"username":"alice","email":"a@example.com","password":"`+apiPassword+`"}`)
	b.ask(400, "POST", v2+"/users", `{"username":"bob","password":"x"}`)
	get(v2 + "/users?q=username=~ali")
	b.ask(400, "GET", v2+"/users?page=-1", "")
	get(v2 + "/users/current")
	b.askAs("", 401, "GET", v2+"/users/current", "")
	get(v2 + "/users/search?username=ali")
	b.ask(400, "GET", v2+"/users/search", "")
	get(alice)
	b.ask(404, "GET", v2+"/users/999", "")
	b.ask(200, "PUT", alice, `{"email":"alice@example.org"}`)
	b.ask(400, "PUT", alice, `{"email":1}`)
	b.ask(200, "PUT", alice+"/password", `{"new_password":"`+apiPassword+`x"}`)
	b.ask(400, "PUT", alice+"/password", `{"new_password":"x"}`)
	b.ask(200, "PUT", alice+"/sysadmin", `{"sysadmin_flag":false}`)
	b.ask(400, "PUT", alice+"/sysadmin", `{}`)
	member, _ := b.ask(201, "POST", house+"/members", `{"role_id":2,"member_user":{"username":"alice"}}`)
	b.ask(409, "POST", house+"/members", `{"role_id":2,"member_user":{"username":"alice"}}`)
	b.ask(400, "POST", house+"/members", `{"role_id":9}`)
	get(member)
	get(house + "/members?entityname=ali")
	b.ask(404, "GET", house+"/members/999", "")
	b.ask(200, "PUT", member, `{"role_id":4}`)
	b.ask(400, "PUT", member, `{"role_id":9}`)
	b.ask(200, "DELETE", member, "")
	b.ask(404, "DELETE", member, "")
	b.ask(200, "DELETE", alice, "")
	b.ask(404, "DELETE", alice, "")

	// What was pushed.
	digest := b.push("house/deep/app", "v1")
	app := v2 + "/projects/house/repositories/deep%252Fapp"
	for _, path := range []string{app, v2 + "/projects/house/repositories/deep%2Fapp", app + "/artifacts", app + "/artifacts/v1", app + "/artifacts/" + digest, app + "/artifacts/v1/tags", app + "/artifacts/v1/accessories", app + "/artifacts/v1/additions/build_history", v2 + "/repositories", v2 + "/search?q=app"} {
		get(path)
	}
	none := v2 + "/projects/house/repositories/none"
	for _, path := range []string{none, none + "/artifacts", app + "/artifacts/none", app + "/artifacts/none/tags", app + "/artifacts/none/accessories", app + "/artifacts/none/additions/build_history"} {
		b.ask(404, "GET", path, "")
	}
	b.ask(400, "GET", v2+"/repositories?sort=colour", "")
	b.ask(200, "PUT", app, `{"description":"ours"}`)
	b.ask(400, "PUT", app, `{"description":1}`)
	tag, _ := b.ask(201, "POST", app+"/artifacts/v1/tags", `{"name":"stable"}`)
	b.ask(409, "POST", app+"/artifacts/v1/tags", `{"name":"stable"}`)
	b.ask(400, "POST", app+"/artifacts/v1/tags", `{"name":"a b"}`)
	b.ask(200, "DELETE", tag, "")
	b.ask(404, "DELETE", tag, "")

	// Rules, quotas, retention.
	rule := `{"disabled":false,"action":"immutable","template":"immutable_template","tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"%s"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}`
	immutable, _ := b.ask(201, "POST", house+"/immutabletagrules", fmt.Sprintf(rule, "v*"))
	b.ask(409, "POST", house+"/immutabletagrules", fmt.Sprintf(rule, "v*"))
	b.ask(400, "POST", house+"/immutabletagrules", `{"tag_selectors":[],"scope_selectors":{}}`)
	get(house + "/immutabletagrules")
	get(app + "/artifacts")
	b.ask(403, "DELETE", app+"/artifacts/v1", "")
	b.ask(200, "PUT", immutable, fmt.Sprintf(rule, "w*"))
	b.ask(404, "PUT", house+"/immutabletagrules/999", fmt.Sprintf(rule, "w*"))
	b.ask(200, "DELETE", immutable, "")
	b.ask(404, "DELETE", immutable, "")
	get(v2 + "/quotas?sort=-used.storage")
	b.ask(400, "GET", v2+"/quotas?reference=planet", "")
	get(v2 + "/quotas/" + houseID)
	b.ask(404, "GET", v2+"/quotas/999", "")
	b.ask(200, "PUT", v2+"/quotas/"+houseID, `{"hard":{"storage":-1}}`)
	b.ask(400, "PUT", v2+"/quotas/"+houseID, `{"hard":{"storage":0}}`)
	retention := `{"algorithm":"or","rules":[{"disabled":false,"action":"retain","template":"latestPushedK","params":{"latestPushedK":%s},"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"**"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}],"scope":{"level":"project","ref":` + houseID + `},"trigger":{"kind":"Schedule","settings":{"cron":""},"references":{}}}`
	policy, _ := b.ask(201, "POST", v2+"/retentions", fmt.Sprintf(retention, "5"))
	b.ask(409, "POST", v2+"/retentions", fmt.Sprintf(retention, "5"))
	b.ask(400, "POST", v2+"/retentions", `{"scope":{"ref":0}}`)
	get(policy)
	get(house)
	b.ask(404, "GET", v2+"/retentions/999", "")
	b.ask(200, "PUT", policy, fmt.Sprintf(retention, "6"))
	b.ask(400, "PUT", policy, fmt.Sprintf(retention, "0"))
	chosen := strings.NewReplacer("latestPushedK", "latestPulledN", `"repoMatches","pattern":"**"`, `"repoExcludes","pattern":"a/**"`, `"matches","pattern":"**"`, `"excludes","pattern":"v*","extras":"{\"untagged\":false}"`)
	b.ask(200, "PUT", policy, chosen.Replace(fmt.Sprintf(retention, "7")))
	get(policy)
	b.ask(400, "PUT", policy, strings.Replace(fmt.Sprintf(retention, "7"), `"repoMatches"`, `"labels"`, 1))
	b.ask(201, "POST", policy+"/executions", `{"dry_run":true}`)
	b.ask(404, "POST", v2+"/retentions/999/executions", `{"dry_run":true}`)
	get(policy + "/executions")
	b.ask(404, "GET", v2+"/retentions/999/executions", "")
	b.ask(200, "DELETE", policy, "")
	b.ask(404, "DELETE", policy, "")

	// Robots.
	robot := `{"name":"%s","level":"project","duration":30,"disable":false,"permissions":[{"kind":"project","namespace":"house","access":[{"resource":"repository","action":"pull"}]}]}`
	ci, _ := b.ask(201, "POST", v2+"/robots", fmt.Sprintf(robot, "ci"))
	b.ask(409, "POST", v2+"/robots", fmt.Sprintf(robot, "ci"))
	b.ask(400, "POST", v2+"/robots", fmt.Sprintf(robot, "UPPER"))
	get(v2 + "/robots?q=Level%253Dproject%252CProjectID%253D" + houseID)
	get(v2 + "/robots")
	b.ask(400, "GET", v2+"/robots?q=Level=project", "")
	get(ci)
	b.ask(404, "GET", v2+"/robots/999", "")
	b.ask(200, "PUT", ci, `{"description":"of the pipeline","disable":true}`)
	b.ask(400, "PUT", ci, `{"name":"other"}`)
	b.ask(200, "PATCH", ci, `{}`)
	b.ask(400, "PATCH", ci, `{"secret":"x"}`)
	b.ask(200, "DELETE", ci, "")
	b.ask(404, "DELETE", ci, "")

	// Collections.
	get(v2 + "/system/gc/schedule")
	b.askAs("", 401, "GET", v2+"/system/gc/schedule", "")
	b.ask(201, "POST", v2+"/system/gc/schedule", `{"schedule":{"type":"Daily"},"parameters":{"delete_untagged":true}}`)
	get(v2 + "/system/gc/schedule")
	b.ask(200, "PUT", v2+"/system/gc/schedule", `{"schedule":{"type":"Custom","cron":"0 0 3 * * *"}}`)
	b.ask(400, "PUT", v2+"/system/gc/schedule", `{"schedule":{"type":"Custom"}}`)
	b.ask(400, "POST", v2+"/system/gc/schedule", `{"schedule":{"type":"Sometimes"}}`)
	collection := b.collect()
	get(v2 + "/system/gc")
	b.ask(400, "GET", v2+"/system/gc?q=colour=red", "")
	get(collection)
	get(collection + "/log")
	b.ask(404, "GET", v2+"/system/gc/999", "")
	b.ask(404, "GET", v2+"/system/gc/999/log", "")
	b.ask(404, "PUT", collection, `{"status":"Stopped"}`) // it has ended
	b.ask(400, "PUT", collection, `{"status":"Faster"}`)

	// What Harbor lacks.
	mirror := mine + "/projects/mirror"
	get(mirror + "/policy")
	b.ask(404, "GET", mine+"/projects/house/policy", "")
	b.ask(200, "PUT", mirror+"/policy", `{"ttl":"5m","keep":null,"stale_for":"1h","allow":["**"],"deny":[],"pin":["team/app:v*"],"keep_gone":true,"prefix":""}`)
	get(mirror + "/policy")
	b.ask(400, "PUT", mirror+"/policy", `{"ttl":"soon"}`)
	team := mirror + "/repositories/team%252Fapp"
	b.ask(404, "GET", team+"/tags/v1/freshness", "")
	b.ask(200, "POST", team+"/tags/v1/refresh", "")
	b.ask(404, "POST", team+"/tags/none/refresh", "")
	b.ask(200, "GET", mirror+"/repositories/team%2Fapp/tags/v1/freshness", "")
	b.ask(200, "PUT", mirror+"/policy", fmt.Sprintf(`{"cooldown":"72h","cooldown_new":false,"verify":{"mode":"warn","keys":[%q]}}`, cosignKey))
	b.ask(200, "PUT", mirror+"/policy", `{"ttl":"5m","pin":["team/app:v*"],"keep_gone":true}`)
	if _, answer := b.ask(200, "GET", mirror+"/policy", ""); !strings.Contains(string(answer), `"cooldown":"72h0m0s"`) || !strings.Contains(string(answer), `"mode":"warn"`) {
		t.Errorf("a change that says nothing of signatures leaves %s", answer)
	}
	b.ask(400, "PUT", mirror+"/policy", `{"cooldown":"soon"}`)
	b.ask(400, "PUT", mirror+"/policy", `{"verify":{"mode":"warn","keys":[]}}`)
	b.ask(400, "PUT", mirror+"/policy", `{"verify":{"mode":"warn","keys":["no key"]}}`)
	get(team + "/artifacts/v1/policy")
	b.ask(400, "GET", team+"/artifacts/no%20tag/policy", "")
	b.ask(404, "GET", mine+"/projects/house/repositories/app/artifacts/v1/policy", "")
	b.ask(404, "POST", team+"/tags/v1/release", "")
	b.up.PutImage("team/app", "v1", []byte("where upstream has moved it"))
	b.ask(200, "POST", team+"/tags/v1/refresh", "")
	if _, answer := b.ask(200, "GET", team+"/artifacts/v1/policy", ""); !strings.Contains(string(answer), `"released":false`) {
		t.Errorf("a tag that upstream has moved is %s", answer)
	}
	b.ask(200, "POST", team+"/tags/v1/release", "")
	if _, answer := b.ask(200, "GET", team+"/artifacts/v1/policy", ""); !strings.Contains(string(answer), `"held":null`) {
		t.Errorf("a tag that was released is %s", answer)
	}
	one := team + "/artifacts/sha256:" + strings.Repeat("ab", 32)
	b.ask(200, "PUT", one+"/override", `{"reason":"it is needed tonight"}`)
	b.ask(400, "PUT", one+"/override", `{"reason":""}`)
	b.ask(400, "PUT", team+"/artifacts/v1/override", `{"reason":"a tag"}`)
	if _, answer := b.ask(200, "GET", one+"/policy", ""); !strings.Contains(string(answer), "it is needed tonight") {
		t.Errorf("what was let through is %s", answer)
	}
	b.ask(200, "DELETE", one+"/override", "")
	b.ask(400, "DELETE", team+"/artifacts/v1/override", "")
	b.ask(200, "PUT", mirror+"/policy", `{"ttl":"5m","pin":["team/app:v*"],"keep_gone":true,"cooldown":"","verify":{"mode":"","keys":[]}}`)
	job, _ := b.ask(202, "POST", team+"/warm", `{"reference":"v1","platforms":["linux/amd64"]}`)
	b.ask(400, "POST", team+"/warm", `{"reference":"v1","platforms":["linux"]}`)
	b.ask(400, "POST", mine+"/projects/house/repositories/app/warm", `{"reference":"v1"}`)
	if _, answer := b.finished(job); !strings.Contains(answer, `"state":"success"`) {
		t.Errorf("warming ended as %s", answer)
	}
	host := strings.TrimPrefix(b.url, "http://")
	list, _ := b.ask(202, "POST", mine+"/warmups", fmt.Sprintf(`{"images":["%s/mirror/team/app:v1"],"list":"%[1]s/mirror/none/app\n","platforms":["linux/amd64"]}`, host))
	b.finished(list)
	_, answer := b.ask(200, "GET", list+"?ended_after=1", "")
	if warmed := string(answer); !strings.Contains(warmed, `"state":"failed"`) || !strings.Contains(warmed, `"failed_count":1,`) || strings.Count(warmed, `"ordinal"`) != 1 {
		t.Errorf("the warm-up of a list ended as %s", answer)
	}
	b.ask(400, "GET", list+"?ended_after=x", "")
	b.ask(404, "GET", mine+"/warmups/999", "")
	b.askAs("", 401, "GET", list, "")
	b.askAs("", 401, "POST", mine+"/warmups", "{}")
	b.ask(400, "POST", mine+"/warmups", `{"list":"team/UPPER"}`)
	b.ask(404, "POST", mine+"/warmups", `{"images":["none.example/app"]}`)
	b.ask(404, "GET", mine+"/jobs/999", "")
	get(mine + "/jobs?kind=warm")
	b.ask(400, "GET", mine+"/jobs?page=x", "")
	b.ask(200, "POST", job+"/stop", "")
	b.ask(404, "POST", mine+"/jobs/999/stop", "")
	for _, path := range []string{"/scrub", "/eviction"} {
		job, _ := b.ask(202, "POST", mine+path, "")
		b.askAs("", 401, "POST", mine+path, "")
		b.finished(job)
	}
	get(mine + "/flights")
	b.ask(400, "GET", mine+"/flights?page=x", "")
	for _, path := range []string{"/upstreams", "/cache"} {
		get(mine + path)
		b.askAs("", 401, "GET", mine+path, "")
	}

	// What is cached, and the end of it all.
	cached := v2 + "/projects/mirror/repositories/team%252Fapp"
	get(cached + "/artifacts?q=tags=*")
	get(v2 + "/audit-logs?page_size=100")
	b.ask(400, "GET", v2+"/audit-logs?q=colour=red", "")
	b.ask(200, "DELETE", app+"/artifacts/v1", "")
	b.ask(404, "DELETE", app+"/artifacts/v1", "")
	b.ask(412, "DELETE", registry, "")
	b.ask(412, "DELETE", v2+"/projects/mirror", "")
	b.ask(403, "DELETE", cached, "")
	b.ask(200, "PUT", mirror+"/policy", `{"pin":[]}`)
	b.ask(200, "DELETE", cached, "")
	b.ask(404, "DELETE", none, "")
	b.ask(200, "DELETE", v2+"/projects/mirror", "")
	b.ask(200, "DELETE", registry, "")
	b.listen()

	// Nothing can be wrong with a question to these.
	sure := "/api/version /api/openapi.yaml /api/openapi.json /api/v2.0/ping /api/v2.0/health /api/v2.0/systeminfo /api/v2.0/search /api/roadstead/v1/flights/events"
	for _, operation := range b.contract.Operations() {
		well, badly := false, false
		for _, status := range b.contract.Seen(operation) {
			well, badly = well || status < 300, badly || status >= 400
		}
		_, path, _ := strings.Cut(operation, " ")
		// There is no scanner, and a collection of so little has ended before anybody can stop it.
		if !well && !strings.HasSuffix(path, "/scanner") && operation != "PUT /api/v2.0/system/gc/{id}" {
			t.Errorf("%s was never done", operation)
		}
		if !badly && !strings.Contains(" "+sure+" ", " "+path+" ") {
			t.Errorf("%s was never refused", operation)
		}
	}
}

// collect runs a collection to its end; another may be under way.
func (b *bureau) collect() (path string) {
	b.t.Helper()
	path, _ = b.ask(201, "POST", "/api/v2.0/system/gc/schedule", `{"schedule":{"type":"Manual"},"parameters":{"dry_run":true}}`)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, answer := b.ask(200, "GET", path, "")
		if !bytes.Contains(answer, []byte(`"Running"`)) {
			return path
		}
		if time.Now().After(end) {
			b.t.Fatalf("the collection does not end: %s", answer)
		}
	}
}

// finished waits for the end of a job.
func (b *bureau) finished(path string) (state, answer string) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, text := b.ask(200, "GET", strings.Replace(path, "/warmups/", "/jobs/", 1), "")
		var job struct {
			State string `json:"state"`
		}
		if err := json.Unmarshal(text, &job); err != nil {
			b.t.Fatal(err)
		}
		if job.State != "running" {
			return job.State, string(text)
		}
		if time.Now().After(end) {
			b.t.Fatalf("the job does not end: %s", text)
		}
	}
}

// listen sees a download begin and end in the stream of events.
func (b *bureau) listen() {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "GET", b.url+"/api/roadstead/v1/flights/events", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.SetBasicAuth("admin", apiPassword)
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		b.t.Fatalf("the stream is %s", kind)
	}
	lines := bufio.NewScanner(resp.Body)
	next := func() (flights []struct{ Digest string }) {
		b.t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &flights); err != nil {
					b.t.Fatal(err)
				}
				return flights
			}
		}
		b.t.Fatalf("the stream has ended: %v", lines.Err())
		return nil
	}
	if all := next(); len(all) != 0 {
		b.t.Errorf("flights at first: %v", all)
	}
	hold := make(chan struct{})
	digest := b.up.PutBlob("team/app", []byte("held back")).String()
	b.up.Fail("GET /v2/team/app/blobs/"+digest, 0, registrytest.Hold(hold))
	done := make(chan string)
	go func() {
		status, body := b.get("/v2/declared.example/team/app/blobs/" + digest)
		done <- fmt.Sprint(status, " ", body)
	}()
	if all := next(); len(all) != 1 || all[0].Digest != digest {
		b.t.Errorf("flights = %v, want %s", all, digest)
	}
	close(hold)
	if got := <-done; got != "200 held back" {
		b.t.Errorf("the blob: %s", got)
	}
	if all := next(); len(all) != 0 {
		b.t.Errorf("flights at last: %v", all)
	}

	// A stop of the server does not wait for whoever listens.
	began := time.Now()
	b.signal(syscall.SIGTERM)
	for lines.Scan() {
	}
	if code := b.exit(); code != 0 || time.Since(began) > 10*time.Second {
		b.t.Errorf("it stopped with %d after %s", code, time.Since(began))
	}
}
