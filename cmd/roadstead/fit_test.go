package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"roadstead/registry/registrytest"
	"roadstead/storage/catalog"
)

// administer makes a call of the REST API as the administrator, which must be answered with a status,
// and returns the body and the number of what was made.
func (p *process) administer(status int, method, path, body string) (text, id string) {
	p.t.Helper()
	req, err := http.NewRequest(method, p.url+"/api/v2.0"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.SetBasicAuth("admin", "Pass-of-admin-1f8c")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		p.t.Fatalf("%s %s %s: %d %s, %v, want %d", method, path, body, res.StatusCode, b, err, status)
	}
	at := res.Header.Get("Location")
	return string(b), at[strings.LastIndexByte(at, '/')+1:]
}

// What cannot be served beside the rest is refused before anything is written; what is written
// nevertheless is left out, and keeps neither the server from starting nor others from changing.
func TestWhatCannotBeServed(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("a layer"))
	hub := proxied(up)
	hub["names"] = []string{"docker.io"}
	secret := filepath.Join(t.TempDir(), "password")
	write(t, secret, "Pass-of-admin-1f8c\n")
	config := configuration(t, map[string]map[string]any{"hub": hub}, map[string]any{"admin_password_file": secret})
	p := serve(t, config)
	reg := func(name, more string) string {
		return fmt.Sprintf(`{"name":%q,"url":%q,"allow_private":true%s}`, name, up.URL(), more)
	}
	_, mirror := p.administer(201, "POST", "/registries", reg("mirror", ""))
	for _, name := range []string{"docker.io", "index.docker.io", "registry-1.docker.io"} {
		body := fmt.Sprintf(`{"project_name":%q,"registry_id":%s,"public":true}`, name, mirror)
		if text, _ := p.administer(409, "POST", "/projects", body); !strings.Contains(text, "hub") {
			t.Errorf("a project %s: %s, want the one that it would be in the way of", name, text)
		}
		p.administer(404, "GET", "/projects/"+name, "")
	}
	p.administer(201, "POST", "/projects", `{"project_name":"made","registry_id":`+mirror+`,"public":true}`)
	for _, bad := range []string{`"url":"https://:5000"`, `"ca_certificate":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"`} {
		p.administer(400, "PUT", "/registries/"+mirror, "{"+bad+"}")
	}
	if status, body := p.get("/v2/made/app/manifests/v1"); status != 200 {
		t.Errorf("a project after a refused change of its registry: %d %s", status, body)
	}
	p.signal(syscall.SIGTERM)
	p.exit()

	db, err := catalog.Open(t.Context(), "sqlite:"+filepath.Join(filepath.Dir(config), "data", catalogFile))
	if err != nil {
		t.Fatal(err)
	}
	err = db.Durable(t.Context(), func(tx *catalog.Tx) error {
		bad, err := tx.AddRegistry(catalog.Registry{Name: "bad", Kind: "docker-registry", URL: "https://:5000"})
		if err != nil {
			return err
		}
		for _, name := range []string{"index.docker.io", "broken"} {
			if err := tx.PutProject(catalog.Project{Name: name, Registry: bad, Public: true}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	p = serve(t, config)
	if line := p.wait("a project is left out"); line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["err"]), "change its registry") {
		t.Errorf("the log says %v", line)
	}
	for path, want := range map[string]int{"/v2/made/app/manifests/v1": 200, "/v2/app/manifests/v1?ns=docker.io": 200, "/v2/broken/app/manifests/v1": 401, "/v2/index.docker.io/app/manifests/v1": 401} {
		if status, body := p.get(path); status != want {
			t.Errorf("GET %s: %d %s, want %d", path, status, body, want)
		}
	}
	// Others change, and it can be mended here.
	_, bad := p.administer(201, "POST", "/registries", reg("other", ""))
	p.administer(200, "PUT", "/projects/made", `{"metadata":{"public":"false"}}`)
	p.administer(200, "DELETE", "/registries/"+bad, "")
	p.administer(200, "DELETE", "/projects/index.docker.io", "")
	listed, _ := p.administer(200, "GET", "/registries?name=bad", "")
	if !strings.Contains(listed, `"unhealthy"`) {
		t.Errorf("the registry of a project that is left out: %s, want it unhealthy", listed)
	}
	_, id, _ := strings.Cut(listed, `"id":`)
	id, _, _ = strings.Cut(id, ",")
	p.administer(200, "PUT", "/registries/"+id, fmt.Sprintf(`{"url":%q}`, up.URL()))
	if status, body := p.get("/v2/broken/app/manifests/v1"); status == 404 {
		t.Errorf("a project whose registry is mended: %d %s", status, body)
	}
	p.signal(syscall.SIGTERM)
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// What was cached of one registry is not served as what another one has under the same tags.
func TestPointedElsewhere(t *testing.T) {
	first, second := registrytest.New(t), registrytest.New(t)
	first.PutImage("app", "v1", []byte("first"))
	want := second.PutImage("app", "v1", []byte("second"))
	secret := filepath.Join(t.TempDir(), "password")
	write(t, secret, "Pass-of-admin-1f8c\n")
	p := serve(t, configuration(t, nil, map[string]any{"admin_password_file": secret}))
	var ids []string
	for i, up := range []*registrytest.Registry{first, second} {
		_, id := p.administer(201, "POST", "/registries", fmt.Sprintf(`{"name":"up%d","url":%q,"allow_private":true}`, i, up.URL()))
		ids = append(ids, id)
	}
	p.administer(201, "POST", "/projects", `{"project_name":"made","registry_id":`+ids[0]+`,"public":true}`)
	if status, body := p.get("/v2/made/app/manifests/v1"); status != 200 || body == string(second.Manifest("app", want)) {
		t.Fatalf("of the first registry: %d %s", status, body)
	}
	p.administer(200, "PUT", "/projects/made", `{"registry_id":`+ids[1]+`}`)
	// Its tag was fresh for a minute.
	if status, body := p.get("/v2/made/app/manifests/v1"); status != 200 || body != string(second.Manifest("app", want)) {
		t.Errorf("of the second registry: %d %s", status, body)
	}
}
