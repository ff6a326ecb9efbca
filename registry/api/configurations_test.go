package api

import (
	"strings"
	"testing"

	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// Who may create projects is set as Terraform does it, and read back as it was set.
func TestWhoMayCreateProjectsIsSet(t *testing.T) {
	r := open(t)
	r.must(r.access.AddUser(t.Context(), "test", access.NewUser{Name: "ann", Password: password}))
	value := func(name string) (any, any) {
		t.Helper()
		setting := r.wants(200, "admin", "GET", root+"/configurations", "").object(t)[name].(map[string]any)
		return setting["value"], setting["editable"]
	}
	creates := func(status int, body string) {
		t.Helper()
		r.wants(status, "ann", "POST", root+"/projects", body)
	}
	creates(403, `{"project_name":"one"}`)
	r.wants(200, "admin", "PUT", root+"/configurations", `{"project_creation_restriction":"everyone","read_only":false,"robot_token_duration":30,
		"robot_name_prefix":"robot$","storage_per_project":"-1","scanner_skip_update_pulltime":false,"auth_mode":"db_auth","banner_message":"","ldap_url":"","session_timeout":0,"oidc_name":null}`)
	if got, editable := value(creation); got != "everyone" || editable != true {
		t.Errorf("it is %v, editable %v", got, editable)
	}
	if got := r.wants(200, "ann", "GET", root+"/systeminfo", "").object(t)[creation]; got != "everyone" {
		t.Errorf("the server says %v", got)
	}
	creates(201, `{"project_name":"one"}`)
	r.wants(200, "ann", "PUT", root+"/projects/one", `{"metadata":{"public":"true"}}`) // it is hers

	// What is somebody else's is not hers to use: the password of a registry, and a built-in proxy.
	location, _ := r.makes("admin", root+"/registries", `{"name":"hub","type":"docker-registry","url":"`+r.upstream.URL()+`","insecure":true}`)
	proxy := `{"project_name":"mirror","registry_id":` + location[strings.LastIndexByte(location, '/')+1:] + `}`
	creates(403, proxy)
	r.wants(201, "admin", "POST", root+"/projects", proxy)

	for _, body := range []string{
		`{"project_creation_restriction":"nobody"}`, `{"project_creation_restriction":""}`, `{"project_creation_restriction":7}`, `[]`,
		`{"project_creation_restriction":"adminonly","auth_mode":"ldap_auth"}`, `{"project_creation_restriction":"adminonly","robot_token_duration":31}`,
		`{"project_creation_restriction":"adminonly","ldap_search_password":"canary"}`, `{"project_creation_restriction":"adminonly","read_only":true}`,
	} {
		if a := r.wants(400, "admin", "PUT", root+"/configurations", body); strings.Contains(string(a.body), "canary") {
			t.Errorf("the answer to %s repeats a secret: %s", body, a.body)
		}
	}
	r.wants(200, "admin", "PUT", root+"/configurations", `{}`)
	if got, _ := value(creation); got != "everyone" {
		t.Errorf("after what was refused it is %v", got)
	}
	r.wants(403, "ann", "PUT", root+"/configurations", `{"project_creation_restriction":"everyone"}`)
	r.wants(200, "admin", "PUT", root+"/configurations", `{"project_creation_restriction":"adminonly"}`)
	creates(403, `{"project_name":"two"}`)

	r.must(r.db.Durable(t.Context(), func(tx *catalog.Tx) error { return estate.Creators{Configured: true}.Put(tx) }))
	a := r.wants(403, "admin", "PUT", root+"/configurations", `{"project_creation_restriction":"everyone"}`)
	if !strings.Contains(string(a.body), "roadstead.yaml") {
		t.Errorf("the refusal does not name the file: %s", a.body)
	}
	r.wants(200, "admin", "PUT", root+"/configurations", `{"project_creation_restriction":"adminonly"}`)
	if got, editable := value(creation); got != "adminonly" || editable != false {
		t.Errorf("declared it is %v, editable %v", got, editable)
	}
}
