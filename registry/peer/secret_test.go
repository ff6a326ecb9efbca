package peer

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

func TestOnlyNodesAreLetIn(t *testing.T) {
	_, u, a, _ := pair(t)
	content, d := owned(t, a, 100)
	u.blobs[d] = content
	path := "/v2/" + repo.String() + "/blobs/" + d.String()
	now := time.Now()
	for _, row := range []struct {
		name   string
		sign   func(*http.Request)
		status int
		says   string
	}{
		{"signed", func(r *http.Request) { secret.sign(r, "b", now) }, 200, ""},
		{"no signature", func(*http.Request) {}, 403, "not signed"},
		{"credentials of a client", func(r *http.Request) { r.SetBasicAuth("admin", string(secret)) }, 403, "not signed"},
		{"another secret", func(r *http.Request) { Secret("another secret of some length").sign(r, "b", now) }, 403, "not signed"},
		{"an old signature", func(r *http.Request) { secret.sign(r, "b", now.Add(-2*time.Minute)) }, 403, "NTP"},
		{"one of the future", func(r *http.Request) { secret.sign(r, "b", now.Add(2*time.Minute)) }, 403, "NTP"},
		{"for another range", func(r *http.Request) { secret.sign(r, "b", now); r.Header.Set("Range", "bytes=5-") }, 403, "not signed"},
		{"for another path", func(r *http.Request) { secret.sign(r, "b", now); r.URL.Path += "0" }, 403, "not signed"},
		{"for another method", func(r *http.Request) { secret.sign(r, "b", now); r.Method = http.MethodDelete }, 403, "not signed"},
		{"of another node", func(r *http.Request) {
			secret.sign(r, "b", now)
			r.Header.Set(signature, strings.Replace(r.Header.Get(signature), "b;", "c;", 1))
		}, 403, "not signed"},
		{"a push", func(r *http.Request) { r.Method = http.MethodPut; secret.sign(r, "b", now) }, 404, "only"},
		{"another path", func(r *http.Request) { r.URL.Path = "/api/v2.0/users"; secret.sign(r, "b", now) }, 404, "only"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.self.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			row.sign(r)
			res, err := a.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != row.status || !strings.Contains(string(body), row.says) {
				t.Errorf("%d %q, want %d and %q", res.StatusCode, body, row.status, row.says)
			}
			if strings.Contains(string(body), string(secret)) {
				t.Error("the secret is told")
			}
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, row := range []struct {
		name string
		c    Config
		says string
	}{
		{"short secret", Config{Self: Node{"a", "http://127.0.0.1:1"}, Secret: "short", Roll: &roll{}}, "openssl rand"},
		{"no address", Config{Self: Node{"a", "10.0.0.7:5001"}, Secret: secret, Roll: &roll{}}, "http://host:port"},
		{"no name", Config{Self: Node{"", "http://127.0.0.1:1"}, Secret: secret, Roll: &roll{}}, "name"},
	} {
		if _, err := New(row.c); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want something of %q", row.name, err, row.says)
		}
	}
}

func TestOwnersAreSpreadAndStay(t *testing.T) {
	names := []string{"node-1", "node-2", "node-3", "node-4"}
	const digests = 4000
	owns := map[string]int{}
	moved := 0
	for i := range digests {
		d := ofTag(registry.Repo{Project: "p", Name: "n"}, time.Duration(i).String())
		with, without := top(names, d), top(names[:3], d)
		owns[with]++
		if with != without && with != "node-4" {
			moved++
		}
	}
	for _, name := range names {
		if n := owns[name]; n < digests/4*9/10 || n > digests/4*11/10 {
			t.Errorf("%s owns %d of %d", name, n, digests)
		}
	}
	if moved > 0 {
		t.Errorf("%d digests have moved between nodes that stay", moved)
	}
}

func top(names []string, d registry.Digest) (best string) {
	var most uint64
	for _, name := range names {
		if s := score(name, d); best == "" || s > most {
			best, most = name, s
		}
	}
	return best
}

func TestANodeThatDoesNotAnswerIsFrozenForSecondsOnly(t *testing.T) {
	_, u, a, b := pair(t)
	content, d := owned(t, a, 1<<20)
	u.blobs[d] = content
	// From now on a takes connections and never says a word: it is frozen.
	frozen := freeze(t)
	b.view.Store(&view{nodes: []Node{b.self, {"a", "http://" + frozen}}})
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	blob, err := b.source.Blob(ctx, repo, d)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	all, err := io.ReadAll(blob)
	if err != nil {
		t.Fatal(err)
	}
	same(t, all, content)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s to go to upstream instead", took)
	}
	if b.owner(d).ID != "b" {
		t.Error("a frozen node is asked again at once")
	}
}

// freeze returns the address of something that takes connections and never says a word.
func freeze(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
