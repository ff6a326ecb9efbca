package wharfie

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rancher/wharfie/pkg/registries"
	"github.com/sirupsen/logrus"

	"roadstead/rewrite"
)

// manifest is the only one that there is.
const manifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
	`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

// mirror is a registry that has every image, without a network: wharfie sends its plain HTTP
// requests through it. It remembers the last path that was asked for.
type mirror struct{ asked string }

func (m *mirror) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != "mirror.test" {
		return nil, fmt.Errorf("%s is not the mirror", req.URL)
	}
	m.asked = req.URL.Path
	body := "" // of the ping
	if strings.Contains(req.URL.Path, "/manifests/") {
		body = manifest
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/vnd.oci.image.manifest.v1+json"}},
		Body:       io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}, nil
}

func TestMain(m *testing.M) {
	// After a mirror, wharfie turns to the real registry, over TLS and a transport that it
	// makes itself: whatever got that far must get no further.
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:9")
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// ask has the real wharfie pull a reference through a mirror with these rules and returns the
// repository that it asked the mirror for. The rules become a map, as in registries.yaml, so
// of several the first is any.
func ask(t testing.TB, rules []rewrite.Rule, host string, ref name.Reference) string {
	t.Helper()
	registry, err := registries.GetPrivateRegistries("") // no file is an empty one
	if err != nil {
		t.Fatal(err)
	}
	rewrites := make(map[string]string)
	for _, rule := range rules {
		rewrites[rule.Pattern] = rule.Replace
	}
	registry.DefaultKeychain = nil
	registry.Registry.Mirrors = map[string]registries.Mirror{
		host: {Endpoints: []string{"http://mirror.test"}, Rewrites: rewrites},
	}
	m := &mirror{}
	before := remote.DefaultTransport
	remote.DefaultTransport = m
	defer func() { remote.DefaultTransport = before }()
	if _, err := registry.Image(ref); err != nil {
		t.Fatalf("wharfie could not pull %s with %q: %v", ref, rules, err)
	}
	repo, ok := strings.CutSuffix(strings.TrimPrefix(m.asked, "/v2/"), "/manifests/"+ref.Identifier())
	if !ok {
		t.Fatalf("wharfie asked for %s last", m.asked)
	}
	return repo
}

// TestRewrite compares the answers of rewrite with wharfie's for rules and names that look
// like real ones. Of rules that overlap, every outcome must be one of wharfie's and no other.
func TestRewrite(t *testing.T) {
	const cases = 3000
	seen := make(map[string]int)
	for i := range cases {
		g := generator{rand.New(rand.NewPCG(1, uint64(i)))}
		host, rules := g.pick(hosts), g.rules()
		text := host + "/" + g.repo() + g.pick([]string{":1.36", "@" + digestOfManifest})
		ref, err := name.ParseReference(text)
		if err != nil {
			t.Fatalf("the generator made a bad reference: %v", err)
		}
		repo := ref.Context().RepositoryStr()
		_, want := rewrite.Outcomes(rules, host, repo)
		// A rule seldom comes first in a small map, one time in eight at worst: 400 times
		// without it are as good as never.
		got := make(map[string]bool)
		for tries := 0; tries < 400 && len(got) < len(want); tries++ {
			got[ask(t, rules, host, ref)] = true
		}
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("case %d: %s with %q: wharfie asks for %q, want %q", i, text, rules, slices.Sorted(maps.Keys(got)), want)
		}
		if ours := rewrite.Wharfie(rules, host, repo); ours != want[0] {
			t.Errorf("case %d: %s with %q: Wharfie is %q, want %q", i, text, rules, ours, want[0])
		}
		classify(seen, rules, repo, want)
	}
	t.Log(seen)
	for _, class := range []string{"changed", "unchanged", "ambiguous", "refused by the grammar", "library came back", "bad pattern"} {
		if seen[class] < cases/100 {
			t.Errorf("the generator made only %d of %d cases %q", seen[class], cases, class)
		}
	}
}

// classify counts what a case shows, so that the generator cannot quietly stop to show it.
func classify(seen map[string]int, rules []rewrite.Rule, repo string, outcomes []string) {
	switch {
	case len(outcomes) > 1:
		seen["ambiguous"]++
	case outcomes[0] != repo:
		seen["changed"]++
	default:
		seen["unchanged"]++
	}
	// containerd takes whatever comes out of a rule, which tells what wharfie did not take.
	_, raw := rewrite.Containerd(rules, repo)
	switch {
	case raw != repo && !slices.Contains(outcomes, raw) && slices.Contains(outcomes, "library/"+raw):
		seen["library came back"]++
	case raw != repo && !slices.Contains(outcomes, raw):
		seen["refused by the grammar"]++
	}
	for _, rule := range rules {
		if slices.Contains(bad, rule.Pattern) {
			seen["bad pattern"]++
			break
		}
	}
}

func FuzzRewrite(f *testing.F) {
	for i := range uint64(50) {
		g := generator{rand.New(rand.NewPCG(2, i))}
		rule := g.rule()
		f.Add(rule.Pattern, rule.Replace, g.pick(hosts), g.repo())
	}
	f.Fuzz(func(t *testing.T, pattern, replace, host, repo string) {
		ref, err := name.ParseReference(host + "/" + repo + ":1")
		if err != nil || !slices.Contains(hosts, host) {
			return
		}
		rules := []rewrite.Rule{{Pattern: pattern, Replace: replace}}
		got, want := rewrite.Wharfie(rules, host, ref.Context().RepositoryStr()), ask(t, rules, host, ref)
		if got != want {
			t.Errorf("%s with %q: Wharfie is %q, want %q", ref, rules, got, want)
		}
	})
}
