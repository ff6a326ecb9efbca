package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry/registrytest"
	"roadstead/rewrite/clients"
)

// What the command writes beside a server, of the configuration and of what was made here, is what the
// server says itself to an administrator.
func TestRegistriesAreWhatTheServerSays(t *testing.T) {
	up := registrytest.New(t)
	secret := filepath.Join(t.TempDir(), "admin")
	write(t, secret, "Pass-of-admin-1f8c\n")
	config := configuration(t, map[string]map[string]any{
		"docker.io": {"endpoints": []string{up.URL()}, "allow_private": true, "hub": true},
		"other":     {"endpoints": []string{up.URL()}, "allow_private": true, "names": []string{"quay.io", "harbor.lan:5000"}, "public": false},
		"release":   {"hosted": true},
	}, map[string]any{"url": "https://mirror.example.com", "hosts": map[string]any{"mirror.example.com": "docker.io"}, "default_project": "other", "admin_password_file": secret})
	before := worked(t, "registries", "--config", config) // there is no catalog yet
	p := serve(t, config)
	if now := worked(t, "registries", "--config", config); now != before {
		t.Errorf("with a catalog that has nothing else it writes\n%s\nand without\n%s", now, before)
	}
	worked(t, "project", "create", "production", "--config", config)
	_, id := p.administer(201, "POST", "/registries", fmt.Sprintf(`{"name":"there","type":"docker-registry","url":%q,"allow_private":true}`, up.URL()))
	p.administer(201, "POST", "/projects", `{"project_name":"made","registry_id":`+id+`,"public":true}`)
	for _, c := range clients.All {
		for _, wildcard := range []string{"false", "true"}[:1+map[bool]int{true: 1}[c.Wildcard]] {
			var answer struct {
				Files []struct {
					Path, Text string
					Notes      []string
				}
			}
			r, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/api/roadstead/v1/clients/"+c.Name+"?wildcard="+wildcard, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("admin", "Pass-of-admin-1f8c")
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			err = json.NewDecoder(res.Body).Decode(&answer)
			if res.Body.Close(); err != nil {
				t.Fatal(err)
			}
			want, beside := "", ""
			for i, f := range answer.Files {
				if i > 0 {
					want += "\n"
				}
				if f.Path != "" {
					want += "# " + f.Path + "\n"
				}
				for _, n := range f.Notes {
					want += "# " + n + "\n"
				}
				if i == 0 && strings.HasSuffix(f.Path, ".json") {
					beside = f.Text // alone on stdout
					continue
				}
				want += f.Text
			}
			got, said, _ := command("registries", "--for", c.Name, "--wildcard="+wildcard, "--config", config)
			if beside != "" {
				if got != beside || !json.Valid([]byte(got)) {
					t.Errorf("%s: the command writes\n%s\nand the server says\n%s", c.Name, got, beside)
				}
				got = said
			}
			if got != want || want == "" {
				t.Errorf("%s: the command writes\n%s\nand the server says\n%s", c.Name, got, want)
			}
		}
	}
	if got := worked(t, "registries", "--config", config); !strings.Contains(got, strings.TrimPrefix(up.URL(), "http://")+`":`) || !strings.Contains(got, `"harbor.lan:5000":`) || !strings.Contains(got, "username: \"robot$cluster\"") {
		t.Errorf("of the projects here it writes\n%s", got)
	}
}

func TestRegistriesAreWrittenBelowADirectory(t *testing.T) {
	config := configuration(t, map[string]map[string]any{"quay.io": {"endpoints": []string{"https://quay.io"}}}, nil)
	t.Chdir(t.TempDir())
	write(t, "secret", "s3cret\n")
	args := []string{"registries", "--config", config, "--output", "node", "--url", "https://mirror.example.com"}
	worked(t, append(args, "--username", "robot$node", "--password-file", "secret", "--ca", "/etc/ca.pem")...)
	path := filepath.Join("node", "etc", "rancher", "rke2", "registries.yaml")
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `password: "s3cret"`) || !strings.Contains(string(text), `ca_file: "/etc/ca.pem"`) {
		t.Errorf("it has written %s, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file with a secret is %v, %v", info.Mode(), err)
	}
	refused(t, "--force", args...)
	worked(t, append(args, "--force")...)
	worked(t, args...) // which changes nothing
	if text, err = os.ReadFile(path); err != nil || strings.Contains(string(text), "s3cret") {
		t.Errorf("it has left %s, %v", text, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("beside the file there are %v", left)
	}
	if typed := worked(t, append(args, "--for", "docker")...); !strings.Contains(typed, "docker pull mirror.example.com/quay.io/") {
		t.Errorf("what is to be typed is %q", typed)
	}
}

func TestRegistriesSayWhatIsMissing(t *testing.T) {
	config := configuration(t, map[string]map[string]any{"quay.io": {"endpoints": []string{"https://quay.io"}}}, nil)
	for want, args := range map[string][]string{
		"url: https://mirror.example.com":   nil,
		"there are rke2":                    {"--for", "abacus"},
		"write scheme and host":             {"--url", "mirror.example.com"},
		"such as https":                     {"--url", "https://u:p@mirror.example.com"},
		"--username too":                    {"--url", "https://h", "--password-file", "x"},
		"docker has no rule for all":        {"--url", "https://h", "--for", "docker", "--wildcard"},
		"no project here stands for docker": {"--url", "https://h", "--for", "system-default-registry"},
		"--ca is for a server":              {"--url", "http://h", "--ca", "x"},
	} {
		refused(t, want, append([]string{"registries", "--config", config}, args...)...)
	}
}

// A host that has a project is asked without one, as if that was the default project; and one that has
// another project is not.
func TestRegistriesKnowWhatHostsMean(t *testing.T) {
	config := configuration(t, map[string]map[string]any{
		"docker.io": {"endpoints": []string{"http://127.0.0.1:1"}, "allow_private": true, "hub": true},
		"quay.io":   {"endpoints": []string{"http://127.0.0.1:1"}, "allow_private": true},
	}, map[string]any{"hosts": map[string]any{"hub.example.com": "docker.io", "quay.example.com": "quay.io"}, "default_project": "docker.io"})
	other := configuration(t, map[string]map[string]any{
		"docker.io": {"endpoints": []string{"http://127.0.0.1:1"}, "allow_private": true, "hub": true},
	}, map[string]any{"hosts": map[string]any{"hub.example.com": "docker.io"}})
	for _, tt := range []struct{ config, url, want string }{
		{config, "https://mirror.example.com", "mirror.example.com"},
		{config, "https://quay.example.com", "quay.example.com/docker.io"},
		{other, "https://mirror.example.com", "mirror.example.com/docker.io"},
		{other, "https://hub.example.com", "hub.example.com"},
		{other, "https://hub.example.com:5000", "hub.example.com:5000"},
	} {
		out := worked(t, "registries", "--for", "system-default-registry", "--url", tt.url, "--config", tt.config)
		if want := fmt.Sprintf("system-default-registry: %q\n", tt.want); !strings.Contains(out, want) {
			t.Errorf("at %s:\n%s\nwant %s", tt.url, out, want)
		}
		mirror := "https://" + tt.want
		if out := worked(t, "registries", "--for", "docker", "--url", tt.url, "--config", tt.config); !strings.Contains(out, fmt.Sprintf("[ %q ]", mirror)) {
			t.Errorf("of Docker at %s:\n%s\nwant %s", tt.url, out, mirror)
		}
	}
}
