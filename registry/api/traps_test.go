package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// estateCleaning is an order that began, or has ended.
func estateCleaning(o estate.Order, ended bool) estate.Cleaning {
	c := estate.Cleaning{Order: o, Began: time.Now()}
	if ended {
		c.Ended = time.Now()
	}
	return c
}

// TestPaging: past the end there is an empty list, and 0 and 0 are all. A client that reads until then
// must come to an end.
func TestPaging(t *testing.T) {
	r := open(t)
	r.must(r.db.Durable(t.Context(), func(tx *catalog.Tx) error {
		for i := range 23 {
			if err := tx.PutProject(catalog.Project{Name: fmt.Sprintf("p%02d", i), Public: true}); err != nil {
				return err
			}
		}
		return nil
	}), r.inForce(t.Context()))
	for _, test := range []struct {
		query string
		want  int
		link  string
	}{
		{"", 10, `</api/v2.0/projects?page=2&page_size=10>; rel="next"`},
		{"?page=2&page_size=10", 10, `</api/v2.0/projects?page=1&page_size=10>; rel="prev", </api/v2.0/projects?page=3&page_size=10>; rel="next"`},
		{"?page=3&page_size=10", 3, `</api/v2.0/projects?page=2&page_size=10>; rel="prev"`},
		{"?page=4&page_size=10", 0, `</api/v2.0/projects?page=3&page_size=10>; rel="prev"`},
		{"?page=1000000000&page_size=100", 0, `</api/v2.0/projects?page=999999999&page_size=100>; rel="prev"`},
		{"?page=0&page_size=0", 23, ""},
		{"?page_size=100&name=p1", 10, ""},
		{"?page_size=100&q=name%3D~P2", 3, ""},
		{"?page_size=100&q=name%3D%7Bp01+p02%7D", 2, ""},
		{"?page_size=100&q=project_id%3D%5B3~5%5D", 3, ""},
		{"?page_size=1&sort=-name", 1, `</api/v2.0/projects?page=2&page_size=1&sort=-name>; rel="next"`},
	} {
		a := r.wants(200, "", "GET", v2+"/projects"+test.query, "")
		if n := len(a.list(t)); n != test.want || a.header.Get("Link") != test.link {
			t.Errorf("%s: %d projects and Link %q, want %d and %q", test.query, n, a.header.Get("Link"), test.want, test.link)
		}
		if strings.HasPrefix(test.query, "?page=") && a.header.Get("X-Total-Count") != "23" {
			t.Errorf("%s: X-Total-Count %q, want 23", test.query, a.header.Get("X-Total-Count"))
		}
	}
	for _, bad := range []string{"?page=-1", "?page_size=101", "?page=x", "?sort=password", "?q=password%3D~a", "?q=name"} {
		r.wants(400, "", "GET", v2+"/projects"+bad, "")
	}
}

