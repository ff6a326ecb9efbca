package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a node of a cluster is told of an image by "explain", hop by hop, is what becomes of it: on a
// server with TLS, a private project and a proxy, whose answers are seen with --probe.
func TestExplain(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 640000}.make(t, "1")
	u.push(t, "team/app", img)
	w := startWharf(t, nodeConfig{tls: true, plain: true, projects: map[string]any{
		"quay.io": u.project(map[string]any{"ttl": "1h", "deny": []string{"secret/**"}}),
	}}, "puller")
	w.knows(w.puller)
	web := recipe{seed: 641000}.make(t, "1")
	if err := w.as(w.root).push("production/web", web); err != nil {
		t.Fatal(err)
	}
	// Nothing listens at the registry that the images are of: so what is asked is asked here alone.
	const origin = "127.0.0.1:1"
	file := filepath.Join(w.home, "registries.yaml")
	registries := func(replace string) {
		t.Helper()
		text := fmt.Sprintf("mirrors:\n  %q:\n    endpoint: [ %q ]\n    rewrite:\n      \"(^.+$)\": %q\nconfigs:\n  %q:\n    auth: { username: %q, password: %q }\n    tls: { ca_file: %q }\n",
			origin, w.url, replace, w.addr, w.puller.name, w.puller.secret, w.ca)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	explain := func(args ...string) string {
		t.Helper()
		out, err := w.command("explain", append([]string{"--server", w.url}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(w.url, "https://SELF", w.addr, "SELF", u.url, "http://UP", string(img.top().digest), "DIGEST", string(web.top().digest), "DIGEST", w.puller.name, "PULLER").Replace(string(out))
		text = regexp.MustCompile(`Content-Length: [0-9]+`).ReplaceAllString(text, "Content-Length: N")
		text = regexp.MustCompile(`[0-9]+ ms`).ReplaceAllString(text, "N ms")
		return regexp.MustCompile(`checked [0-9]+s ago`).ReplaceAllString(text, "checked Ns ago")
	}
	compare := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("explained as\n%s\nwant\n%s", got, want)
		}
	}

	registries("quay.io/$1")
	compare(explain("--registries", file, origin+"/team/app:1"), explainedAbsent)
	registries("production/$1")
	compare(explain("--registries", file, "--probe", origin+"/web:1"), explainedPushed)
	registries("nothing/$1")
	got := explain("--registries", file, "--probe", "--no-default", origin+"/web:1")
	for _, want := range []string{
		"HEAD https://SELF/v2/nothing/web/manifests/1?ns=127.0.0.1%3A1\n       404 Not Found, N ms\n", "! the registry itself is not asked: disable-default-registry-endpoint\n",
		"here: nothing: no project here stands for the registry \"127.0.0.1:1\"", "GET http://127.0.0.1:1/v2/\n       dial tcp 127.0.0.1:1: connect: connection refused, N ms\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("a project that is not here is explained as\n%s\nwithout %q", got, want)
		}
	}
	registries("quay.io/$1")
	got = explain("--registries", file, "--probe", origin+"/team/app:1", origin+"/secret/app:1")
	for _, want := range []string{
		"HEAD https://SELF/v2/quay.io/team/app/manifests/1?ns=127.0.0.1%3A1\n       200 OK, N ms\n", "not asked, as the one before has it\n",
		"HEAD https://SELF/v2/quay.io/secret/app/manifests/1?ns=127.0.0.1%3A1\n       403 Forbidden, N ms\n",
		"here: refused: quay.io/secret/app:1 is on the deny list of project quay.io\n", "HEAD http://127.0.0.1:1/v2/secret/app/manifests/1\n       dial tcp",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("a proxy is explained as\n%s\nwithout %q", got, want)
		}
	}
	// What was asked for is here now, and the probe has waited until the catalog knew it.
	got = explain("--registries", file, origin+"/team/app:1")
	for _, want := range []string{
		"here: fresh: checked Ns ago, good for 1h0m0s\n", "here: DIGEST, stored, with 0 of 3 parts\n", "here: no pull asks upstream, which is http://UP/v2/team/app/manifests/1\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("after a pull it is explained as\n%s\nwithout %q", got, want)
		}
	}
	var all []struct {
		Ways []struct {
			Steps []struct {
				Outcomes []struct {
					Here *struct {
						State, Digest string
						Stored, Asks  bool
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(explain("--registries", file, "--json", origin+"/team/app:1")), &all); err != nil {
		t.Fatal(err)
	}
	here := all[0].Ways[0].Steps[0].Outcomes[0].Here
	if here == nil || here.State != "fresh" || here.Digest != "DIGEST" || !here.Stored || here.Asks {
		t.Errorf("after the probe, here is %+v", here)
	}
}

const explainedAbsent = `127.0.0.1:1/team/app:1

containerd, by mirrors."127.0.0.1:1" on line 2
  1. https://SELF/v2 (line 3), as PULLER
     rewritten by "(^.+$)" (line 5) to quay.io/team/app
     HEAD https://SELF/v2/quay.io/team/app/manifests/1?ns=127.0.0.1%3A1
     token repository:quay.io/team/app:pull
     here: team/app in the proxy project quay.io, as the name begins with the project
     here: not here yet
     here: a pull asks http://UP/v2/team/app/manifests/1
  2. http://127.0.0.1:1/v2, the registry itself
     HEAD http://127.0.0.1:1/v2/team/app/manifests/1
     token repository:team/app:pull

wharfie, by mirrors."127.0.0.1:1" on line 2
  1. https://SELF/v2 (line 3), as PULLER
     rewritten by "(^.+$)" (line 5) to quay.io/team/app
     GET https://SELF/v2/?ns=127.0.0.1%3A1
     GET https://SELF/v2/quay.io/team/app/manifests/1?ns=127.0.0.1%3A1
     token repository:quay.io/team/app:pull
     here: team/app in the proxy project quay.io, as the name begins with the project
     here: not here yet
     here: a pull asks http://UP/v2/team/app/manifests/1
  2. http://127.0.0.1:1/v2, the registry itself
     GET http://127.0.0.1:1/v2/
     GET http://127.0.0.1:1/v2/team/app/manifests/1
     token repository:team/app:pull
`

const explainedPushed = `127.0.0.1:1/web:1

containerd, by mirrors."127.0.0.1:1" on line 2
  1. https://SELF/v2 (line 3), as PULLER
     rewritten by "(^.+$)" (line 5) to production/web
     HEAD https://SELF/v2/production/web/manifests/1?ns=127.0.0.1%3A1
       200 OK, N ms
       token: by https://SELF/service/token, as PULLER
       Content-Type: application/vnd.oci.image.manifest.v1+json
       Content-Length: N
       Docker-Content-Digest: DIGEST
     token repository:production/web:pull
     here: web in the hosted project production, as the name begins with the project
     here: pushed
     here: DIGEST, stored, with 3 of 3 parts
  2. http://127.0.0.1:1/v2, the registry itself
     not asked, as the one before has it

wharfie, by mirrors."127.0.0.1:1" on line 2
  1. https://SELF/v2 (line 3), as PULLER
     rewritten by "(^.+$)" (line 5) to production/web
     GET https://SELF/v2/?ns=127.0.0.1%3A1
       401 Unauthorized, N ms
       Content-Type: application/json
       Content-Length: N
       Www-Authenticate: Bearer realm="https://SELF/service/token?ns=127.0.0.1%3A1",service="roadstead"
     GET https://SELF/v2/production/web/manifests/1?ns=127.0.0.1%3A1
       200 OK, N ms
       token: by https://SELF/service/token, as PULLER
       Content-Type: application/vnd.oci.image.manifest.v1+json
       Content-Length: N
       Docker-Content-Digest: DIGEST
     token repository:production/web:pull
     here: web in the hosted project production, as the name begins with the project
     here: pushed
     here: DIGEST, stored, with 3 of 3 parts
  2. http://127.0.0.1:1/v2, the registry itself
     not asked, as the one before has it
`
