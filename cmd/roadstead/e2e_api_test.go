package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const v2 = "/api/v2.0"

// call makes a call of the REST API that must be answered with a status, and returns the answer.
func (n *node) call(status int, method, path, body string) answer {
	n.t.Helper()
	req, err := http.NewRequest(method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	res, err := n.do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(res.Body); err != nil {
		n.t.Fatal(err)
	}
	if a.status != status {
		n.t.Fatalf("%s %s %s: %v %s, want %d", method, path, body, a, a.body, status)
	}
	return a
}

// decoded is the body of an answer.
func decoded[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	return v
}

// administered starts a node with a hosted project, whose administrator has a password of ours.
func administered(t *testing.T) (n, admin *node) {
	t.Helper()
	root := account{"admin", "Pass-of-admin-1f8c"}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(root.secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n = startNode(t, nodeConfig{
		plain:    true,
		projects: map[string]any{"production": map[string]any{"hosted": true}}, more: map[string]any{"admin_password_file": file},
	})
	return n, n.as(root)
}

// What the REST API sets is in force when it answers: a registry and a project that were made are
// pulled through at once, a policy holds for the next pull, and what is deleted is gone.
func TestAPI(t *testing.T) {
	e2e(t)
	up := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 97000, platforms: []string{"linux/amd64", "linux/arm64"}}.make(t, "1")
	up.push(t, "team/app", img)
	n, admin := administered(t)

	registry := fmt.Sprintf(`{"name":"up","type":"docker-registry","url":%q,"insecure":true,"allow_private":%%t,"access_key":"me","access_secret":"canary-of-up"}`, up.url)
	if a := admin.call(400, "POST", v2+"/registries", fmt.Sprintf(registry, false)); !strings.Contains(string(a.body), "private") {
		t.Errorf("a registry on a private address: %s, want a refusal that says so", a.body)
	}
	path := admin.call(201, "POST", v2+"/registries", fmt.Sprintf(registry, true)).header.Get("Location")
	id := path[strings.LastIndex(path, "/")+1:]
	project := admin.call(201, "POST", v2+"/projects", `{"project_name":"quay.io","public":true,"registry_id":`+id+`}`).header.Get("Location")
	if err := n.pull("quay.io/team/app", "1", img); err != nil {
		t.Fatal(err)
	}

	// It is seen, under its name escaped twice.
	repo := project + "/repositories/team%252Fapp"
	type artifact struct {
		Digest     string           `json:"digest"`
		Size       int64            `json:"size"`
		Tags       []map[string]any `json:"tags"`
		References []struct {
			Digest   string            `json:"child_digest"`
			Platform map[string]string `json:"platform"`
		} `json:"references"`
		Attributes map[string]any `json:"extra_attrs"`
	}
	var all []artifact
	for deadline := time.Now().Add(10 * time.Second); (len(all) == 0 || len(all[0].Tags) == 0) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if a, err := n.tryAsk("GET", repo+"/artifacts"); err == nil && a.status == http.StatusOK {
			all = decoded[[]artifact](t, a)
		}
	}
	if len(all) != 1 || all[0].Digest != string(img.top().digest) || len(all[0].Tags) != 1 || len(all[0].References) != 2 || all[0].References[0].Platform["os"] != "linux" {
		t.Fatalf("artifacts = %+v, want the index with its tag and two platforms", all)
	}
	var one artifact // what it is made of is noted behind the pull
	for deadline := time.Now().Add(10 * time.Second); one.Attributes["architecture"] == nil && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		one = decoded[artifact](t, n.call(200, "GET", repo+"/artifacts/"+all[0].References[0].Digest, ""))
	}
	if one.Attributes["architecture"] != all[0].References[0].Platform["architecture"] {
		t.Errorf("extra_attrs = %v", one.Attributes)
	}

	// A policy holds for the next pull.
	policy := "/api/roadstead/v1/projects/quay.io/policy"
	n.call(401, "PUT", policy, `{"deny":["team/**"]}`)
	admin.call(200, "PUT", policy, `{"deny":["team/**"],"ttl":"0s"}`)
	if a := n.ask("GET", manifestPath("quay.io/team/app", "1")); a.status != http.StatusForbidden && a.status != http.StatusNotFound {
		t.Errorf("a pull of what is denied: %v", a)
	}
	admin.call(200, "PUT", policy, `{}`)
	if err := n.pull("quay.io/team/app", "1", img); err != nil {
		t.Error(err)
	}
	admin.call(200, "PUT", project, `{"metadata":{"public":"false"}}`)
	if a := n.ask("GET", manifestPath("quay.io/team/app", "1")); a.status != http.StatusUnauthorized {
		t.Errorf("an anonymous pull from a project that is private now: %v", a)
	}

	admin.call(412, "DELETE", path, "")
	admin.call(412, "DELETE", project, "")
	admin.call(403, "DELETE", v2+"/projects/production", "") // which is declared
	admin.call(200, "DELETE", repo, "")
	// What was pulled a moment ago may still be on its way into the catalog, and is deleted once more.
	for deadline := time.Now().Add(20 * time.Second); admin.ask("DELETE", project).status != http.StatusOK; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			admin.call(200, "DELETE", project, "")
		}
		admin.ask("DELETE", repo)
	}
	admin.call(404, "GET", project, "")
	if a := admin.ask("GET", manifestPath("quay.io/team/app", "1")); a.status != http.StatusNotFound {
		t.Errorf("a pull from a project that is gone: %v", a)
	}
	admin.call(200, "DELETE", path, "")
	for _, path := range []string{v2 + "/registries", v2 + "/audit-logs?page_size=100", v2 + "/projects"} {
		if a := admin.call(200, "GET", path, ""); strings.Contains(string(a.body), "canary") {
			t.Errorf("%s has the password of a registry", path)
		}
	}
}

// A collection that is asked for is carried out and listed, and the schedule stays over a restart.
func TestAPICollections(t *testing.T) {
	e2e(t)
	n, admin := administered(t)
	const schedule = v2 + "/system/gc/schedule"
	if a := admin.call(200, "GET", schedule, ""); len(a.body) > 0 {
		t.Errorf("no schedule = %s, want an empty body", a.body)
	}
	run := admin.call(201, "POST", schedule, `{"schedule":{"type":"Manual"},"parameters":{"delete_untagged":true}}`).header.Get("Location")
	status := ""
	for deadline := time.Now().Add(20 * time.Second); status != "Success" && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		status = fmt.Sprint(decoded[map[string]any](t, admin.call(200, "GET", run, ""))["job_status"])
	}
	if status != "Success" {
		t.Errorf("the collection is %s", status)
	}
	admin.call(200, "PUT", schedule, `{"schedule":{"type":"Custom","cron":"*/1 * * * * *"},"parameters":{"dry_run":true}}`)
	scheduled := func() (n int) {
		for _, c := range decoded[[]map[string]any](t, admin.call(200, "GET", v2+"/system/gc?page_size=100&q="+url.QueryEscape("job_kind=SCHEDULE,job_status=Success"), "")) {
			if strings.Contains(fmt.Sprint(c["job_parameters"]), `"dry_run":true`) {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); scheduled() < 2 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
	}
	if scheduled() < 2 {
		t.Error("a schedule of each second has not collected twice")
	}
	n.terminate(20 * time.Second)
	n.start()
	before := scheduled()
	for deadline := time.Now().Add(20 * time.Second); scheduled() <= before && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
	}
	if scheduled() <= before {
		t.Error("the schedule is forgotten after a restart")
	}
}
