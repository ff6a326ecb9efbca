package access

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
	"roadstead/storage/postgrestest"
)

const clusterSecret = "what only nodes of this cluster know"

// cluster are the nodes of one. The first one had its keys in files before there were others.
type cluster struct {
	*house
	server *postgrestest.Server
	other  *house
	url    string // of the catalog
	old    string // a token of the first one, from before
}

func node(t *testing.T, url string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	var err error
	if h.db, err = catalogtest.Open(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.db.Close() })
	return h
}

func clustered(c *Config) { c.Secret = clusterSecret }

func startCluster(t *testing.T) *cluster {
	s := postgrestest.New(t)
	name, err := s.Create("")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{server: s, url: s.URL(name), house: node(t, s.URL(name)), other: node(t, s.URL(name))}
	c.Access = c.again()
	c.must(c.PutSecret(t.Context(), "test", "upstream", "hunter2"))
	_, c.old = c.ask(basic("admin", password), "repository:production/web:push")
	c.Access = c.again(clustered)
	c.other.Access = c.other.again(clustered)
	return c
}

// soon is how late a node may learn what has happened at another one.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("%s: not within five seconds", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%s: after %v", what, time.Since(start).Round(time.Millisecond))
}

// Who hears that accounts have changed does not wait until the next look.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		other := &house{Access: h.again(), t: t}
		defer other.running()()
		synctest.Wait()
		h.member("dora", Developer)
		for range 3 { // one after the other they are one
			other.Changed()
		}
		time.Sleep(settling + time.Millisecond)
		synctest.Wait()
		if other.now.Load().named["dora"] == nil {
			t.Error("a user of whom there was news is not known")
		}
	})
}

// TestNodesHaveAllInCommon: keys, secrets, sessions and what robots may are the same at each node of a
// cluster, whichever one is asked.
func TestNodesHaveAllInCommon(t *testing.T) {
	c := startCluster(t)
	t.Run("keys", c.sameKeys)
	t.Run("keys are sealed", c.sealedKeys)
	defer c.running()()
	defer c.other.running()()
	t.Run("a robot that is disabled", c.robots)
	t.Run("sessions", c.sameSessions)
	t.Run("a user who is disabled", c.disabled)
	t.Run("a user who is disabled while others write", c.disabledBesideWriters)
	t.Run("another password", c.passwords)
	t.Run("a login at the provider", c.flows)
	t.Run("a database that is away", c.blind)
}

func (c *cluster) sameKeys(t *testing.T) {
	good := func(h *house, token string) bool {
		p := h.who(token)
		return h.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}) == nil
	}
	if !good(c.house, c.old) || !good(c.other, c.old) {
		t.Error("a token from before the cluster is void")
	}
	if secret, err := c.other.Secret(t.Context(), "upstream"); err != nil || secret != "hunter2" {
		t.Errorf("a stored secret is %q at the other node, %v", secret, err)
	}
	if entries, err := os.ReadDir(filepath.Join(c.other.dir, "keys")); len(entries) > 0 {
		t.Errorf("the other node has files of keys: %v, %v", entries, err)
	}
	_, token := c.other.ask(basic("admin", password), "repository:production/web:push")
	if !good(c.house, token) {
		t.Error("a token of the other node is void")
	}
	// The next key is made at one, and known at the other at once.
	made := c.keys.now.Load().newest.made
	c.must(c.keys.tend(made.Add(rotateEvery)))
	_, token = c.ask(basic("admin", password), "repository:production/web:push")
	if n := c.keys.now.Load().newest.number; n != 2 || !good(c.other, token) || !good(c.other, c.old) {
		t.Errorf("key %d signs tokens that are void at the other node", n)
	}
	c.must(c.other.keys.tend(made.Add(rotateEvery)))
	if n := c.other.keys.now.Load().newest.number; n != 2 {
		t.Errorf("the other node signs with key %d", n)
	}
}

