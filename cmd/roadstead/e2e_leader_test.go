package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// leads reports whether a node says that it does.
func (n *node) leads() bool { return n.metric("roadstead_cluster_leader") == 1 }

// byLead waits until one of the two nodes leads, and returns the other one and that.
func (c *nodesOf) byLead(t *testing.T) (follower, leader *node) {
	t.Helper()
	eventually(t, 15*time.Second, "one node that leads", func() bool { return c.nodes[0].leads() != c.nodes[1].leads() })
	if c.nodes[0].leads() {
		return c.nodes[1], c.nodes[0]
	}
	return c.nodes[0], c.nodes[1]
}

// takesOver returns how long it takes until a node leads, once that is known.
func takesOver(n *node) <-chan time.Duration {
	start, took := time.Now(), make(chan time.Duration, 1)
	go func() {
		for !n.leads() && time.Since(start) < 30*time.Second {
			time.Sleep(100 * time.Millisecond)
		}
		took <- time.Since(start)
	}()
	return took
}

// orders are given at the node that does not lead, and asked about at the one that does.
func (c *nodesOf) orders(t *testing.T) {
	follower, leader := c.byLead(t)
	if health := c.health(t, follower); !strings.Contains(health, fmt.Sprintf(`"leader node-%d"`, c.number(leader))) {
		t.Errorf("the health of a node that does not lead is %s", health)
	}
	at, of := follower.as(c.root), leader.as(c.root)
	ordered := at.call(http.StatusCreated, http.MethodPost, v2+"/system/gc/schedule", `{"schedule":{"type":"Manual"},"parameters":{"dry_run":false}}`)
	eventually(t, 10*time.Second, "a collection that has ended", func() bool {
		a := of.ask(http.MethodGet, ordered.header.Get("Location"))
		return a.whole() && strings.Contains(string(a.body), `"Success"`)
	})
	j := decoded[struct {
		ID   int64  `json:"id"`
		Node string `json:"node"`
	}](t, at.call(http.StatusAccepted, http.MethodPost, "/api/roadstead/v1/scrub", ""))
	if j.Node != fmt.Sprintf("node-%d", c.number(follower)) {
		t.Errorf("the job is at %q", j.Node)
	}
	eventually(t, 10*time.Second, "a job that has ended", func() bool {
		return strings.Contains(string(of.ask(http.MethodGet, fmt.Sprintf("/api/roadstead/v1/jobs/%d", j.ID)).body), `"success"`)
	})
}

func (c *nodesOf) number(n *node) int {
	for i, one := range c.nodes {
		if one == n {
			return i
		}
	}
	return -1
}

// browse signs in at one node and goes on at the other, as with a balancer that keeps nobody anywhere.
func (c *nodesOf) browse(t *testing.T) {
	for i := range c.nodes {
		if _, err := os.Stat(filepath.Join(c.nodes[i].dir, "keys")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("node %d has keys of its own: %v", i, err)
		}
	}
	jar, err := cookiejar.New(nil) // cookies do not go by the port
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	send := func(n *node, path string, form url.Values) int {
		t.Helper()
		res, err := browser.PostForm(n.url+path, form)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	status := func(n *node) int {
		t.Helper()
		res, err := browser.Get(n.url + "/c/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	signIn := func(at *node) {
		t.Helper()
		if got := send(at, "/c/signin", url.Values{"username": {c.root.name}, "password": {c.root.secret}}); got != http.StatusSeeOther {
			t.Fatalf("sign in: %d", got)
		}
	}
	for i, at := range c.nodes {
		other := c.nodes[1-i]
		signIn(at)
		if here, there := status(at), status(other); here != http.StatusOK || there != http.StatusOK {
			t.Errorf("signed in at node %d the pages are %d here and %d there", i, here, there)
		}
		u, err := url.Parse(at.url)
		if err != nil {
			t.Fatal(err)
		}
		kept := jar.Cookies(u)
		if got := send(other, "/c/signout", nil); got != http.StatusSeeOther {
			t.Fatalf("sign out: %d", got)
		}
		jar.SetCookies(u, kept) // of somebody who has copied it
		start := time.Now()
		eventually(t, within, "a session that has ended at both", func() bool {
			return status(at) == http.StatusSeeOther && status(other) == http.StatusSeeOther
		})
		t.Logf("ended after %v", time.Since(start))
	}
}
