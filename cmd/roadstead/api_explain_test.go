package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// explained is what the API says of an image, as far as these tests look at it.
type explained struct {
	Ways []struct {
		Client string
		Steps  []struct {
			Endpoint string
			Self     bool
			Outcomes []struct {
				Here *struct {
					Clause, Project, Refused, State string
					Stored, Asks, Offline           bool
					TTL                             int64 `json:"ttl_seconds"`
					Upstream                        []string
				}
			}
		}
	}
}

func (b *bureau) explain(user, body string) (e explained, text string) {
	b.t.Helper()
	_, answer := b.askAs(user, 200, "POST", "/api/roadstead/v1/explain", body)
	if err := json.Unmarshal(answer, &e); err != nil {
		b.t.Fatal(err)
	}
	return e, string(answer)
}

// Of a private project whoever may not pull from it is told what is told of one that is not there.
func TestExplainByAPI(t *testing.T) {
	b := openBureau(t)
	v2 := "/api/v2.0"
	registry, _ := b.ask(201, "POST", v2+"/registries", fmt.Sprintf(`{"name":"there","type":"docker-registry","url":%q,"allow_private":true}`, b.up.URL()))
	b.ask(201, "POST", v2+"/projects", `{"project_name":"secret","public":false,"registry_id":`+registry[strings.LastIndexByte(registry, '/')+1:]+`}`)
	b.ask(201, "POST", v2+"/users", fmt.Sprintf(`{"username":"outsider","email":"o@example.com","password":%q}`, apiPassword))
	b.ask(200, "POST", "/api/roadstead/v1/projects/secret/repositories/team%252Fapp/tags/v1/refresh", "")
	host := strings.TrimPrefix(b.url, "http://")
	ask := func(user, project string) (explained, string) {
		text := fmt.Sprintf("mirrors: { x.example: { endpoint: [ %q ], rewrite: { '(^.+$)': '%s/$1' } } }", b.url, project)
		body, err := json.Marshal(map[string]any{"image": "x.example/team/app:v1", "registries": text, "no_default": true})
		if err != nil {
			t.Fatal(err)
		}
		return b.explain(user, string(body))
	}

	e, text := ask("admin", "secret")
	here := e.Ways[0].Steps[0].Outcomes[0].Here
	if len(e.Ways) != 2 || !e.Ways[0].Steps[0].Self || here == nil || here.Clause != "name" || here.Project != "secret" || here.State != "fresh" && here.State != "stale" || !here.Stored ||
		len(here.Upstream) != 1 || here.Upstream[0] != b.up.URL()+"/v2/team/app/manifests/v1" {
		t.Errorf("for an administrator: %s", text)
	}
	_, hidden := ask("outsider", "secret")
	_, absent := ask("outsider", "absent")
	if strings.ReplaceAll(hidden, "secret", "absent") != absent || strings.Contains(hidden, b.up.URL()) {
		t.Errorf("an outsider is told\n%s\nof a private project, and of none\n%s", hidden, absent)
	}
	if _, text := b.explain("outsider", fmt.Sprintf(`{"image":"%s/secret/team/app:v1"}`, host)); strings.Contains(text, "direct") {
		t.Errorf("an outsider is told of a private project by its name: %s", text)
	}
	if e, text := b.explain("outsider", `{"image":"declared.example/team/app:v1"}`); len(e.Ways) != 2 || e.Ways[0].Client != "direct" || e.Ways[1].Client != "ns" ||
		e.Ways[1].Steps[0].Outcomes[0].Here.Clause != "ns" || !strings.HasPrefix(e.Ways[0].Steps[0].Endpoint, b.url) {
		t.Errorf("without a file: %s", text)
	}
	for _, body := range []string{`{"image":"a b"}`, `{"image":"busybox","registries":"a: ["}`, `{"image":"busybox","registries":"mirrors: { a: { endpoint: [ ` + strings.Repeat("a,", 11) + ` ] } }"}`} {
		b.ask(400, "POST", "/api/roadstead/v1/explain", body)
	}
}

