package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A call is a request of the distribution API to a repository, with the right that it takes and
// what becomes of it when whoever sends it has that right. Nothing that it does is in the way of
// another one.
type call struct {
	method string
	path   string // %s is the repository
	takes  string // pull, push or delete
	done   int
	code   string // of the error, when done is one
	body   *manifest
}

func (c call) name() string { return c.method + " " + c.path }

// calls are all there are: each method at each path that the specification has.
func calls(img *image) []call {
	top := img.top()
	layer := string(img.blobOrder[0])
	absent := string(digest.FromString("nobody has this"))
	upload := "/v2/%s/blobs/uploads/1b7c6f9a-0000-4000-8000-000000000000"
	return []call{
		{"GET", "/v2/%s/manifests/1", "pull", 200, "", nil},
		{"HEAD", "/v2/%s/manifests/1", "pull", 200, "", nil},
		{"GET", "/v2/%s/manifests/" + string(top.digest), "pull", 200, "", nil},
		{"HEAD", "/v2/%s/manifests/" + string(top.digest), "pull", 200, "", nil},
		{"GET", "/v2/%s/manifests/absent", "pull", 404, "MANIFEST_UNKNOWN", nil},
		{"GET", "/v2/%s/blobs/" + layer, "pull", 200, "", nil},
		{"HEAD", "/v2/%s/blobs/" + layer, "pull", 200, "", nil},
		{"GET", "/v2/%s/blobs/" + absent, "pull", 404, "BLOB_UNKNOWN", nil},
		{"GET", "/v2/%s/tags/list", "pull", 200, "", nil},
		{"GET", "/v2/%s/tags/list?n=1&last=0", "pull", 200, "", nil},
		{"GET", "/v2/%s/referrers/" + string(top.digest), "pull", 200, "", nil},
		{"PUT", "/v2/%s/manifests/pushed", "push", 201, "", &top},
		{"PUT", "/v2/%s/manifests/" + string(top.digest), "push", 201, "", &top},
		{"POST", "/v2/%s/blobs/uploads/", "push", 202, "", nil},
		{"POST", "/v2/%s/blobs/uploads/?mount=" + layer + "&from=%s", "push", 201, "", nil},
		{"POST", "/v2/%s/blobs/uploads/?mount=" + absent, "push", 202, "", nil},
		{"GET", upload, "push", 404, "BLOB_UPLOAD_UNKNOWN", nil},
		{"PATCH", upload, "push", 404, "BLOB_UPLOAD_UNKNOWN", nil},
		{"PUT", upload + "?digest=" + absent, "push", 404, "BLOB_UPLOAD_UNKNOWN", nil},
		{"DELETE", upload, "push", 404, "BLOB_UPLOAD_UNKNOWN", nil},
		{"DELETE", "/v2/%s/manifests/absent", "delete", 404, "MANIFEST_UNKNOWN", nil},
		{"DELETE", "/v2/%s/manifests/" + absent, "delete", 404, "MANIFEST_UNKNOWN", nil},
		{"DELETE", "/v2/%s/blobs/" + absent, "delete", 404, "BLOB_UNKNOWN", nil},
	}
}

// to sends the call to a repository.
func (c call) to(n *node, repo string, headers ...string) (answer, error) {
	path := strings.ReplaceAll(c.path, "%s", repo)
	if c.body != nil {
		return n.send(c.method, path, c.body.mediaType, bytes.NewReader(c.body.bytes), int64(len(c.body.bytes)), headers...)
	}
	return n.send(c.method, path, "", http.NoBody, 0, headers...)
}

// harborRights says what a role may, as Harbor documents it.
var harborRights = map[string][]string{
	"":             nil,
	"limitedGuest": {"pull"},
	"guest":        {"pull"},
	"developer":    {"pull", "push"},
	"maintainer":   {"pull", "push", "delete"},
	"projectAdmin": {"pull", "push", "delete"},
}

