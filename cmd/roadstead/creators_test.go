package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"roadstead/registry/registrytest"
)

// Who may create projects is set by API at once, is so after a restart, and is nobody's to set as long
// as the file says it.
func TestWhoMayCreateProjects(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "admin")
	write(t, secret, apiPassword)
	projects := map[string]map[string]any{"declared.example": proxied(registrytest.New(t))}
	keys := map[string]any{"admin_password_file": secret}
	config := configuration(t, projects, keys)
	b := &bureau{t: t, process: serve(t, config), client: http.DefaultClient}
	const v2 = "/api/v2.0"
	creates := func(want int, project string) {
		t.Helper()
		b.askAs("ann", want, "POST", v2+"/projects", `{"project_name":"`+project+`"}`)
	}
	b.ask(201, "POST", v2+"/users", `{"username":"ann","email":"ann@example.com","password":"`+apiPassword+`"}`)
	creates(403, "one")
	b.ask(200, "PUT", v2+"/configurations", `{"project_creation_restriction":"everyone"}`)
	creates(201, "one")
	creates(403, "quay.io") // which all others use
	b.askAs("ann", 200, "GET", v2+"/projects/one/members", "")

	b.signal(syscall.SIGTERM)
	b.exit()
	b.process = serve(t, config)
	creates(201, "two")

	keys["project_creation"] = "adminonly"
	rewriteConfiguration(t, config, projects, keys)
	b.signal(syscall.SIGHUP)
	b.wait("configuration reloaded")
	creates(403, "three")
	if _, answer := b.ask(403, "PUT", v2+"/configurations", `{"project_creation_restriction":"everyone"}`); !strings.Contains(string(answer), config) {
		t.Errorf("the refusal does not name %s: %s", config, answer)
	}
	b.ask(200, "PUT", v2+"/configurations", `{"project_creation_restriction":"adminonly"}`)
}
