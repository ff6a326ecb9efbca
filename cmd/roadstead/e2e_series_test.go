package main_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Whatever clients make up, no metric gets a series for it (FAULTS C13).
func TestC13_SeriesAreBounded(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{plain: true})
	series := func() (n int) {
		res, err := http.Get(w.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				n++
			}
		}
		return n
	}
	// Each kind of request once: what is known of one may be counted from now on.
	img := recipe{seed: 370000}.make(t, "1")
	if err := w.as(w.root).push("open/team/web", img); err != nil {
		t.Fatal(err)
	}
	if err := w.pull("open/team/web", "1", img); err != nil {
		t.Fatal(err)
	}
	before := series()
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 13))
			word := func() string { return fmt.Sprintf("x%x", random.Uint64()) }
			for range 1000 {
				method := []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", strings.ToUpper(word())}[random.IntN(7)]
				path := []string{"/v2/%s/%s/manifests/%s", "/v2/open/%s/blobs/%s%s", "/v2/open/%s/manifests/%s%s", "/%s/%s/%s", "/v2/open/%s/tags/list?%s=%s", "/service/%s?%s=%s"}[random.IntN(6)]
				n := w.node
				if random.IntN(100) == 0 {
					n = w.as(account{word(), word()})
				}
				if _, err := n.tryAsk(method, fmt.Sprintf(path, word(), word(), word()), "User-Agent: "+word(), "X-Forwarded-For: "+word(), "Host: "+word()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	if grown := series() - before; grown > 50 {
		t.Errorf("8,000 requests that somebody made up added %d series, want at most 50", grown)
	}
}
