package wharfie

import (
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	wharfies "github.com/rancher/wharfie/pkg/registries"
	"gopkg.in/yaml.v3"

	"roadstead/rewrite"
	"roadstead/rewrite/registries"
)

// empty is a registry without images at every address. It remembers what it was asked for, with "!"
// before what came with credentials.
type empty struct{ asked []string }

func (e *empty) RoundTrip(req *http.Request) (*http.Response, error) {
	text := req.Method + " " + req.URL.String()
	if req.Header.Get("Authorization") != "" {
		text = "!" + text
	}
	e.asked = append(e.asked, text)
	status := http.StatusNotFound
	if strings.HasSuffix(req.URL.Path, "/") {
		status = http.StatusOK
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

// TestSteps compares, for files that look like real ones, all requests that wharfie sends where nobody
// has the image with those that Steps says.
func TestSteps(t *testing.T) {
	const cases = 1500
	dir, mirrored := t.TempDir(), 0
	for i := range cases {
		g := generator{rand.New(rand.NewPCG(3, uint64(i)))}
		file := g.file()
		text, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "registries.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		image := g.pick(hosts) + "/" + g.repo() + g.pick([]string{":1.36", "@" + digestOfManifest})

		registry, err := wharfies.GetPrivateRegistries(path)
		if err != nil {
			t.Fatalf("case %d: %v\n%s", i, err, text)
		}
		registry.DefaultKeychain = nil
		ref, err := name.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		e := &empty{}
		before := remote.DefaultTransport
		remote.DefaultTransport = e
		_, err = registry.Image(ref)
		remote.DefaultTransport = before
		if err == nil {
			t.Fatalf("case %d: wharfie has got %s from nobody", i, image)
		}

		f, err := registries.Parse(text)
		if err != nil {
			t.Fatalf("case %d: %v\n%s", i, err, text)
		}
		parsed, err := rewrite.ParseImage(image)
		if err != nil {
			t.Fatal(err)
		}
		way := registries.Steps(f, parsed, registries.Wharfie)
		var want []string
		for _, s := range way.Steps {
			if strings.HasPrefix(s.Endpoint, "https://") {
				continue // over a transport that is wharfie's own and leads nowhere
			}
			for _, r := range s.Outcomes[0].Requests {
				if r.Kind == "ping" {
					want = append(want, r.Method+" "+r.URL)
				}
				if r.Kind == "tag" {
					with := ""
					if s.User != "" {
						with = "!"
					}
					want = append(want, with+r.Method+" "+r.URL)
				}
			}
		}
		if len(want) > 2 {
			mirrored++
		}
		if !slices.Equal(e.asked, want) {
			t.Errorf("case %d: for %s wharfie asks\n%s\nwant\n%s\nof\n%s", i, image, strings.Join(e.asked, "\n"), strings.Join(want, "\n"), text)
		}
	}
	if mirrored < cases/4 {
		t.Errorf("only %d of %d cases have more than one endpoint to compare", mirrored, cases)
	}
}

// file makes a registries.yaml, with one rule for each mirror: of more the first is any.
func (g generator) file() map[string]any {
	mirrors, configs := map[string]any{}, map[string]any{}
	for range 1 + g.IntN(4) {
		host := g.pick(append([]string{"*", "quay.io:443", "index.docker.io", "registry.local:80"}, hosts...))
		mirror := map[string]any{}
		var endpoints []string
		for range g.IntN(4) {
			endpoints = append(endpoints, "http://"+g.pick([]string{"mirror.test", "other.test:5000", "quay.io", "docker.io", "registry.local:5000"})+
				g.pick([]string{"", "", "/", "/v2", "/v2/", "/v2/hub", "/hub", "//v2/a/../b"}))
		}
		if endpoints != nil {
			mirror["endpoint"] = endpoints
		}
		if g.IntN(3) > 0 {
			rule := g.rule()
			mirror["rewrite"] = map[string]string{rule.Pattern: rule.Replace}
		}
		mirrors[host] = mirror
	}
	for range g.IntN(3) {
		config := map[string]any{}
		if g.IntN(3) > 0 {
			config["auth"] = map[string]string{"username": "somebody", "password": "secret"}
		}
		configs[g.pick([]string{"*", "mirror.test", "other.test:5000", "quay.io", "docker.io"})] = config
	}
	return map[string]any{"mirrors": mirrors, "configs": configs}
}
