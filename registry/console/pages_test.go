package console

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"roadstead/registry"
)

const plainConfig = `{"os":"linux","architecture":"amd64","config":{"Env":["PATH=/bin"],"Entrypoint":["/app"]},"history":[{"created_by":"COPY app /app"}]}`

// Every page, and what whoever is signed in gets to see of it. Whoever is not is sent to sign in.
func TestWhoSeesWhichPage(t *testing.T) {
	v := open(t)
	d := v.image(registry.Repo{Project: "shop", Name: "app"}, "v1", plainConfig, `{"a":"b"}`)
	v.image(registry.Repo{Project: "hub", Name: "library/busybox"}, "latest", plainConfig, `{}`)
	made, _, err := v.estate.AddRobot(t.Context(), v.principal("admin"), newRobotOf("shop"))
	v.must(err)
	members, err := v.access.Members(t.Context(), "shop")
	v.must(err)
	robot, member := itoa(made.ID), itoa(members[0].ID)
	const ok, no, gone = http.StatusOK, http.StatusForbidden, http.StatusNotFound
	people := []*browser{v.as("admin"), v.as("gina"), v.as("nobody")}
	nobody := v.as("")
	for _, tt := range []struct {
		path                string
		admin, guest, other int
	}{
		{"/c/", ok, ok, ok},
		{"/c/?window=24h", ok, ok, ok},
		{"/c/account", ok, ok, ok},
		{"/c/search?q=app", ok, ok, ok},
		{"/c/connect", ok, ok, ok},
		{"/c/connect?for=containerd", ok, ok, ok},
		{"/c/connect?for=docker", ok, ok, ok},
		{"/c/connect?for=podman", ok, ok, ok},
		{"/c/connect?for=buildkit", ok, ok, ok},
		{"/c/explain", ok, ok, ok},
		{"/c/explain?image=busybox", ok, ok, ok},
		{"/c/clients", ok, no, no},
		{"/c/clients?q=10.0.0.3", ok, no, no},
		{"/c/projects", ok, ok, ok},
		{"/c/projects?q=nothing-like-that", ok, ok, ok},
		{"/c/projects/new", ok, no, no},
		{"/c/projects/new?kind=hosted", ok, no, no},
		{"/c/projects/hub", ok, ok, ok},
		{"/c/projects/hub?q=busy&order=pulled", ok, ok, ok},
		{"/c/projects/hub?page=7", ok, ok, ok},
		{"/c/projects/shop", ok, ok, gone},
		{"/c/projects/none-of-that", gone, gone, gone},
		{"/c/projects/shop/settings", ok, no, gone},
		{"/c/projects/hub/settings", ok, no, no},
		{"/c/projects/declared/settings", ok, no, no},
		{"/c/projects/shop/members", ok, ok, gone},
		{"/c/projects/shop/members/" + member + "/delete", ok, ok, gone},
		{"/c/projects/shop/robots", ok, ok, gone},
		{"/c/projects/shop/robots/" + robot + "/delete", ok, ok, gone},
		{"/c/projects/shop/delete", ok, ok, gone},
		{"/c/repositories/shop/app", ok, ok, gone},
		{"/c/repositories/shop/app?show=all&q=v", ok, ok, gone},
		{"/c/repositories/shop/none", gone, gone, gone},
		{"/c/repositories/hub/library/busybox", ok, ok, ok},
		{"/c/repositories/shop", gone, gone, gone},
		{"/c/artifacts/shop/app?ref=v1", ok, ok, gone},
		{"/c/artifacts/shop/app?ref=" + d.String(), ok, ok, gone},
		{"/c/artifacts/shop/app?ref=none", gone, gone, gone},
		{"/c/artifacts/shop/app", gone, gone, gone},
		{"/c/artifacts/hub/library/busybox?ref=latest", ok, ok, ok},
		{"/c/remove/shop/app", ok, no, gone},
		{"/c/remove/shop/app?ref=v1", ok, no, gone},
		{"/c/remove/hub/library/busybox", ok, no, no},
		{"/c/registries", ok, no, no},
		{"/c/registries/new", ok, no, no},
		{"/c/registries/1", ok, no, no},
		{"/c/registries/2", ok, no, no},
		{"/c/registries/1/delete", ok, no, no},
		{"/c/registries/99", gone, no, no},
		{"/c/registries/x", gone, gone, gone},
		{"/c/robots", ok, no, no},
		{"/c/robots/" + robot + "/delete", gone, gone, no}, // it is a project's
		{"/c/jobs", ok, no, no},
		{"/c/audit", ok, no, no},
		{"/c/audit?actor=admin&action=create&since=2020-01-01&outcome=done&resource=shop", ok, no, no},
		{"/c/users", ok, no, no},
		{"/c/users?q=gi", ok, no, no},
		{"/c/users/new", ok, no, no},
		{"/c/users/1", ok, no, no},
		{"/c/users/2", ok, no, no},
		{"/c/users/2/delete", ok, no, no},
		{"/c/nothing", gone, gone, gone},
	} {
		nobody.get(tt.path).leads(t, signInFor(tt.path))
		for i, want := range []int{tt.admin, tt.guest, tt.other} {
			for _, l := range languages {
				people[i].headers["Accept-Language"] = string(l)
				p := people[i].get(tt.path)
				if p.status != want {
					t.Errorf("%s as %d: status %d, want %d", tt.path, i, p.status, want)
				}
				checkPage(t, tt.path, l, p)
			}
		}
	}
}

