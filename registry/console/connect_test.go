package console

import (
	"html"
	"net/http"
	"strings"
	"testing"

	"roadstead/registry"
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
		"buildkit":   {`[registry."docker.io"]`, `mirrors = [ "mirror.example.com/hub" ]`, "http = true"},
	} {
		p := b.get("/c/connect?for=" + client)
		p.body = html.UnescapeString(p.body)
		p.has(t, http.StatusOK, wants...)
		if n := strings.Count(p.body, `"docker.io":`); n > 1 {
			t.Errorf("%s has docker.io %d times", client, n)
		}
	}
	b.get("/c/connect?for=abacus").has(t, http.StatusOK, "registries.yaml")
}