// TestNames: of repositories they come escaped once or twice, and are projects' numbers or names.
func TestNames(t *testing.T) {
	r := open(t)
	_, id := r.makes("admin", v2+"/projects", `{"project_name":"production"}`)
	r.makes("admin", v2+"/projects", `{"project_name":"`+id+`"}`) // a name like a number
	repo := registry.Repo{Project: "production", Name: "a/b"}
	d := r.artifact(repo, "1.0")
	for _, path := range []string{"/production/repositories/a%252Fb", "/production/repositories/a%2Fb", "/" + id + "/repositories/a%252Fb"} {
		got := r.wants(200, "admin", "GET", v2+"/projects"+path, "").object(t)
		same(t, path, got, map[string]any{"name": "production/a/b", "artifact_count": 1.0})
		all := r.wants(200, "admin", "GET", v2+"/projects"+path+"/artifacts?with_tag=true", "").list(t)
		if len(all) != 1 || all[0].(map[string]any)["digest"] != d {
			t.Errorf("%s: artifacts = %v", path, all)
		}
		for _, reference := range []string{d, "1.0", strings.ReplaceAll(d, ":", "%3A")} {
			one := r.wants(200, "admin", "GET", v2+"/projects"+path+"/artifacts/"+reference, "").object(t)
			same(t, path, one, map[string]any{"digest": d, "size": 110.0})
		}
	}
	if got := r.wants(200, "admin", "GET", v2+"/projects/"+id, "", "X-Is-Resource-Name", "true").object(t); got["name"] != id {
		t.Errorf("by name: %v", got)
	}
	r.wants(404, "admin", "GET", v2+"/projects/production/repositories/..%252Fsecret", "")
	r.wants(404, "admin", "GET", v2+"/projects/production/repositories/a%252Fb/artifacts/latest", "")
	r.wants(201, "admin", "POST", v2+"/projects/production/repositories/a%252Fb/artifacts/1.0/tags", `{"name":"2.0"}`)
	r.wants(409, "admin", "POST", v2+"/projects/production/repositories/a%252Fb/artifacts/1.0/tags", `{"name":"1.0"}`)
	r.wants(200, "admin", "DELETE", v2+"/projects/production/repositories/a%252Fb/artifacts/1.0", "")
	r.wants(200, "admin", "DELETE", v2+"/projects/production/repositories/a%252Fb", "")
	if got, want := strings.Join(r.content.deleted, " "), "production/a/b@"+d+" production/a/b"; got != want {
		t.Errorf("deleted %q, want %q", got, want)
	}
	found := r.wants(200, "admin", "GET", v2+"/search?q=prod", "").object(t)
	if len(found["project"].([]any)) != 1 || len(found["repository"].([]any)) != 1 {
		t.Errorf("found %v", found)
	}
	r.wants(412, "admin", "DELETE", v2+"/projects/production", "") // it is not empty
}

// TestC2_MassAssignment: no field of a body sets what its call is not for (FAULTS C2).
func TestC2_MassAssignment(t *testing.T) {
	r := open(t)
	path, id := r.makes("admin", v2+"/users", `{"username":"eve","password":"Correct-Horse-1","email":"e@example.com","sysadmin_flag":true,"admin_role_in_auth":true,"user_id":1,"role_id":1,"Admin":true}`)
	if u := r.wants(200, "eve", "GET", path, "").object(t); u["sysadmin_flag"] != false || u["username"] != "eve" {
		t.Errorf("a new user = %v, want no administrator", u)
	}
	r.wants(200, "eve", "PUT", path, `{"email":"e2@example.com","sysadmin_flag":true,"username":"admin","password":"Another-Horse-1"}`)
	if u := r.wants(200, "eve", "GET", v2+"/users/current", "").object(t); u["sysadmin_flag"] != false || u["username"] != "eve" || u["email"] != "e2@example.com" {
		t.Errorf("a changed user = %v", u)
	}
	r.wants(403, "eve", "PUT", path+"/sysadmin", `{"sysadmin_flag":true}`)

	project, number := r.makes("admin", v2+"/projects", `{"project_name":"production","project_id":77,"owner_name":"eve","Configured":true,"Policy":{"deny":["**"]}}`)
	r.makes("admin", project+"/members", `{"role_id":1,"member_user":{"user_id":`+id+`}}`)
	r.wants(200, "eve", "PUT", project, `{"storage_limit":999,"metadata":{"x":"y"},"Quota":999,"project_name":"other"}`)
	r.wants(400, "eve", "PUT", project, `{"metadata":{"roadstead.retention":"{}"}}`)
	r.wants(403, "eve", "PUT", v2+"/quotas/"+number, `{"hard":{"storage":999}}`)
	rows, err := r.db.AllProjects(t.Context())
	r.must(err)
	if p := rows[0]; p.Quota != 0 || p.Name != "production" || p.Configured || len(p.Policy.Deny) != 0 {
		t.Errorf("the project is %+v", p)
	}
	// A robot of a project cannot be made one of another, nor with more than its maker has.
	r.wants(403, "eve", "POST", v2+"/robots", `{"name":"x","level":"system","duration":-1,"permissions":[{"kind":"project","namespace":"*","access":[{"resource":"repository","action":"pull"}]}]}`)
	r.wants(400, "eve", "POST", v2+"/robots", `{"name":"x","level":"project","duration":-1,"permissions":[{"kind":"project","namespace":"production","access":[{"resource":"repository","action":"pull"}]},{"kind":"project","namespace":"other","access":[{"resource":"repository","action":"pull"}]}]}`)
}

