package main_test

import (
	"net/http"
	"strings"
	"testing"
)

// Credentials that upstream does not take are reported as its denial, by its name.
func TestWrongCredentials(t *testing.T) {
	e2e(t)
	open := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 93000}.make(t, "1")
	open.push(t, "team/app", img)
	private := startUpstream(t, upstreamConfig{dir: open.dir, tokens: startTokenServer(t, true)})
	for name, credentials := range map[string]map[string]any{
		"wrong password": {"username": tokenUser, "password": "not it", "auth_hosts": []string{"127.0.0.1"}, "insecure": true, "public": true},
		"no credentials": nil,
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, nodeConfig{plain: true, projects: map[string]any{"quay.io": private.project(credentials)}})
			for _, path := range []string{manifestPath("quay.io/team/app", "1"), blobPath("quay.io/team/app", img.blobOrder[0])} {
				a := n.ask(http.MethodGet, path)
				if a.status != http.StatusForbidden || !strings.Contains(string(a.body), "DENIED") || !strings.Contains(string(a.body), "quay.io") {
					t.Errorf("GET %s: %v; want 403 DENIED that names quay.io", path, a)
				}
			}
		})
	}
}

// What is stored is not what everybody may read: content that came from one project is not in
// another, nor in another repository, by its digest alone (FAULTS B8).
func TestContentStaysInItsRepository(t *testing.T) {
	e2e(t)
	private, public := startUpstream(t, upstreamConfig{}), startUpstream(t, upstreamConfig{})
	secret, other := recipe{seed: 93100}.make(t, "1"), recipe{seed: 93200}.make(t, "1")
	private.push(t, "team/secret", secret)
	private.push(t, "team/other", other)
	public.push(t, "library/other", other)
	n := startNode(t, nodeConfig{plain: true, projects: map[string]any{
		"quay.io":   private.project(nil),
		"docker.io": public.project(map[string]any{"hub": true}),
	}})
	for repo, img := range map[string]*image{"quay.io/team/secret": secret, "quay.io/team/other": other, "docker.io/library/other": other} {
		if err := n.pull(repo, "1", img); err != nil {
			t.Fatal(err)
		}
	}
	for _, repo := range []string{"quay.io/team/other", "docker.io/library/other", "docker.io/library/none"} {
		paths := []string{manifestPath(repo, string(secret.top().digest))}
		for _, d := range secret.blobOrder {
			paths = append(paths, blobPath(repo, d))
		}
		for _, path := range paths {
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				if a := n.ask(method, path); a.status != http.StatusNotFound {
					t.Errorf("%s %s: %v, want 404", method, path, a)
				}
			}
		}
	}
	// Where upstream has it, it is served without another download.
	public.push(t, "library/secret", secret)
	if err := n.pull("docker.io/library/secret", "1", secret); err != nil {
		t.Error(err)
	}
}
