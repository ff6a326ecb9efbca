package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// consoleLooks have both widths, colour schemes and languages. In the first everything is done, in the
// others every page is looked at. Those that combine them the other way round too are looked at with
// ROADSTEAD_LOOKS=all.
func consoleLooks() []consoleLook {
	looks := []consoleLook{{browserOptions{language: "en"}, true}, {browserOptions{language: "zh-CN", phone: true, dark: true}, false}}
	if os.Getenv("ROADSTEAD_LOOKS") == "all" {
		looks = append(looks, consoleLook{browserOptions{language: "zh-CN", dark: true}, false}, consoleLook{browserOptions{language: "en", phone: true}, false})
	}
	return looks
}

type consoleLook struct {
	browserOptions
	whole bool
}

// An operator does by clicking what the article of the seed does in Harbor: signs in, makes a registry
// and a project that is a cache of it, pulls through that with a client, sees what came, looks at it,
// and deletes all of it again.
func TestTheConsoleInABrowser(t *testing.T) {
	e2e(t)
	need(t, "chromium")
	need(t, "axe.min.js")
	up := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 900, platforms: []string{"amd64", "arm64"}}.make(t, "1.36")
	up.push(t, "library/busybox", img)
	admin := account{"admin", "Pass-of-admin-1f8c"}
	first := filepath.Join(t.TempDir(), "admin")
	if err := os.WriteFile(first, []byte(admin.secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, nodeConfig{plain: true, tls: true, more: map[string]any{"admin_password_file": first}})
	for i, look := range consoleLooks() {
		t.Run(look.String(), func(t *testing.T) {
			look.trusts = n.ca
			s := &sitting{browser: startBrowser(t, look.browserOptions), t: t, node: n, up: up, img: img, name: strings.ToLower(look.String())}
			s.signIn(admin)
			if look.whole {
				s.makeRegistry()
				s.makeProject()
				s.pull()
				s.lookAtArtifact()
				s.settings()
			}
			s.lookAround()
			if look.whole {
				s.hosted()
				s.deleteAll()
			}
			if i == 0 {
				s.article()
			}
			s.follow(".me button")
			s.waitFor("#password")
		})
	}
}

// article makes the five registries and the five public projects of the article and pulls through each.
func (s *sitting) article() {
	for _, name := range []string{"docker.io", "quay.io", "gcr.io", "k8s.gcr.io", "ghcr.io"} {
		s.open(s.node.url + "/c/registries/new")
		s.fill("#name", name)
		s.choose("#kind", "docker-registry")
		s.fill("#url", s.up.url)
		s.click("summary")
		s.click("#allow_private")
		s.follow("form.card .actions button:first-child")
		s.done()
		s.open(s.node.url + "/c/projects/new")
		s.fill("#name", name)
		s.run(fmt.Sprintf(`{ const list = document.querySelector("#registry"); list.value = [...list.options].find(o => o.text == %q).value }`, name))
		s.click("#public")
		s.follow("form.card .actions button")
		s.done()
		if err := s.node.pull(name+"/library/busybox", "1.36", s.img); err != nil {
			s.t.Error(err)
		}
	}
	s.open(s.node.url + "/c/projects")
	for _, name := range []string{"docker.io", "quay.io", "gcr.io", "k8s.gcr.io", "ghcr.io"} {
		s.reads(name)
	}
	s.inspect("console-article")
}

// sitting is somebody at a browser.
type sitting struct {
	*browser
	t    *testing.T
	node *node
	up   *upstream
	img  *image
	name string // of what it makes, which others do not
}

// run evaluates a script that has no result.
func (s *sitting) run(script string) {
	s.t.Helper()
	act(s.browser, script, chromedp.Evaluate[chromedp.Void](script))
}

// choose takes an option of a list.
func (s *sitting) choose(selector, value string) {
	s.t.Helper()
	s.run(fmt.Sprintf(`{ const list = document.querySelector(%q); list.value = %q; list.dispatchEvent(new Event("change")) }`, selector, value))
}

// done waits for a message that something was done.
func (s *sitting) done() {
	s.t.Helper()
	s.waitFor(".note.good[role=status]")
}

// reads wants a text on the page.
func (s *sitting) reads(text string) {
	s.t.Helper()
	if page := s.text("main"); !strings.Contains(page, text) {
		s.t.Errorf("the page lacks %q:\n%s", text, page)
	}
}

func (s *sitting) signIn(a account) {
	s.open(s.node.url + "/")
	s.inspect("console-signin")
	s.fill("#username", a.name)
	s.fill("#password", "wrong")
	s.follow("button.wide")
	s.waitFor("[role=alert]")
	s.inspect("console-signin-wrong")
	if heard := s.complaints(); len(heard) != 1 || !strings.Contains(heard[0], "401") {
		s.t.Errorf("of a wrong password the browser says %q, want the status 401", heard)
	}
	s.fill("#password", a.secret)
	s.follow("button.wide")
	s.waitFor("dl.stats")
	s.inspect("console-overview-empty")
}

func (s *sitting) makeRegistry() {
	s.open(s.node.url + "/c/registries")
	s.inspect("console-registries-empty")
	s.follow(".head a.button")
	s.inspect("console-registry-new")
	s.fill("#name", s.name)
	s.choose("#kind", "docker-registry")
	s.fill("#url", "http://127.0.0.1:1")
	s.click("summary")
	s.click("#allow_private")
	// What is wrong is said, and the form is as it was.
	s.click("button[data-part]")
	s.waitFor("[data-result] .bad")
	s.inspect("console-registry-test")
	s.fill("#url", s.up.url)
	s.click("button[data-part]")
	s.waitFor("[data-result] .good")
	s.follow("form.card .actions button:first-child")
	s.done()
	s.reads(s.name)
	s.inspect("console-registries")
}

