package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roadstead/registry/registrytest"
)

// What is wrong with an address, a password or a certificate is said with what to do.
func TestImportHarborSaysWhatIsWrong(t *testing.T) {
	t.Chdir(t.TempDir())
	authority := registrytest.NewAuthority(t)
	secure := registrytest.NewHarbor(t, []byte(`{"/systeminfo": {"auth_mode": "db_auth"}}`), authority.Server(registrytest.Leaf{}))
	misnamed := registrytest.NewHarbor(t, []byte(`{}`), authority.Server(registrytest.Leaf{Names: []string{"harbor.example.com"}, Only: true}))
	write(t, "ca.pem", string(authority.PEM()))
	write(t, "password", secure.Password)
	write(t, "wrong", "canary-password")
	write(t, "empty", "\n")
	write(t, "there.yaml", "listen: 127.0.0.1:0\n")
	plain := registrytest.NewHarbor(t, []byte(`{"/systeminfo": {"auth_mode": "db_auth"}}`), nil)
	old := registrytest.NewHarbor(t, []byte(`{}`), nil)
	other := registrytest.NewHarbor(t, []byte(`{"/systeminfo": {"name": "something else"}}`), nil)
	list := registrytest.NewHarbor(t, []byte(`{"/systeminfo": []}`), nil)
	list.Fail(func(w http.ResponseWriter, r *http.Request) bool { fmt.Fprint(w, "[1]"); return true })
	page := registrytest.NewHarbor(t, []byte(`{}`), nil)
	page.Fail(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<html>sign in</html>")
		return true
	})
	moved := registrytest.NewHarbor(t, []byte(`{}`), nil)
	moved.Fail(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, plain.URL()+r.URL.Path, http.StatusPermanentRedirect)
		return true
	})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"no scheme", []string{"--url", "harbor.example.com"}, "write scheme and host, such as https://harbor.example.com"},
		{"a page of the portal", []string{"--url", plain.URL() + "/harbor/projects"}, "--url has more than scheme and host; write " + plain.URL()},
		{"credentials in the URL", []string{"--url", "https://admin:canary-password@harbor.example.com"}, "--url holds credentials"},
		{"clear text", []string{"--url", "http://harbor.example.com"}, "the password would go to harbor.example.com in clear text"},
		{"unknown authority", []string{"--url", secure.URL()}, "give the PEM file of the authority with --ca"},
		{"another name", []string{"--url", misnamed.URL(), "--ca", "ca.pem"}, "give the name that is in its certificate to --url"},
		{"no certificate in the file", []string{"--url", secure.URL(), "--ca", "password"}, "--ca: there is no certificate in the file"},
		{"no TLS there", []string{"--url", strings.Replace(plain.URL(), "http:", "https:", 1)}, "write http:// if that is meant"},
		{"TLS there", []string{"--url", strings.Replace(secure.URL(), "https:", "http:", 1)}, "400 Bad Request"},
		{"nobody there", []string{"--url", "http://" + gone.Addr().String()}, "connection refused"},
		{"wrong password", []string{"--url", plain.URL(), "--password-file", "wrong"}, "Harbor does not know user admin by this password"},
		{"Harbor 1, or none", []string{"--url", old.URL()}, "there is no Harbor 2 at " + old.URL()},
		{"another program", []string{"--url", other.URL()}, "answers, and not as Harbor does"},
		{"not the shape", []string{"--url", list.URL()}, "something that is not Harbor's"},
		{"a sign-in in front", []string{"--url", page.URL()}, "with a web page; --url is not that of a Harbor, or a sign-in is in front of it"},
		{"sent on", []string{"--url", moved.URL()}, "give its real address to --url"},
		{"no such file", []string{"--url", plain.URL(), "--password-file", "absent"}, "read the secret: open absent"},
		{"empty file", []string{"--url", plain.URL(), "--password-file", "empty"}, "empty is empty"},
		{"there already", []string{"--url", plain.URL(), "-o", "there.yaml"}, "there.yaml is there already: name another file, or give --force"},
		{"script there already", []string{"--url", plain.URL(), "--commands", "there.yaml"}, "there.yaml is there already"},
		{"one file for both", []string{"--url", plain.URL(), "-o", "x", "--commands", "./x"}, "name two files"},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := append([]string{"config", "import-harbor"}, row.args...)
			if !strings.Contains(strings.Join(row.args, " "), "--password-file") {
				args = append(args, "--password-file", "password")
			}
			stdout, stderr, status := command(args...)
			if status != 1 || !strings.Contains(stderr, row.want) || stdout != "" || strings.Contains(stderr, "canary") || strings.Contains(stderr, secure.Password) {
				t.Errorf("exit status %d\n%s%s\nwant %s", status, stdout, stderr, row.want)
			}
		})
	}
	if got := contents(t, "there.yaml"); got != "listen: 127.0.0.1:0\n" {
		t.Errorf("the file that was there is %q", got)
	}
	files, err := filepath.Glob("*")
	if err != nil || len(files) != 5 {
		t.Errorf("there are %q, %v; want what was there before", files, err)
	}
	if n := len(moved.Requests()); n != 1 || len(plain.Requests()) != 2*1 {
		t.Errorf("the password went on: %q, %q", moved.Requests(), plain.Requests())
	}
}