func (c *cluster) sealedKeys(t *testing.T) {
	rows, err := c.db.Keys(t.Context())
	if err != nil || len(rows) != 3 {
		t.Fatalf("keys %v, %v", rows, err)
	}
	for name, sealed := range rows {
		if !strings.HasPrefix(sealed, sealedKey) || strings.Contains(sealed, "PRIVATE") {
			t.Errorf("key %s is %q in the catalog", name, sealed)
		}
	}
	_, err = Open(t.Context(), Config{Catalog: c.db, Directory: t.TempDir(), Secret: clusterSecret + "!"})
	if !errors.Is(err, errOtherSecret) || !strings.Contains(err.Error(), "give this node the one that the others have") {
		t.Errorf("open with another secret: %v", err)
	}
	// A node that comes with keys of its own has those of the cluster, and says so.
	stranger := open(t)
	c.must(stranger.PutSecret(t.Context(), "test", "upstream", "other"))
	var log strings.Builder
	a, err := Open(t.Context(), Config{Catalog: c.db, Directory: filepath.Join(stranger.dir, "keys"), Secret: clusterSecret, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c.must(err)
	if secret, err := a.Secret(t.Context(), "upstream"); err != nil || secret != "hunter2" {
		t.Errorf("a stored secret is %q, %v", secret, err)
	}
	if !strings.Contains(log.String(), "move the file away") || !strings.Contains(log.String(), "vault-1.key") {
		t.Errorf("log of a node with other keys: %s", &log)
	}
}

func (c *cluster) robots(t *testing.T) {
	secret := c.robot("production", "ci", "push")
	var token string
	soon(t, "a new robot", func() bool {
		_, token = c.other.ask(basic("robot$production+ci", secret), "repository:production/web:push")
		return token != "" && c.other.Authorize(c.other.who(token), registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}) == nil
	})
	c.must(c.DisableRobot(t.Context(), "test", "robot$production+ci", true))
	soon(t, "its token is void", func() bool {
		return c.other.Authorize(c.other.who(token), registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}) != nil
	})
}

// in reports whether a browser with an id is signed in.
func (c *cluster) in(t *testing.T, h *house, id string) bool {
	t.Helper()
	_, ok, err := h.SessionOf(visit("/c/", id))
	if err != nil {
		t.Error(err)
	}
	return ok
}

func (c *cluster) sameSessions(t *testing.T) {
	id, err := c.SignIn(t.Context(), "admin", password, here)
	c.must(err)
	a, _, _ := c.SessionOf(visit("/c/", id))
	b, ok, err := c.other.SessionOf(visit("/c/", id))
	if !ok || err != nil || b.Principal.Name() != "admin" || !a.Until.Equal(b.Until) {
		t.Errorf("at the other node the session %+v is %+v, %v, %v", a, b, ok, err)
	}
	for _, forged := range []string{id[:len(id)-1] + "A", id[:43], "", "A" + id[1:]} {
		if forged != id && c.in(t, c.other, forged) {
			t.Errorf("%q is a session", forged)
		}
	}
	// A restart ends none.
	if !c.in(t, &house{Access: c.again(clustered)}, id) {
		t.Error("a node that starts again does not know the session")
	}
	second, err := c.SignIn(t.Context(), "admin", password, here)
	c.must(err, c.other.SignOut(httptest.NewRecorder(), visit("/c/", id)))
	if c.in(t, c.other, id) {
		t.Error("the session goes on where it was ended")
	}
	soon(t, "a session that was ended elsewhere", func() bool { return !c.in(t, c.house, id) })
	if !c.in(t, c.house, second) {
		t.Error("another session has ended with it")
	}
	for range maxUserSessions + 1 {
		_, err := c.other.SignIn(t.Context(), "admin", password, here)
		c.must(err)
	}
	soon(t, "a session too many", func() bool { return !c.in(t, c.house, second) })
}

func (c *cluster) disabled(t *testing.T) {
	c.member("dora", Developer)
	id, err := c.SignIn(t.Context(), "dora", password, here)
	c.must(err)
	if !c.in(t, c.other, id) { // also one whom the other node has not heard of yet
		t.Error("the session is not known at the other node")
	}
	c.must(c.DisableUser(t.Context(), "test", "dora", true))
	soon(t, "a user who is disabled", func() bool { return !c.in(t, c.other, id) })
	c.must(c.DisableUser(t.Context(), "test", "dora", false))
	time.Sleep(sessionTrust)
	if c.in(t, c.other, id) || c.in(t, c.house, id) {
		t.Error("the session goes on after all")
	}
}