// A server that is offline asks nobody, and says so: by the API, and by the command beside it and without it.
func TestExplainOffline(t *testing.T) {
	b := openBureau(t)
	b.ask(200, "POST", "/api/roadstead/v1/projects/declared.example/repositories/team%252Fapp/tags/v1/refresh", "")
	b.more["offline"] = true
	rewriteConfiguration(t, b.config, b.projects, b.more)
	b.signal(syscall.SIGHUP)
	b.wait("configuration reloaded")
	tell := func(image string) (here []string) {
		t.Helper()
		e, text := b.explain("admin", fmt.Sprintf(`{"image":"declared.example/team/app:%s"}`, image))
		for _, w := range e.Ways {
			h := w.Steps[0].Outcomes[0].Here
			if h == nil || !h.Offline || h.Asks || h.TTL != 0 {
				t.Fatalf("%s: %s", image, text)
			}
			here = append(here, h.State)
		}
		return here
	}
	if got := append(tell("v1"), tell("none")...); !slices.Equal(got, []string{"fresh", "fresh", "absent", "absent"}) {
		t.Errorf("the states are %q", got)
	}
	for _, running := range []bool{true, false} {
		if !running {
			b.signal(syscall.SIGTERM)
			b.exit()
		}
		for image, want := range map[string]string{
			"v1":   "here: served, however old: checked ",
			"none": "here: not here yet\n     here: offline: no upstream is asked; a pull is 503\n",
		} {
			out, _, status := command("explain", "--config", b.config, "declared.example/team/app:"+image)
			if status != 0 || !strings.Contains(out, want) || strings.Contains(out, "asks") || strings.Contains(out, "good for") {
				t.Errorf("running %v, %s: %d\n%s", running, image, status, out)
			}
		}
	}
}

// Where nobody has said where this server is, the command says what it takes for it.
func TestExplainSaysWhatItGuesses(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "registries.yaml", "mirrors: { docker.io: { endpoint: [ 'https://mirror.example:5000', 'https://quay.io' ] } }")
	write(t, "roadstead.yaml", "url: https://mirror.example:5000\n")
	for _, row := range []struct {
		args string
		want string
	}{
		{"--registries registries.yaml busybox", "mirror.example:5000 is taken for this server, as no registry cached here is called that; "},
		{"--registries registries.yaml --json busybox alpine", "mirror.example:5000 is taken for this server, as no registry cached here is called that; "},
		{"--registries registries.yaml --server https://other.example busybox", ""},
		{"--registries registries.yaml --config roadstead.yaml busybox", ""},
		{"busybox", ""},
	} {
		args := strings.Fields("explain " + row.args)
		if !strings.Contains(row.args, "--config") {
			write(t, "bare.yaml", "{}\n")
			args = append(args, "--config", "bare.yaml")
		}
		_, errs, status := command(args...)
		if status != 0 || !strings.HasPrefix(errs, row.want) || strings.Count(errs, "\n") > 1 || row.want == "" && errs != "" {
			t.Errorf("%s: %d, %q, want %q", row.args, status, errs, row.want)
		}
	}
}

// What is said to be here after a probe is what there is then: the tag that it had the server fetch, and
// what was found of its signature.
func TestExplainAfterAProbe(t *testing.T) {
	b := openBureau(t)
	signed := proxied(b.up)
	signed["verify"] = map[string]any{"keys": []string{publicKey(t)}}
	b.projects["signed.example"] = signed
	rewriteConfiguration(t, b.config, b.projects, b.more)
	b.signal(syscall.SIGHUP)
	b.wait("configuration reloaded")
	for project, want := range map[string][]string{
		"declared.example": {"200 OK", "here: fresh: checked ", ", stored, with ", "here: no pull asks upstream"},
		"signed.example":   {"403 Forbidden", "here: signature, enforce: not verified: "},
	} {
		out, errs, status := command("explain", "--config", b.config, "--server", b.url, "--probe", project+"/team/app:v1")
		for _, text := range want {
			if status != 0 || !strings.Contains(out, text) || strings.Contains(out, "not here yet") || strings.Contains(out, "not looked at yet") {
				t.Errorf("%s: %d %s\n%s\nwithout %q", project, status, errs, out, text)
			}
		}
	}
}

// Whoever asks is seen, by address and by what it calls itself.
func TestClientsSeenByAPI(t *testing.T) {
	b := openBureau(t)
	for _, tag := range []string{"v1", "v1", "none"} {
		b.get("/v2/declared.example/team/app/manifests/" + tag)
	}
	var seen []struct {
		Address, Agent         string
		Requests, Hits, Misses int64
		Errors                 int64
		LastRequest            string `json:"last_request"`
		LastError              string `json:"last_error"`
		Projects               []string
	}
	_, answer := b.ask(200, "GET", "/api/roadstead/v1/clients-seen?q=go-http", "")
	if err := json.Unmarshal(answer, &seen); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0].Address != "127.0.0.1" || seen[0].Misses != 1 || seen[0].Hits != 1 || seen[0].Errors != 1 ||
		seen[0].LastRequest != "manifest declared.example/team/app:none" || !strings.HasPrefix(seen[0].LastError, "404 manifest declared.example/team/app:none: ") || seen[0].Projects[0] != "declared.example" {
		t.Errorf("seen: %s", answer)
	}
	if _, answer := b.ask(200, "GET", "/api/roadstead/v1/clients-seen?q=containerd", ""); string(answer) != "[]\n" {
		t.Errorf("containerd has never asked: %s", answer)
	}
}

// publicKey makes a key that signatures could be by, as PEM.
func publicKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
