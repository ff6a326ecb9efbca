package console

import (
	"html"
	"net/http"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/rewrite/clients"
)

// What is to be written into the files of clients leads here, with each registry mirrored once.
func TestSnippets(t *testing.T) {
	v := open(t)
	v.image(registry.Repo{Project: "hub", Name: "a"}, "1", plainConfig, `{}`)
	b := v.as("gina")
	for client, wants := range map[string][]string{
		"rke2":       {`"docker.io":`, `endpoint: [ "http://mirror.example.com" ]`, `"(^.+$)": "hub/$1"`, `"quay.io":`},
		"containerd": {"/etc/containerd/certs.d/docker.io/hosts.toml", `server = "https://registry-1.docker.io"`, `[host."http://mirror.example.com/v2/hub"]`, "override_path = true"},
		"docker":     {`"registry-mirrors": [ "http://mirror.example.com" ]`, `"insecure-registries"`, "docker pull mirror.example.com/hub/library/busybox"},
		"podman":     {`prefix = "docker.io"`, `location = "mirror.example.com/hub"`, "insecure = true"},
		"crio":       {`prefix = "docker.io"`, "ImageDigestMirrorSet"},
		"talos":      {`endpoints: [ "http://mirror.example.com/v2/hub" ]`, "overridePath: true"},
		"kaniko":     {"--registry-map='index.docker.io=mirror.example.com/hub", "--insecure-registry=mirror.example.com"},
		"buildkit":   {`[registry."docker.io"]`, `mirrors = [ "mirror.example.com/hub" ]`, "http = true"},
	} {
		p := b.get("/c/connect?for=" + client)
		p.body = html.UnescapeString(p.body)
		p.has(t, http.StatusOK, append(wants, "mirror.example.com/shop/NAME:TAG")...)
		if n := strings.Count(p.body, `"docker.io":`); n > 1 {
			t.Errorf("%s has docker.io %d times", client, n)
		}
	}
	b.get("/c/connect?for=system-default-registry").has(t, http.StatusOK, "/etc/rancher/rke2/config.yaml.d/roadstead.yaml", "system-default-registry: &#34;mirror.example.com&#34;")
	b.get("/c/connect?for=abacus").has(t, http.StatusOK, "registries.yaml")
}

// Where a client has one, a single rule for all registries can be chosen.
func TestAWildcardIsChosen(t *testing.T) {
	b := open(t).as("gina")
	for client, rule := range map[string]string{"rke2": `"*":`, "containerd": "/etc/containerd/certs.d/_default/hosts.toml", "talos": `"*":`, "docker": ""} {
		each, all := b.get("/c/connect?for="+client), b.get("/c/connect?for="+client+"&wildcard=true")
		each.body, all.body = html.UnescapeString(each.body), html.UnescapeString(all.body)
		choice := `href="/c/connect?for=` + client + `&wildcard=true"`
		if rule == "" {
			if strings.Contains(each.body, choice) || all.status != http.StatusOK {
				t.Errorf("%s has the choice, or does not answer: %d", client, all.status)
			}
			continue
		}
		each.has(t, http.StatusOK, choice, "docker.io")
		all.has(t, http.StatusOK, rule, "?ns=")
		if strings.Contains(each.body, rule) {
			t.Errorf("%s has %s without being asked for it", client, rule)
		}
	}
}

// What is said of files here is what the command says, which has no languages.
func TestHintsAreTheNotesOfClients(t *testing.T) {
	all, err := readWords()
	if err != nil {
		t.Fatal(err)
	}
	for note, text := range clients.Notes() {
		if got := all[english].all["hint."+string(note)]; got != text {
			t.Errorf("hint.%s is %q, want %q", note, got, text)
		}
	}
	for key := range all[english].all {
		if note, ok := strings.CutPrefix(key, "hint."); ok && clients.Note(note).English() == "" {
			t.Errorf("no client has the note %s", note)
		}
	}
	for _, c := range clients.All {
		if !all[english].has("client." + c.Name) {
			t.Errorf("%s has no name", c.Name)
		}
	}
}