// A certificate of one's own authority is taken with --ca, and any with --insecure; --force writes over.
func TestImportHarborOverTLS(t *testing.T) {
	authority := registrytest.NewAuthority(t)
	h := registrytest.NewHarbor(t, []byte(`{"/systeminfo": {"auth_mode": "db_auth"}, "/users/current": {"sysadmin_flag": true}, "/projects": [{"project_id": 1, "name": "library"}]}`),
		authority.Server(registrytest.Leaf{}))
	t.Chdir(t.TempDir())
	write(t, "ca.pem", string(authority.PEM()))
	write(t, "out.yaml", "old")
	for _, args := range [][]string{{"--ca", "ca.pem"}, {"--insecure"}} {
		stdin = strings.NewReader(h.Password + "\n")
		_, stderr, status := command(append([]string{"config", "import-harbor", "--url", h.URL(), "--password-file", "-", "-o", "out.yaml", "--force"}, args...)...)
		stdin = os.Stdin
		if status != 0 || !strings.Contains(contents(t, "out.yaml"), "library:\n") {
			t.Errorf("%q: %d\n%s", args, status, stderr)
		}
	}
}

// client is one of a Harbor that does not wait long before it asks again.
func client(t *testing.T, h *registrytest.Harbor) *harbor {
	t.Helper()
	c, err := openHarbor(h.URL(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.username, c.password, c.pause = h.Username, h.Password, time.Microsecond
	return c
}

// What breaks off or is too busy is asked again, and what stays so is an error.
func TestHarborIsAskedAgain(t *testing.T) {
	faults := map[string]func(w http.ResponseWriter){
		"cut in the head": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"cut in the body": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `[{"id": 1`)
			panic(http.ErrAbortHandler)
		},
		"503": func(w http.ResponseWriter) { w.WriteHeader(503) },
		"502": func(w http.ResponseWriter) { w.WriteHeader(502) },
		"429": func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			h := registrytest.NewHarbor(t, []byte(`{"/registries": [{"id": 7}]}`), nil)
			var left atomic.Int32
			h.Fail(func(w http.ResponseWriter, r *http.Request) bool {
				if left.Add(-1) < 0 {
					return false
				}
				fault(w)
				return true
			})
			for _, row := range []struct {
				times int32
				good  bool
			}{{harborTries - 1, true}, {harborTries, false}} {
				left.Store(row.times)
				got, err := pages[harborRegistry](t.Context(), client(t, h), "/registries")
				if good := err == nil && len(got) == 1 && got[0].ID == 7; good != row.good {
					t.Errorf("after %d faults: %v, %v", row.times, got, err)
				}
			}
			if n := len(h.Requests()); n != 2*harborTries {
				t.Errorf("%d requests, want %d", n, 2*harborTries)
			}
		})
	}
}

func TestHarborThatHasNoAddress(t *testing.T) {
	err := new(harbor).explained(fmt.Errorf("dial: %w", &net.DNSError{Name: "harbor.example.com", IsNotFound: true}))
	if transient(err) || !strings.Contains(err.Error(), "is the host in --url spelt right?") {
		t.Errorf("%v, asked again: %t", err, transient(err))
	}
}

func TestHarborIsNotAskedAgainInVain(t *testing.T) {
	h := registrytest.NewHarbor(t, []byte(`{}`), nil)
	for _, status := range []int{400, 401, 403, 404, 412, 501} {
		h.Fail(registrytest.Refused("/", status))
		before := len(h.Requests())
		_, err := pages[harborRegistry](t.Context(), client(t, h), "/registries")
		if n := len(h.Requests()) - before; n != 1 || err == nil {
			t.Errorf("%d: asked %d times, %v", status, n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	h.Fail(func(w http.ResponseWriter, r *http.Request) bool { cancel(); w.WriteHeader(503); return true })
	c := client(t, h)
	c.pause = time.Hour
	if _, err := c.get(ctx, "/registries", new([]harborRegistry)); err == nil {
		t.Error("it was answered after it was cancelled")
	}
}

// A list ends however it is counted, and one that never does is an error.
func TestHarborsPages(t *testing.T) {
	h := registrytest.NewHarbor(t, []byte(`{}`), nil)
	for _, row := range []struct {
		name          string
		all, most     int // there are, and fit on a page whatever is asked for
		count, repeat bool
		requests      int
	}{
		{"none", 0, 100, true, false, 1},
		{"counted", 250, 100, true, false, 3},
		{"exactly two pages", 200, 100, true, false, 2},
		{"counted, and smaller pages than asked for", 95, 10, true, false, 10},
		{"not counted", 250, 100, false, false, 3},
		{"not counted, exactly two pages", 200, 100, false, false, 3},
		{"counted by who knows only one page", 30, 100, true, true, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := len(h.Requests())
			h.Fail(func(w http.ResponseWriter, r *http.Request) bool {
				var page int
				fmt.Sscan(r.URL.Query().Get("page"), &page)
				if row.repeat {
					page = 1
				}
				from, list := min((page-1)*row.most, row.all), []harborRegistry{}
				for i := from; i < min(from+row.most, row.all); i++ {
					list = append(list, harborRegistry{ID: int64(i)})
				}
				if row.count {
					w.Header().Set("X-Total-Count", fmt.Sprint(row.all))
				}
				json.NewEncoder(w).Encode(list)
				return true
			})
			got, err := pages[harborRegistry](t.Context(), client(t, h), "/registries?q=x")
			if err != nil || len(got) != row.all {
				t.Fatalf("%d, %v; want %d", len(got), err, row.all)
			}
			for i, r := range got {
				if r.ID != int64(i) {
					t.Fatalf("at %d is %d", i, r.ID)
				}
			}
			if n := len(h.Requests()) - before; n != row.requests {
				t.Errorf("%d requests, want %d", n, row.requests)
			}
		})
	}
}