// TestWire: nothing below /api/ is a page, is kept by a cache, or asks a page's browser for a password.
func TestWire(t *testing.T) {
	r := open(t)
	for _, path := range []string{"/api", "/api/", "/api/v2.0", "/api/v2.0/nothing", v2 + "/projects/1/nothing", v2 + "/ping", "/api/version"} {
		a := r.ask("", "GET", path, "")
		if strings.Contains(a.header.Get("Content-Type"), "html") || a.header.Get("Cache-Control") != "no-store" ||
			a.header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("GET %s: %v", path, a.header)
		}
	}
	if a := r.wants(404, "", "GET", "/api/v2.0/nothing", ""); a.body != `{"errors":[{"code":"NOT_FOUND","message":"there is nothing at this path"}]}`+"\n" {
		t.Errorf("404 = %s", a.body)
	}
	if a := r.wants(405, "", "DELETE", v2+"/projects", ""); a.header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("Allow = %q", a.header.Get("Allow"))
	}
	if a := r.wants(200, "", "GET", v2+"/ping", ""); a.body != "Pong" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("ping = %q", a.body)
	}
	for _, test := range []struct {
		headers   []string
		challenge bool
	}{
		{nil, true}, {[]string{"Sec-Fetch-Mode", "navigate"}, true}, {[]string{"Sec-Fetch-Mode", "cors"}, false},
		{[]string{"Cookie", "roadstead-session=old"}, false}, {[]string{"X-Requested-With", "XMLHttpRequest"}, false},
	} {
		a := r.wants(401, "", "GET", v2+"/users/current", "", test.headers...)
		if got := a.header.Get("WWW-Authenticate") != ""; got != test.challenge {
			t.Errorf("%v: a challenge: %v, want %v", test.headers, got, test.challenge)
		}
	}
	r.wants(401, "admin2", "GET", v2+"/projects", "") // wrong credentials are nobody's
	r.wants(400, "admin", "POST", v2+"/projects", "")
	r.wants(400, "admin", "POST", v2+"/projects", `{"project_name":1}`)
	r.wants(400, "admin", "POST", v2+"/projects", `{"project_name":"a"} {"project_name":"b"}`)
	r.wants(413, "admin", "POST", v2+"/projects", `{"project_name":"`+strings.Repeat("a", maxBody)+`"}`)
	// Health tells upstreams' names to administrators only.
	if a := r.wants(200, "", "GET", v2+"/health", ""); strings.Contains(a.body, "secret.example") {
		t.Errorf("health = %s", a.body)
	}
	// What is cached is served while an upstream is away.
	if a := r.wants(200, "admin", "GET", v2+"/health", ""); !strings.Contains(a.body, `"status":"unhealthy","error":"it is down"`) || a.object(t)["status"] != "healthy" {
		t.Errorf("health = %s", a.body)
	}
	if a := r.wants(200, "admin", "GET", v2+"/systeminfo", "").object(t); a["banner_message"] != "" {
		t.Errorf("banner_message = %v, want a string", a["banner_message"])
	}
	r.wants(404, "admin", "GET", v2+"/projects/1/scanner", "")
}