// What somebody may is known however long a node waits to write its audit log.
func (c *cluster) disabledBesideWriters(t *testing.T) {
	c.member("eve", Developer)
	soon(t, "a new user", func() bool { return c.other.now.Load().named["eve"] != nil })
	third := node(t, c.url)
	// The first one writes, the third one is next, and behind it the log of the other one.
	var writers sync.WaitGroup
	defer writers.Wait()
	turn, disable, disabled, end := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	defer close(end)
	writers.Go(func() {
		if err := c.db.Update(t.Context(), func(tx *catalog.Tx) error {
			close(turn)
			<-disable
			return tx.SetDisabled("eve", true)
		}); err != nil {
			t.Error(err)
		}
		close(disabled)
	})
	<-turn
	writers.Go(func() {
		if err := third.db.Update(t.Context(), func(*catalog.Tx) error { <-end; return nil }); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(time.Second) // it waits for its turn by then
	c.other.Record(registry.Event{Action: registry.Pull, Outcome: registry.Done})
	time.Sleep(2 * watch) // and behind it the other one
	close(disable)
	<-disabled
	soon(t, "a user who is disabled while others write", func() bool { return c.other.now.Load().named["eve"].Disabled })
}

func (c *cluster) passwords(t *testing.T) {
	id, err := c.SignIn(t.Context(), "dora", password, here)
	c.must(err)
	if !c.in(t, c.other, id) {
		t.Error("the session is not known at the other node")
	}
	dora := c.now.Load().named["dora"].ID
	c.must(c.ChangePassword(t.Context(), dora, password, password+"2", here))
	next, err := c.SignIn(t.Context(), "dora", password+"2", here)
	c.must(err)
	if !c.in(t, c.other, next) {
		t.Error("the session by the new password is not known at the other node")
	}
	soon(t, "a session by the old password", func() bool { return !c.in(t, c.other, id) })
}

func (c *cluster) flows(t *testing.T) {
	f := flow{State: "state", Until: time.Now().Add(time.Minute)}
	sealed, err := newSealer(clusterSecret).seal(f)
	c.must(err)
	if _, err := newSealer(clusterSecret).open(sealed, time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := newSealer(clusterSecret+"!").open(sealed, time.Now()); !errors.Is(err, errFlow) {
		t.Errorf("of another cluster: %v", err)
	}
}

// Nobody is signed in while that cannot be looked up, and who is stays so.
func (c *cluster) blind(t *testing.T) {
	id, err := c.SignIn(t.Context(), "admin", password, here)
	c.must(err)
	c.must(c.server.Kill())
	if _, ok, err := c.other.SessionOf(visit("/c/", id)); ok || !errors.Is(err, catalog.ErrUnavailable) || !errors.Is(err, registry.Unavailable) {
		t.Errorf("a session that cannot be looked up: %v, %v", ok, err)
	}
	if _, byCookie, err := c.other.Caller(visit("/api/v2.0/projects", id)); byCookie || !errors.Is(err, registry.Unavailable) {
		t.Errorf("a caller who cannot be looked up: %v, %v", byCookie, err)
	}
	w := httptest.NewRecorder()
	if err := c.other.SignOut(w, visit("/c/", id)); err == nil || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("signed out without the database: %v, %v", err, w.Header())
	}
	c.must(c.server.Start())
	soon(t, "the session is back", func() bool {
		_, ok, _ := c.other.SessionOf(visit("/c/", id))
		return ok
	})
}

// A node that is started while the catalog is away has no keys, and makes none of its own: it has those
// of its cluster when Begin succeeds, or those in its files if the cluster has none.
func TestNodeStartedWithoutItsCatalog(t *testing.T) {
	s := postgrestest.New(t)
	name, err := s.Create("")
	if err != nil {
		t.Fatal(err)
	}
	alone := node(t, s.URL(name))
	alone.Access = alone.again()
	alone.must(alone.PutSecret(t.Context(), "test", "upstream", "hunter2"))
	_, token := alone.ask(basic("admin", password), "repository:production/web:push")
	alone.must(s.Kill())

	h := &house{t: t, dir: alone.dir}
	h.db, err = catalog.Later(s.URL(name))
	h.must(err)
	defer h.db.Close()
	h.Access = h.again(clustered, func(c *Config) { c.Later = true })
	resource := registry.Resource{Kind: registry.Repository, Repo: web}
	if err := h.Authorize(h.who(token), registry.Push, resource); !errors.Is(err, errUnsure) {
		t.Errorf("push by a token, without keys: %v", err)
	}
	for what, authorization := range map[string]string{"nobody": "", "admin": basic("admin", password)} {
		if w, token := h.ask(authorization, "repository:public/web:pull"); w.Code != 503 || token != "" || w.Header().Get("Retry-After") == "" {
			t.Errorf("a token for %s, without keys: %d %s", what, w.Code, w.Body)
		}
	}
	if _, err := h.Secret(t.Context(), "upstream"); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("a secret, without keys: %v", err)
	}
	if err := h.Begin(t.Context()); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("begin, without the catalog: %v", err)
	}

	h.must(s.Start(), h.db.Prepare(t.Context()), h.Begin(t.Context()), h.Begin(t.Context()))
	if err := h.Authorize(h.who(token), registry.Push, resource); err != nil {
		t.Errorf("push by a token from before: %v", err)
	}
	if secret, err := h.Secret(t.Context(), "upstream"); err != nil || secret != "hunter2" {
		t.Errorf("a secret from before: %q, %v", secret, err)
	}
	if rows, err := h.db.Keys(t.Context()); err != nil || len(rows) != 2 {
		t.Errorf("the catalog has the keys %v, %v", rows, err)
	}
}
