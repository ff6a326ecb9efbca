package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What Harbor lacks is for whom it should be: the content of a private proxy for its members, to fill
// it for maintainers, and what is of the whole server for administrators.
func TestWhoMayCallWhatHarborLacks(t *testing.T) {
	b := openBureau(t)
	v2, mine := "/api/v2.0", "/api/roadstead/v1"
	registry, _ := b.ask(201, "POST", v2+"/registries", fmt.Sprintf(`{"name":"there","type":"docker-registry","url":%q,"allow_private":true}`, b.up.URL()))
	project, _ := b.ask(201, "POST", v2+"/projects", `{"project_name":"secret","public":false,"registry_id":`+registry[strings.LastIndexByte(registry, '/')+1:]+`}`)
	for role, name := range map[int]string{0: "outsider", 3: "guest", 4: "maintainer"} {
		b.ask(201, "POST", v2+"/users", fmt.Sprintf(`{"username":%q,"email":"%s@example.com","password":%q}`, name, name, apiPassword))
		if role != 0 {
			b.ask(201, "POST", project+"/members", fmt.Sprintf(`{"role_id":%d,"member_user":{"username":%q}}`, role, name))
		}
	}
	secret, host := mine+"/projects/secret", strings.TrimPrefix(b.url, "http://")
	app := secret + "/repositories/team%252Fapp"
	b.ask(200, "POST", app+"/tags/v1/refresh", "")
	callers := []string{"", "outsider", "guest", "maintainer", "admin"}
	for _, row := range []struct {
		method, path, body string
		want               [5]int
	}{
		{"GET", secret + "/policy", "", [5]int{401, 404, 200, 200, 200}},
		{"PUT", secret + "/policy", `{"ttl":"1h"}`, [5]int{401, 403, 403, 403, 200}},
		{"GET", app + "/tags/v1/freshness", "", [5]int{401, 404, 200, 200, 200}},
		{"GET", strings.Replace(app, "%25", "%", 1) + "/tags/v1/freshness", "", [5]int{401, 404, 200, 200, 200}},
		{"POST", app + "/tags/v1/refresh", "", [5]int{401, 403, 403, 200, 200}},
		{"POST", app + "/tags/v1/release", "", [5]int{401, 403, 403, 403, 404}},
		{"GET", app + "/artifacts/v1/policy", "", [5]int{401, 404, 200, 200, 200}},
		{"PUT", app + "/artifacts/sha256:" + strings.Repeat("ab", 32) + "/override", `{"reason":"x"}`, [5]int{401, 403, 403, 403, 200}},
		{"DELETE", app + "/artifacts/sha256:" + strings.Repeat("ab", 32) + "/override", "", [5]int{401, 403, 403, 403, 200}},
		{"POST", app + "/warm", `{"reference":"none"}`, [5]int{401, 403, 403, 202, 202}},
		{"POST", mine + "/warmups", fmt.Sprintf(`{"images":["%s/secret/team/app:v1"]}`, host), [5]int{401, 403, 403, 202, 202}},
		{"GET", mine + "/warmups/3", "", [5]int{401, 404, 404, 200, 200}},
		{"GET", mine + "/warmups/4", "", [5]int{401, 404, 404, 404, 200}}, // whose list may be of other projects
		{"GET", mine + "/flights", "", [5]int{200, 200, 200, 200, 200}},
		{"GET", mine + "/jobs", "", [5]int{401, 200, 200, 200, 200}},
		{"GET", mine + "/jobs/1", "", [5]int{401, 404, 404, 200, 200}},
		{"POST", mine + "/jobs/1/stop", "", [5]int{401, 404, 404, 200, 200}},
		{"POST", mine + "/scrub", "", [5]int{401, 403, 403, 403, 202}},
		{"POST", mine + "/eviction", "", [5]int{401, 403, 403, 403, 202}},
		{"GET", mine + "/clients/rke2?wildcard=true", "", [5]int{200, 200, 200, 200, 200}},
		{"POST", mine + "/explain", `{"image":"busybox"}`, [5]int{401, 200, 200, 200, 200}},
		{"GET", mine + "/clients-seen?q=127", "", [5]int{401, 403, 403, 403, 200}},
		{"GET", mine + "/upstreams", "", [5]int{401, 403, 403, 403, 200}},
		{"GET", mine + "/cache", "", [5]int{401, 403, 403, 403, 200}},
		// Of a project that there is not, the outsider hears the same.
		{"GET", mine + "/projects/none/policy", "", [5]int{401, 404, 404, 404, 404}},
		{"POST", mine + "/projects/none/repositories/app/tags/v1/refresh", "", [5]int{401, 403, 403, 403, 404}},
		{"POST", mine + "/projects/none/repositories/app/warm", `{"reference":"none"}`, [5]int{401, 403, 403, 403, 404}},
		{"POST", mine + "/warmups", `{"images":["none.example/team/app"]}`, [5]int{401, 403, 403, 403, 404}},
	} {
		for i, caller := range callers {
			job, answer := b.askAs(caller, row.want[i], row.method, row.path, row.body)
			if row.want[i] == 202 {
				b.finished(job) // the next one could not begin before
			}
			if strings.Contains(row.path, "/clients/") && !strings.Contains(string(answer), `\"*\":`) {
				t.Errorf("%s gets no rule for all registries: %s", caller, answer)
			}
			if strings.HasSuffix(row.path, "/jobs") && i > 0 {
				if seen, want := strings.Contains(string(answer), "secret"), i > 2; seen != want {
					t.Errorf("%s sees the warming of secret: %v, want %v", caller, seen, want)
				}
			}
		}
	}

	// The page of another site.
	r, err := http.NewRequestWithContext(t.Context(), "POST", b.url+mine+"/scrub", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", apiPassword)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("a scrub by the page of another site: %d, want 403", resp.StatusCode)
	}
}

