package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// An administrator whom the provider knows signs in at the console by it, starts a warm-up that
// upstream keeps waiting, sees on the page of jobs and on the overview how far it is and how it ends,
// without loading either again or losing what is under the keyboard, and signs out.
func TestTheConsoleFollowsInABrowser(t *testing.T) {
	e2e(t)
	need(t, "chromium")
	need(t, "axe.min.js")
	program := need(t, "oidc-issuer")
	const clientSecret, size, held = "Client-secret-of-a-console-52", 24 << 20, 6 << 20
	u := startUpstream(t, upstreamConfig{})
	img, d := blob(t, 981000, size)
	u.push(t, "library/cargo", img)
	g := startGate(t, u.url)
	release := make(chan struct{})
	g.set(func(r *http.Request) shape {
		if strings.HasSuffix(r.URL.Path, d.String()) {
			return shape{at: held, hold: release}
		}
		return shape{}
	})
	issuer, addr := freeAddress(t), freeAddress(t)
	n := startNode(t, nodeConfig{plain: true, addr: addr, tls: true, projects: map[string]any{"docker.io": project(g.url, map[string]any{"hub": true, "public": true})},
		more: map[string]any{"url": "https://" + addr, "oidc": map[string]any{
			"issuer": "http://" + issuer, "client_id": "roadstead", "client_secret": clientSecret, "admin_group": "harbour-masters",
		}}})
	users := writeJSON(t, filepath.Join(n.home, "users.json"), map[string]any{
		"ada": map[string]any{"sub": "1815", "password": "analytical", "email": "ada@example.com", "groups": []string{"harbour-masters"}},
	})
	provider := start(t, n.home, "oidc-issuer", program, "-listen", issuer, "-users", users, "-secret", clientSecret, "-redirects", n.url+"/c/oidc/callback")
	waitForHTTP(t, provider, http.DefaultClient, "http://"+issuer+"/.well-known/openid-configuration")
	s := &sitting{browser: startBrowser(t, browserOptions{trusts: n.ca, foreign: issuer}), t: t, node: n, img: img}

	s.open(n.url + "/c/jobs") // which leads to the provider, and back here
	s.follow("form.card a.wide")
	s.fill("input[name=username]", "ada")
	s.fill("input[name=password]", "analytical")
	s.follow("button[type=submit]")
	s.shows("#jobs-running", "No job is running.")
	if who := s.text(".me .who"); !strings.Contains(who, "ada") {
		t.Errorf("%q is signed in", who)
	}

	s.fill("#image", "docker.io/library/cargo:1")
	s.follow("form .actions button:not([name])")
	s.done()
	s.run("window.stayed = true")
	s.shows("#jobs-tasks", "6 MiB / 24 MiB")
	s.shows("#jobs-running", "1 job is running.")
	s.shows("[data-live-mark]", "Live")
	if act(s.browser, "look for the link", chromedp.Evaluate[bool](`getComputedStyle(document.querySelector("[data-live-instead]")).display !== "none"`)) {
		t.Error("a page that follows by itself offers to be loaded again")
	}
	s.inspect("console-jobs-running")

	s.open(n.url + "/c/")
	s.run("window.stayed = true")
	s.shows("#live", "6 MiB / 24 MiB")
	readers := `#live td[data-key$="-readers"]`
	// Rows that come and go do not while the focus is among them: first the configuration's has gone.
	eventually(t, patience, "the layer alone", func() bool {
		return act(s.browser, "count downloads", chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", readers))) == 1
	})
	s.run(`document.querySelector("#live a").focus()`)
	before := s.text(readers)
	client := make(chan error, 1)
	go func() { client <- n.pullBlob(cargo, d, size) }()
	eventually(t, patience, "another reader", func() bool { return s.text(readers) != before })
	if focused := act(s.browser, "look for the focus", chromedp.Evaluate[string](`document.activeElement.closest("#live") ? document.activeElement.textContent : "elsewhere"`)); focused != cargo {
		t.Errorf("the focus is on %q, want the repository still", focused)
	}
	s.inspect("console-overview-live")
	s.stayed()

	s.open(n.url + "/c/jobs")
	s.shows("#jobs-tasks", "6 MiB / 24 MiB")
	s.run(`window.stayed = true; document.querySelector("#jobs-tasks button").focus()`)
	close(release)
	if err := <-client; err != nil {
		t.Error(err)
	}
	s.shows("#jobs-running", "No job is running.")
	s.shows("#jobs-tasks", "Done")
	if !act(s.browser, "look for the focus", chromedp.Evaluate[bool](`document.activeElement.matches("#jobs-tasks button")`)) {
		t.Error("the button went from under the focus")
	}
	s.run(`document.querySelector("#main").focus()`)
	eventually(t, patience, "the button of a job that has ended to go", func() bool {
		return act(s.browser, "look for the button", chromedp.Evaluate[bool](`!document.querySelector("#jobs-tasks button")`))
	})
	s.stayed()

	s.open(n.url + "/c/")
	s.shows("#live", "Nothing is being downloaded")
	s.follow(".me button")
	s.waitFor("#password")
	s.open(n.url + "/c/jobs")
	s.waitFor("#password")
}

// shows waits until a text is to be read in an element, which the page may change meanwhile.
func (s *sitting) shows(selector, text string) {
	s.t.Helper()
	eventually(s.t, patience, fmt.Sprintf("%q in %s", text, selector), func() bool {
		return strings.Contains(act(s.browser, "read "+selector, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))), text)
	})
}

// stayed fails if the page is another than that on which window.stayed was set.
func (s *sitting) stayed() {
	s.t.Helper()
	if !act(s.browser, "look whether the page is the same", chromedp.Evaluate[bool]("window.stayed === true")) {
		s.t.Error("the page was loaded again")
	}
}
