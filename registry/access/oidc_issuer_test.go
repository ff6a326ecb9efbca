package access

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lack ends a test that this machine cannot run. Where everything has to be there, in continuous
// integration, that is a failure: a test that nobody runs proves nothing.
func lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true: "+format, args...)
	}
	t.Skipf(format, args...)
}

// need returns the path of a program, from .tools/bin of the module or from PATH.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", ".tools", "bin", program))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if path, err = exec.LookPath(program); err != nil {
		lack(t, "%s is not installed; .ci/tools installs it", program)
	}
	return path
}

// issuer is an OIDC provider: a process of its own.
type issuer struct {
	url   string
	addr  string
	users string // the file of them
	args  []string
	stop  func()
}

// person is a user of the provider.
type person struct {
	Sub      string   `json:"sub"`
	Password string   `json:"password"`
	Email    string   `json:"email"`
	Groups   []string `json:"groups"`
}

// people are two users, by name. Each test changes its own.
func people() map[string]person {
	return map[string]person{
		"ada":   {Sub: "1815", Password: "analytical", Email: "ada@example.com", Groups: []string{"dev"}},
		"grace": {Sub: "1906", Password: "compiler", Email: "grace@example.com", Groups: []string{"ops", "dev"}},
	}
}

// newIssuer says where a provider will be. Nothing is there before its start.
func newIssuer(t *testing.T, args ...string) *issuer {
	t.Helper()
	i := &issuer{addr: freeAddress(t), users: filepath.Join(t.TempDir(), "users.json"), args: args, stop: func() {}}
	i.url = "http://" + i.addr
	i.has(t, people())
	return i
}

// has makes the provider know these users from now on, and no others.
func (i *issuer) has(t *testing.T, all map[string]person) {
	t.Helper()
	b, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(i.users+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(i.users+".new", i.users)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const clientSecret = "canary-client-secret"

// start runs the provider for a house at an address until the test ends, and waits until it answers.
func (i *issuer) start(t *testing.T, house string) {
	t.Helper()
	program := need(t, "oidc-issuer")
	logged, err := os.CreateTemp(t.TempDir(), "issuer.log")
	if err != nil {
		t.Fatal(err)
	}
	defer logged.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, append([]string{
		"-listen", i.addr, "-users", i.users, "-secret", clientSecret, "-redirects", house + callbackPath,
	}, i.args...)...)
	cmd.Stdout, cmd.Stderr = logged, logged
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	i.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(func() {
		i.stop()
		if t.Failed() {
			b, _ := os.ReadFile(logged.Name())
			t.Logf("the end of what the provider said:\n%s", b[max(0, len(b)-4<<10):])
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", i.addr); err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatal("the provider has ended")
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the provider does not listen within 30 s")
		}
	}
}

// freeAddress returns a loopback address that nothing listens on. Its port is below those that
// the kernel gives to outgoing connections, which come and go.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port between 12000 and 32000")
	return ""
}

// browser is what somebody logs in with.
type browser struct {
	t      *testing.T
	client *http.Client
	header http.Header          // sent with every request
	trail  []string             // where it was sent since the last request of its own
	on     func(*url.URL) error // looks at each redirect, may change it, and may end it there
}

func newBrowser(t *testing.T, transport http.RoundTripper) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, client: &http.Client{Transport: transport, Jar: jar}, header: http.Header{}}
	b.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 10 {
			t.Fatalf("sent round in circles: %v", b.trail)
		}
		b.trail = append(b.trail, r.URL.String())
		if b.on != nil {
			return b.on(r.URL)
		}
		return nil
	}
	return b
}

// response is an answer that was read.
type response struct {
	*http.Response
	body string
}

func (b *browser) get(url string) response {
	b.t.Helper()
	return b.do(http.MethodGet, url, nil)
}

func (b *browser) post(url string, form url.Values) response {
	b.t.Helper()
	return b.do(http.MethodPost, url, form)
}

func (b *browser) do(method, url string, form url.Values) response {
	b.t.Helper()
	b.trail = nil
	r, err := http.NewRequestWithContext(b.t.Context(), method, url, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header = b.header.Clone()
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		b.t.Fatal(err)
	}
	return response{resp, html.UnescapeString(string(body))}
}

var formID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// login logs in at the provider by its own form, and returns where that led to.
func (b *browser) login(house, next, name, password string) response {
	b.t.Helper()
	form := b.get(house + loginPath + "?next=" + url.QueryEscape(next))
	id := formID.FindStringSubmatch(form.body)
	if id == nil {
		b.t.Fatalf("no form of the provider at %s: %s\n%s", form.Request.URL, form.Status, form.body)
	}
	action := form.Request.URL.ResolveReference(&url.URL{Path: "/login/username"})
	return b.post(action.String(), url.Values{"id": {id[1]}, "username": {name}, "password": {password}})
}

// cookie returns the value of a cookie that the browser has for a server.
func (b *browser) cookie(server, name string) string {
	b.t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if strings.TrimPrefix(c.Name, "__Host-") == name {
			return c.Value
		}
	}
	return ""
}
