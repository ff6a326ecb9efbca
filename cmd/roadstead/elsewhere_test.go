package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"roadstead/registry/registrytest"
)

// An ns that no project stands for is 404 at once, so that containerd goes on to that registry, unless that
// would tell which private proxies there are: then it is 401 to who has not logged in, and 404 to who has.
func TestTheNSOfNoProject(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("foo/bar", "x", []byte("layer"))
	const path = "/v2/foo/bar/manifests/x?ns="
	projects := map[string]map[string]any{"docker.io": proxied(up), "team": {"hosted": true}}
	config := configuration(t, projects, map[string]any{"admin_password_file": adminFile(t)})
	p := serve(t, config)
	admin, nobody, wrong := login{"admin", "Correct-horse-7"}, login{}, login{"admin", "Wrong-horse-7"}
	reader := login{"reader", "Correct-horse-8"}
	file := filepath.Join(t.TempDir(), "reader")
	write(t, file, reader.password+"\n")
	worked(t, "user", "add", reader.user, "--password-file", file, "--config", config)

	// An ns never leads to what is hosted, so it is the same for one that is called so.
	for _, who := range []login{nobody, wrong, reader, admin} {
		for _, ns := range []string{"unknown.io", "team"} {
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				status, header, body := p.do(who, method, path+ns, "", "")
				if status != 404 || header.Get("WWW-Authenticate") != "" || method == http.MethodGet && !strings.Contains(body, "no project here stands for the registry") {
					t.Errorf("%q, %s of %s without a private proxy: %d %s", who.user, method, ns, status, body)
				}
			}
		}
	}

	projects["private.io"] = proxied(up)
	projects["private.io"]["public"] = false
	rewriteConfiguration(t, config, projects, map[string]any{"admin_password_file": adminFile(t)})
	p.signal(syscall.SIGHUP)
	p.wait("configuration reloaded")
	for _, row := range []struct {
		who    login
		status int
	}{{nobody, 401}, {wrong, 401}, {reader, 404}} {
		for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodPut} {
			want := ""
			for _, ns := range []string{"unknown.io", "private.io", "team"} {
				status, header, body := p.do(row.who, method, path+ns, "", "")
				if status != row.status && !(method == http.MethodPut && row.who == reader && status == 403) {
					t.Errorf("%q, %s of %s: %d %s, want %d", row.who.user, method, ns, status, body, row.status)
				}
				header.Del("Date")
				got := strings.ReplaceAll(fmt.Sprint(status, headerLines(header), body), ns, "<ns>")
				got = strings.ReplaceAll(got, fmt.Sprint("Content-Length:", len(body)), "Content-Length:n")
				if want == "" {
					want = got
				}
				if got != want {
					t.Errorf("%q, %s of %s:\n%s\nand of one that is not here:\n%s", row.who.user, method, ns, got, want)
				}
			}
		}
	}

	// With a token for what the challenge says, as containerd does it: one round is enough.
	withToken := func(who login, ns string) int {
		t.Helper()
		status, header, _ := p.do(nobody, http.MethodHead, path+ns, "", "")
		if status != 401 {
			t.Fatalf("%s: %d, want 401", ns, status)
		}
		_, scope, _ := strings.Cut(header.Get("WWW-Authenticate"), `scope="`)
		scope = strings.TrimSuffix(scope, `"`)
		status, _, body := p.do(who, http.MethodGet, "/service/token?"+url.Values{"service": {"roadstead"}, "scope": {"repository:foo/bar:pull", scope}}.Encode(), "", "")
		var answer struct{ Token string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
			t.Fatalf("token: %d %s", status, body)
		}
		req, err := http.NewRequest(http.MethodHead, p.url+path+ns, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+answer.Token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, row := range []struct {
		who  login
		ns   string
		want int
	}{
		{admin, "unknown.io", 404}, {admin, "private.io", 200}, {admin, "team", 404},
		{reader, "unknown.io", 404}, {reader, "private.io", 404}, {reader, "team", 404},
		{nobody, "unknown.io", 401}, {nobody, "private.io", 401}, {nobody, "team", 401},
	} {
		if got := withToken(row.who, row.ns); got != row.want {
			t.Errorf("%q with a token, %s: %d, want %d", row.who.user, row.ns, got, row.want)
		}
	}
	p.signal(syscall.SIGTERM)
	p.exit()
}

// Who pushes to a project that is not there is told so, and not that they tried to push to Docker Hub; of a
// private one nobody learns more than before.
func TestAPushToAProjectThatIsNotThere(t *testing.T) {
	up := registrytest.New(t)
	config := configuration(t, map[string]map[string]any{"docker.io": proxied(up), "team": {"hosted": true}}, map[string]any{"default_project": "docker.io", "admin_password_file": adminFile(t)})
	p := serve(t, config)
	file := filepath.Join(t.TempDir(), "reader")
	write(t, file, "Correct-horse-8\n")
	worked(t, "user", "add", "reader", "--password-file", file, "--config", config)
	const hint = `there is no project other here, so the name is taken for one in docker.io`
	for _, row := range []struct {
		who    login
		path   string
		status int
		want   string
	}{
		{login{"admin", "Correct-horse-7"}, "/v2/other/app/blobs/uploads/", 403, hint},
		{login{"reader", "Correct-horse-8"}, "/v2/other/app/blobs/uploads/", 403, hint},
		{login{}, "/v2/other/app/blobs/uploads/", 403, hint},
		{login{"admin", "Correct-horse-7"}, "/v2/docker.io/other/app/blobs/uploads/", 403, "project docker.io is a proxy cache"},
		{login{"reader", "Correct-horse-8"}, "/v2/team/app/blobs/uploads/", 403, "this is not allowed"},
	} {
		status, _, body := p.do(row.who, http.MethodPost, row.path, "", "")
		if status != row.status || !strings.Contains(body, row.want) {
			t.Errorf("%q, %s: %d %s, want %d %s", row.who.user, row.path, status, body, row.status, row.want)
		}
	}
	p.signal(syscall.SIGTERM)
	p.exit()
}

func headerLines(h http.Header) []string {
	var lines []string
	for name, values := range h {
		lines = append(lines, name+":"+strings.Join(values, ","))
	}
	slices.Sort(lines)
	return lines
}