// Every call, by everybody, to a project where he has a role, to one where he has none, to one
// that everybody may pull from, and to one that is not there (FAULTS C3).
func TestC3_EveryRouteAskedByEveryRole(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{plain: true, projects: map[string]any{"secret": map[string]any{"hosted": true}}}, append(roles, "foreign")...)
	img := recipe{seed: 320000}.make(t, "1")
	const repo = "/team/web"
	for _, project := range []string{"production", "secret", "open"} {
		if err := w.as(w.root).push(project+repo, img); err != nil {
			t.Fatal(err)
		}
	}
	pullRobot := w.addRobot("production", "reader", "pull")
	pushRobot := w.addRobot("production", "writer", "pull", "push")
	allRobot := w.addRobot("production", "cleaner", "pull", "push", "delete")
	last := w.addUser("last")
	w.knows(last)

	// Who may do what, said here once more and not taken from the code.
	type somebody struct {
		name string
		account
		may map[string][]string // by project
	}
	everything := []string{"pull", "push", "delete"}
	all := []somebody{
		{"nobody", account{}, map[string][]string{"open": {"pull"}}},
		{"a user without a role", last, map[string][]string{"open": {"pull"}}},
		{"another project's admin", w.foreign, map[string][]string{"open": {"pull"}}},
		{"the administrator", w.root, map[string][]string{"production": everything, "secret": everything, "open": everything}},
		{"a robot that pulls", pullRobot, map[string][]string{"production": {"pull"}, "open": {"pull"}}},
		{"a robot that pushes", pushRobot, map[string][]string{"production": {"pull", "push"}, "open": {"pull"}}},
		{"a robot that deletes", allRobot, map[string][]string{"production": everything, "open": {"pull"}}},
		{"a robot of the system", w.robot, map[string][]string{"production": everything, "secret": everything, "open": everything}},
	}
	for role, a := range w.members {
		may := map[string][]string{"production": harborRights[role], "open": {"pull"}}
		if role == "maintainer" {
			may["open"] = everything
		}
		all = append(all, somebody{"a " + role, a, may})
	}
	checked := 0
	for _, who := range all {
		known := who.account != account{}
		for _, project := range []string{"production", "secret", "open", "absent"} {
			// Once by password, once by a token that was asked for everything.
			askers := map[string]*node{"by password": w.as(who.account)}
			var bearer []string
			if known {
				token := w.as(who.account).tokenFor(t, "repository:"+project+repo+":pull,push,delete")
				askers["by token"], bearer = w.node, []string{"Authorization: Bearer " + token}
			}
			for how, n := range askers {
				headers := bearer
				if how == "by password" {
					headers = nil
				}
				for _, c := range calls(img) {
					a, err := c.to(n, project+repo, headers...)
					if err != nil {
						t.Fatal(err)
					}
					checked++
					may := slices.Contains(who.may[project], c.takes)
					blind := project == "absent" && len(who.may["secret"]) > 0 // he could see it, and there is nothing
					if fault := judge(c, a, may, known, blind, who.may[project]); fault != "" {
						t.Errorf("%s %s, %s of %s: %s; it is %v, %.100q", who.name, how, c.name(), project, fault, a.status, a.body)
					}
				}
			}
		}
	}
	if checked < 2000 {
		t.Errorf("only %d requests were sent", checked)
	}
	t.Logf("%d requests", checked)
}

// judge says what is wrong with the answer to a call, "" if nothing.
func judge(c call, a answer, may, known, blind bool, rights []string) string {
	var e struct {
		Errors []struct{ Code string }
	}
	code := ""
	if json.Unmarshal(a.body, &e) == nil && len(e.Errors) > 0 {
		code = e.Errors[0].Code
	}
	reads := c.takes == "pull"
	switch {
	case may:
		if a.status != c.done || c.method != http.MethodHead && code != c.code {
			return fmt.Sprintf("it is allowed: want %d %s", c.done, c.code)
		}
	case !known:
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" || c.method != http.MethodHead && code != "UNAUTHORIZED" {
			return "want 401 with a challenge"
		}
	case blind: // no token can be for what is not there
		if a.status != http.StatusNotFound && a.status != http.StatusUnauthorized {
			return "want 404, or 401 for a token"
		}
	case slices.Contains(rights, "pull"): // he sees the project, and that he may not
		if a.status != http.StatusForbidden || code != "DENIED" {
			return "want 403 DENIED"
		}
	case reads: // it looks absent
		if a.status != http.StatusNotFound || c.method != http.MethodHead && code != "NAME_UNKNOWN" {
			return "want 404 NAME_UNKNOWN"
		}
	default:
		if a.status != http.StatusForbidden || code != "DENIED" {
			return "want 403 DENIED"
		}
	}
	return ""
}
