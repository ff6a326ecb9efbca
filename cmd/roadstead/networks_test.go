package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry/registrytest"
)

// A registry in a network that the configuration allows is made by clients that have no word for
// allow_private, and pulled through; one beside that network is not.
func TestPrivateNetworksAreAllowedForAll(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("team/app", "v1", []byte("a layer"))
	secret := filepath.Join(t.TempDir(), "admin")
	write(t, secret, apiPassword)
	for network, status := range map[string]int{"127.0.0.0/8": 201, "10.0.0.0/8": 400} {
		p := serve(t, configuration(t, nil, map[string]any{"admin_password_file": secret, "allow_private_networks": []string{network}}))
		send := func(path, body string) (int, string) {
			r, err := http.NewRequestWithContext(t.Context(), "POST", p.url+"/api/v2.0"+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("admin", apiPassword)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			location := res.Header.Get("Location")
			return res.StatusCode, location[strings.LastIndexByte(location, '/')+1:]
		}
		got, id := send("/registries", fmt.Sprintf(`{"name":"there","type":"docker-registry","url":%q}`, up.URL()))
		if got != status {
			t.Errorf("a registry at %s with %s allowed: %d, want %d", up.URL(), network, got, status)
		}
		if got != 201 {
			continue
		}
		if got, _ := send("/projects", `{"project_name":"mirror","public":true,"registry_id":`+id+`}`); got != 201 {
			t.Errorf("its project: %d", got)
		}
		if got, body := p.get("/v2/mirror/team/app/manifests/v1"); got != 200 {
			t.Errorf("a pull through it: %d %s", got, body)
		}
	}
}
