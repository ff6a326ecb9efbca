package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

func TestExplainPage(t *testing.T) {
	v := open(t)
	v.image(registry.Repo{Project: "shop", Name: "app"}, "v1", plainConfig, `{}`)
	file := "mirrors:\n  ksd.example.com:\n    endpoint: [ \"http://mirror.example.com\", \"https://other.example.com/v2/x\" ]\n    rewrite:\n      \"^ksd/(.*)\": \"shop/$1\"\n      \"^ksd/\": \"nowhere/\"\n"
	form := url.Values{"image": {"ksd.example.com/ksd/app:v1"}, "registries": {file}}
	for _, l := range languages {
		admin, other := v.as("admin"), v.as("nobody")
		admin.headers["Accept-Language"], other.headers["Accept-Language"] = string(l), string(l)
		p := admin.post("/c/explain", form)
		p.has(t, http.StatusOK, "HEAD http://mirror.example.com/v2/shop/app/manifests/v1?ns=ksd.example.com", `href="/c/projects/shop"`, "nowhere/app", "wharfie")
		checkPage(t, "/c/explain", l, p)
		if l == english {
			p.has(t, http.StatusOK, "2 rules match.", "pushed", "as the name begins with the project", "no project here has it")
		}
		hidden := other.post("/c/explain", form)
		hidden.has(t, http.StatusOK, "no project here has it")
		if strings.Contains(hidden.body, "/c/projects/shop") {
			t.Error("who may not see a project is told of it")
		}
	}
	b := v.as("admin")
	p := b.post("/c/explain", url.Values{"image": {"busybox"}})
	p.has(t, http.StatusOK, "With this server in the image", "https://up.example/v2/library/busybox/manifests/latest", "not here")
	v.offline = true
	for l, want := range map[language]string{english: "No pull asks</dt><dd><code class=\"break\">https://up.example/v2/library/busybox/manifests/latest</code> <span class=\"dim\">offline: ", chinese: "离线模式"} {
		b.headers["Accept-Language"] = string(l)
		b.post("/c/explain", url.Values{"image": {"busybox"}}).has(t, http.StatusOK, want)
	}
	b.headers["Accept-Language"], v.offline = string(english), false
	b.post("/c/explain", url.Values{"image": {"a b"}}).has(t, http.StatusUnprocessableEntity, "is not the name of an image", `aria-invalid="true"`)
	b.post("/c/explain", url.Values{"image": {"a"}, "registries": {"a: ["}}).has(t, http.StatusUnprocessableEntity, "line 1 of it is no YAML")
}

func TestClientsPage(t *testing.T) {
	v := open(t)
	v.estate.Asked(registry.Asked{At: time.Now(), Remote: "10.0.0.3:4711", Agent: "containerd/2.0 <b>", Kind: "manifest", Repo: registry.Repo{Project: "hub", Name: "library/none"}, Ref: "1", NS: "docker.io", Status: 404, Known: true})
	b := v.as("admin")
	p := b.get("/c/clients?q=0.0.3")
	p.has(t, http.StatusOK, "10.0.0.3", "containerd/2.0 &lt;b&gt;", "404 manifest hub/library/none:1", "0 from here, 0 from upstream, 0 stale, 1 errors")
	checkPage(t, "/c/clients", english, p)
	b.get("/c/clients?q=10.0.0.4").has(t, http.StatusOK, "10.0.0.4")
}