func TestFiguresSayWhatWasDone(t *testing.T) {
	b := openBureau(t)
	for range 2 {
		if status, body := b.get("/v2/declared.example/team/app/manifests/v1"); status != 200 {
			t.Fatalf("pull: %d %s", status, body)
		}
	}
	b.ask(201, "POST", "/api/v2.0/projects", `{"project_name":"house"}`)
	b.push("house/app", "v1")
	var upstreams []struct {
		Project   string
		Endpoints []struct{ Up bool }
		Limit     any
		Requests  map[string]int64
		Received  int64 `json:"received_bytes"`
	}
	_, answer := b.ask(200, "GET", "/api/roadstead/v1/upstreams", "")
	if err := json.Unmarshal(answer, &upstreams); err != nil {
		t.Fatal(err)
	}
	if len(upstreams) != 1 || upstreams[0].Project != "declared.example" || !upstreams[0].Endpoints[0].Up || upstreams[0].Limit != nil ||
		upstreams[0].Requests["2xx"] == 0 || upstreams[0].Received == 0 {
		t.Errorf("upstreams = %s", answer)
	}
	var figures struct {
		Hits, Misses int64
		Projects     map[string]struct{ Hits int64 }
		Sent         int64 `json:"sent_bytes"`
		Stored       int64 `json:"stored_bytes"`
		Proxied      int64 `json:"proxied_bytes"`
	}
	// What was pulled is written down behind the answer.
	for end := time.Now().Add(20 * time.Second); figures.Proxied == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, answer = b.ask(200, "GET", "/api/roadstead/v1/cache", "")
		if err := json.Unmarshal(answer, &figures); err != nil {
			t.Fatal(err)
		}
	}
	manifest := int64(len(b.up.Manifest("team/app", b.up.PutImage("team/app", "v1", []byte("a layer")))))
	if figures.Proxied != manifest || figures.Stored <= figures.Proxied {
		t.Errorf("%d bytes are stored and %d of them proxied, want the %d of one manifest beside what was pushed", figures.Stored, figures.Proxied, manifest)
	}
	if figures.Hits == 0 || figures.Misses != 1 || figures.Projects["declared.example"].Hits != figures.Hits || figures.Sent == 0 {
		t.Errorf("cache = %s, want one miss, and hits", answer)
	}
}

// Whoever opens streams without end keeps nobody else from anything but streams, and each that is
// closed makes room for another.
func TestStreamsOfEventsAreBounded(t *testing.T) {
	b := openBureau(t)
	ctx, leave := context.WithCancel(t.Context())
	open := func(ctx context.Context) int {
		r, err := http.NewRequestWithContext(ctx, "GET", b.url+"/api/roadstead/v1/flights/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("admin", apiPassword)
		resp, err := b.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		context.AfterFunc(ctx, func() { resp.Body.Close() })
		return resp.StatusCode
	}
	for i := range 5 {
		if status := open(ctx); status != 200 {
			t.Fatalf("stream %d: %d", i, status)
		}
	}
	if status := open(ctx); status != 429 {
		t.Errorf("one more: %d, want 429", status)
	}
	b.ask(200, "GET", "/api/roadstead/v1/flights", "")
	leave()
	for end := time.Now().Add(20 * time.Second); open(t.Context()) != 200; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no stream can be opened after all have left")
		}
	}
}