func signInFor(path string) string {
	if path == "/c/" {
		return "/c/signin"
	}
	return "/c/signin?next=" + url.QueryEscape(path)
}

// checkPage wants what every page has to be.
func checkPage(t *testing.T, path string, l language, p page) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "same-origin", "Cache-Control": "no-store", "Content-Language": string(l),
	} {
		if got := p.header.Get(name); got != want {
			t.Errorf("%s: %s: %q, want %q", path, name, got, want)
		}
	}
	if strings.Contains(p.body, "⟦") || strings.Contains(p.body, "ZgotmplZ") || strings.Contains(p.body, "%!") {
		t.Errorf("%s in %s has a message that there is not, or text that is unsafe where it stands:\n%s", path, l, p.body)
	}
	doc, err := html.Parse(strings.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	ids, heads := map[string]bool{}, 0
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "h1" {
			heads++
		}
		if n.Data == "style" || n.Data == "script" && n.FirstChild != nil {
			t.Errorf("%s has a %s in it, which its policy does not let work", path, n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("%s has two elements with the id %q", path, a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
				t.Errorf("%s has the attribute %s, which its policy does not let work", path, a.Key)
			}
		}
	}
	if heads != 1 {
		t.Errorf("%s has %d headings of the first order, want 1", path, heads)
	}
}

var attribute = regexp.MustCompile(`aria-[a-z]+="[^"]*"`)

// What the pages are written of has no words of its own: they are all in the messages.
func TestPagesHaveNoTextOfTheirOwn(t *testing.T) {
	names, err := files.ReadDir("pages")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := files.ReadFile("pages/" + name.Name())
		if err != nil {
			t.Fatal(err)
		}
		rest := withoutActions(string(text))
		z := html.NewTokenizer(strings.NewReader(rest))
		for {
			kind := z.Next()
			if kind == html.ErrorToken {
				break
			}
			token := z.Token()
			// One part is attributes, which stand in the tags of others.
			if kind == html.TextToken && hasLetter(attribute.ReplaceAllString(token.Data, "")) {
				t.Errorf("%s says %q", name.Name(), strings.TrimSpace(token.Data))
			}
			for _, a := range token.Attr {
				switch a.Key {
				case "aria-label", "title", "alt", "placeholder":
					if hasLetter(a.Val) {
						t.Errorf("%s says %s=%q", name.Name(), a.Key, a.Val)
					}
				}
			}
		}
	}
}

func withoutActions(text string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, text, _ = strings.Cut(rest, "}}")
	}
}

func hasLetter(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 0x2fff })
}