func (s *sitting) makeProject() {
	s.open(s.node.url + "/c/projects/new")
	s.inspect("console-project-new")
	s.fill("#name", "Not A Name")
	s.run(fmt.Sprintf(`{ const list = document.querySelector("#registry"); list.value = [...list.options].find(o => o.text == %q).value }`, s.name))
	s.click("#public")
	s.follow("form.card .actions button")
	s.waitFor("#name-wrong")
	s.inspect("console-project-wrong")
	if heard := s.complaints(); len(heard) != 1 || !strings.Contains(heard[0], "422") {
		s.t.Errorf("of a wrong name the browser says %q, want the status 422", heard)
	}
	s.fill("#name", s.name)
	s.follow("form.card .actions button")
	s.done()
	s.inspect("console-project-empty")
}

// pull has a client pull, and waits for what it pulled to be there.
func (s *sitting) pull() {
	if err := s.node.pull(s.name+"/library/busybox", "1.36", s.img); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 20*time.Second, "the repository in the list", func() bool {
		s.open(s.node.url + "/c/projects/" + s.name)
		return strings.Contains(s.text("main"), "library/busybox")
	})
	s.inspect("console-project")
}

func (s *sitting) lookAtArtifact() {
	s.follow("tbody a")
	s.reads("1.36")
	s.inspect("console-repository")
	s.follow("a.tag")
	s.reads("linux/arm64")
	s.inspect("console-index")
	s.follow("form[action*=refresh] button")
	s.done()
	s.follow("table a")
	s.waitFor("svg.bars")
	s.inspect("console-image")
}

// lookAround looks at every other page.
func (s *sitting) lookAround() {
	for _, page := range []struct{ name, path string }{
		{"overview", "/c/"}, {"search", "/c/search?q=busy"}, {"connect", "/c/connect"}, {"connect-wildcard", "/c/connect?for=containerd&wildcard=true"}, {"explain", "/c/explain?image=busybox"}, {"clients", "/c/clients"}, {"jobs", "/c/jobs"},
		{"audit", "/c/audit"}, {"users", "/c/users"}, {"robots-system", "/c/robots"}, {"user-new", "/c/users/new"}, {"account", "/c/account"},
		{"projects", "/c/projects"}, {"registries-all", "/c/registries"}, {"project-form", "/c/projects/new"}, {"registry-form", "/c/registries/new"},
	} {
		s.open(s.node.url + page.path)
		s.inspect("console-" + page.name)
	}
}

// settings changes those of the proxy.
func (s *sitting) settings() {
	s.open(s.node.url + "/c/projects/" + s.name + "/settings")
	s.inspect("console-settings")
	s.fill("#ttl", "30m")
	s.fill("#allow", "library/**")
	s.follow("form.stack > .actions button")
	s.done()
}

// hosted makes a project that people push to, with a robot and a member.
func (s *sitting) hosted() {
	name := s.name + "-own"
	s.open(s.node.url + "/c/projects/new?kind=hosted")
	s.inspect("console-project-new-hosted")
	s.fill("#name", name)
	s.fill("#quota", "20 GiB")
	s.follow("form.card .actions button")
	s.done()
	s.inspect("console-hosted-empty")
	s.open(s.node.url + "/c/projects/" + name + "/robots")
	s.fill("#name", "ci")
	s.click("#push")
	s.follow("form.card .actions button")
	robot := account{"robot$" + name + "+ci", s.text(".secret code")}
	s.inspect("console-robots")
	if got := s.node.as(robot).ask(http.MethodGet, "/v2/"); got.status != http.StatusOK {
		s.t.Errorf("the robot is answered %s", got)
	}
	s.open(s.node.url + "/c/projects/" + name + "/members")
	s.inspect("console-members")
	s.open(s.node.url + "/c/projects/" + name + "/settings")
	s.fill("#newest", "10")
	s.follow("form.stack > .actions button")
	s.done()
	s.follow("button[value=dry]")
	s.done()
	s.inspect("console-settings-hosted")
	s.deleteProject(name)
}

func (s *sitting) deleteProject(name string) {
	s.open(s.node.url + "/c/projects/" + name + "/delete")
	s.inspect("console-project-delete")
	s.fill("#typed", name)
	s.follow("button.bad")
	s.done()
}

func (s *sitting) deleteAll() {
	s.open(s.node.url + "/c/repositories/" + s.name + "/library/busybox")
	s.follow(".head a.bad")
	s.inspect("console-remove")
	s.follow("button.bad")
	s.done()
	s.deleteProject(s.name)
	s.open(s.node.url + "/c/registries")
	s.run(fmt.Sprintf(`[...document.querySelectorAll("tbody a")].find(a => a.textContent == %q).id = "mine"`, s.name))
	s.follow("#mine")
	s.inspect("console-registry")
	s.follow("a.bad")
	s.follow("button.bad")
	s.done()
	if err := s.node.pull(s.name+"/library/busybox", "1.36", s.img); err == nil {
		s.t.Error("what was deleted can still be pulled")
	}
}