// TestC5_Guesses: whoever tries passwords is told to wait, and how long (FAULTS C5).
func TestC5_Guesses(t *testing.T) {
	r := open(t)
	for i := range 20 {
		r.secrets["admin"] = fmt.Sprintf("wrong-%d", i)
		a := r.ask("admin", "GET", v2+"/projects", "")
		if a.status == http.StatusTooManyRequests {
			if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"TOO_MANY_REQUESTS"`) {
				t.Errorf("429 with Retry-After %q: %s", a.header.Get("Retry-After"), a.body)
			}
			return
		}
	}
	t.Error("20 wrong passwords in a row are all looked at")
}

// TestC7_OtherSites: what changes something must not come from another site's page (FAULTS C7).
func TestC7_OtherSites(t *testing.T) {
	r := open(t)
	id, err := r.access.SignIn(t.Context(), "admin", password, "127.0.0.1:1")
	r.must(err)
	cookie := "roadstead-session=" + id
	for _, test := range []struct {
		headers []string
		want    int
	}{
		{[]string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{[]string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		{[]string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{[]string{"Sec-Fetch-Site", "same-origin"}, http.StatusCreated},
	} {
		r.wants(test.want, "", "POST", v2+"/projects", `{"project_name":"made"}`, append(test.headers, "Cookie", cookie)...)
		if test.want == http.StatusForbidden {
			r.wants(test.want, "admin", "POST", v2+"/projects", `{"project_name":"made"}`, test.headers...)
		}
	}
	r.wants(200, "", "GET", v2+"/users/current", "", "Cookie", cookie, "Sec-Fetch-Site", "cross-site")
}

// TestC11_Canaries: what is secret comes out nowhere but where it is made (FAULTS C11).
func TestC11_Canaries(t *testing.T) {
	r := open(t)
	path, _ := r.makes("admin", v2+"/registries", fmt.Sprintf(`{"name":"r","type":"docker-registry","insecure":true,"url":%q,"access_key":"me","access_secret":"CANARY-1"}`, r.upstream.URL()))
	r.wants(200, "admin", "PUT", path, `{"access_secret":"CANARY-2"}`)
	r.wants(400, "admin", "PUT", path, `{"url":"http://127.0.0.1:1/CANARY-3?x=CANARY-3"}`)
	r.wants(400, "admin", "POST", v2+"/registries/ping", `{"url":"http://127.0.0.1:1","access_key":"me","insecure":true,"access_secret":"CANARY-4"}`)
	user, _ := r.makes("admin", v2+"/users", `{"username":"u","password":"Canary-CANARY-5"}`)
	r.wants(200, "admin", "PUT", user+"/password", `{"new_password":"Canary-CANARY-6"}`)
	r.wants(403, "admin", "PUT", v2+"/users/1/password", `{"old_password":"CANARY-7","new_password":"Canary-CANARY-7"}`)
	r.makes("admin", v2+"/projects", `{"project_name":"p"}`)
	robot := r.wants(201, "admin", "POST", v2+"/robots", `{"name":"r","level":"project","duration":30,"secret":"Canary-CANARY-8","permissions":[{"kind":"project","namespace":"p","access":[{"resource":"repository","action":"pull"}]}]}`)
	if robot.object(t)["secret"] != "Canary-CANARY-8" {
		t.Errorf("a robot with a chosen secret = %s", robot.body)
	}
	var all strings.Builder
	for _, row := range routes {
		if row.method == "GET" {
			path := strings.NewReplacer("{project}", "p", "{id}", "1", "{repository}", "x", "{reference}", "y", "{name}", "public").Replace(row.pattern)
			all.WriteString(r.ask("admin", "GET", path, "").body)
		}
	}
	all.WriteString(r.log.String())
	entries, err := r.access.Audit(t.Context(), time.Time{}, -1)
	r.must(err)
	fmt.Fprintf(&all, "%+v", entries)
	if strings.Contains(all.String(), "CANARY") {
		t.Error("a secret is in an answer, the log or the audit log")
	}
}
