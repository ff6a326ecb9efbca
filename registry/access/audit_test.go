package access

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"roadstead/registry"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

// What happens is written by the end of Run at the latest, whole and in its order; a login once an
// hour.
func TestAuditLog(t *testing.T) {
	h := open(t)
	h.member("dora", Developer)
	stop := h.running()
	dora := h.who(basic("dora", password))
	for range 3 {
		h.who(basic("dora", password))
		h.who(basic("dora", "Wrong-Horse-1"))
	}
	h.Record(registry.Event{Principal: dora, Action: registry.Push, Resource: registry.Resource{Kind: registry.Repository, Repo: web},
		Reference: "v1", Digest: "sha256:abc", Remote: "192.0.2.1:9", Outcome: registry.Done})
	h.Record(registry.Event{Action: registry.Delete, Resource: registry.Resource{Kind: registry.Artifact, Repo: web}, Reference: "sha256:abc", Digest: "sha256:abc", Outcome: registry.Refused})
	stop()
	var got []string
	for _, e := range h.entries() {
		if e.Actor != "test" && e.Actor != "first start" {
			got = append(got, fmt.Sprint(e.Actor, "|", e.Action, "|", e.Kind, "|", e.Resource, "|", e.Reference, "|", e.Remote, "|", e.Outcome, "|", e.Detail))
		}
	}
	want := []string{
		"dora|login|user|dora||192.0.2.1:1234|done|",
		"dora|login|user|dora||192.0.2.1:1234|refused|",
		"dora|push|repository|production/web|v1|192.0.2.1:9|done|sha256:abc",
		"|delete|artifact|production/web|sha256:abc||refused|",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("audit log:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	users, err := h.Users(t.Context())
	if h.must(err); time.Since(users[1].LastLogin) > time.Minute {
		t.Errorf("last login of %s: %s", users[1].Name, users[1].LastLogin)
	}
}

// Whatever is in a name, it starts no second record and gives no orders to a terminal
// (FAULTS C12).
func TestC12_LogInjection(t *testing.T) {
	var log bytes.Buffer
	h := open(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	evil := "eve\r\n2026-01-01 admin login done\x1b[2J\x00\u202e\xff" + strings.Repeat("x", 300)
	stop := h.running()
	r := request("/v2/", basic(evil, "Wrong-Horse-1"))
	r.RemoteAddr = evil
	p, err := h.Identify(r)
	h.must(err)
	h.Record(registry.Event{Principal: p, Action: registry.Push, Resource: registry.Resource{Kind: registry.Repository, Repo: registry.Repo{Project: evil, Name: evil}},
		Reference: evil, Remote: evil, Outcome: registry.Refused})
	h.must(h.SetMember(t.Context(), evil, catalog.Member{Project: "production", Group: true, Name: "dev", Role: "guest"}))
	stop()
	entries := h.entries()
	if len(entries) < 4 {
		t.Fatalf("only %d entries", len(entries))
	}
	for _, e := range entries {
		for _, text := range []string{e.Actor, e.Resource, e.Reference, e.Remote, e.Detail} {
			if strings.ContainsAny(text, "\r\n\x00\x1b\u202e") || !utf8.ValidString(text) || len(text) > 800 {
				t.Errorf("entry with %q", text)
			}
		}
	}
	if strings.Contains(log.String(), "\x1b") || strings.Contains(log.String(), "\n2026-01-01") {
		t.Errorf("log: %q", log.String())
	}
}

// When nobody writes, whoever records waits for a while and no longer, and what cannot be taken is
// in the ordinary log.
func TestAuditQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := newAudit(slog.New(slog.NewTextHandler(&log, nil)))
		start := time.Now()
		for i := range maxQueue {
			q.add(record{entry: catalog.Entry{Actor: fmt.Sprint(i)}})
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("%d records took %s", maxQueue, took)
		}
		q.add(record{entry: catalog.Entry{Actor: "late"}})
		if took := time.Since(start); took != maxBlock || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "late") {
			t.Errorf("one too many took %s, log %q", took, log.String())
		}
		var wg sync.WaitGroup
		wg.Go(func() { q.add(record{entry: catalog.Entry{Actor: "waits"}}) })
		synctest.Wait()
		<-q.queue
		wg.Wait()
		if strings.Contains(log.String(), "waits") {
			t.Errorf("a record that found room is in the log: %q", log.String())
		}
	})
}

// While the catalog cannot be written, records wait; none is lost when it can be again.
func TestAuditWaitsForTheCatalog(t *testing.T) {
	h := open(t)
	before := len(h.entries())
	for i := range 10 {
		h.Record(registry.Event{Reference: fmt.Sprint(i), Outcome: registry.Done})
	}
	h.audit.drain()
	other, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	h.must(err)
	h.must(other.Close())
	whole := h.catalog
	h.catalog = other // one that is away
	if err := h.flush(t.Context()); err == nil {
		t.Fatal("a closed catalog takes records")
	}
	for i := 10; h.audit.source() != nil; i++ { // what Run does, until these are many
		h.audit.gather(record{entry: catalog.Entry{At: time.Now(), Reference: fmt.Sprint(i)}})
	}
	if n := len(h.audit.batch); n != maxBatch {
		t.Errorf("%d records are gathered while they cannot be written, want %d", n, maxBatch)
	}
	h.catalog = whole
	h.must(h.flush(t.Context()), h.flush(t.Context()))
	entries := h.entries()[before:]
	for i, e := range entries {
		if e.Reference != fmt.Sprint(i) {
			t.Errorf("record %d is %q", i, e.Reference)
		}
	}
	if len(entries) != maxBatch || h.audit.source() == nil {
		t.Errorf("%d records, want %d and more to be gathered", len(entries), maxBatch)
	}
}

// No secret that goes through here comes out anywhere: not in the log, the audit log, an error, an
// answer, a list, or the files of the catalog (FAULTS C11).
func TestC11_Canaries(t *testing.T) {
	var out bytes.Buffer
	h := open(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	ctx := t.Context()
	stop := h.running()
	canaries := map[string]string{}
	canary := func(name string) string {
		canaries[name] = "Canary-" + strings.ReplaceAll(name, " ", "-") + "-7Qz1"
		return canaries[name]
	}
	say := func(v ...any) { fmt.Fprintln(&out, v...) }

	say(h.AddUser(ctx, "test", NewUser{Name: "dora", Password: canary("password")}))
	say(h.AddUser(ctx, "test", NewUser{Name: "dora", Password: canary("password of a user twice")}))
	say(h.AddUser(ctx, "test", NewUser{Name: "a b", Password: canary("password of no name")}))
	say(h.AddUser(ctx, "test", NewUser{Name: "weak", Password: strings.ToLower(canary("weak password"))}))
	canaries["weak password"] = strings.ToLower(canaries["weak password"])
	say(h.SetPassword(ctx, "test", "dora", canary("next password")))
	say(h.SetPassword(ctx, "test", "nobody", canary("password of nobody")))
	say(h.PutSecret(ctx, "test", "hub", canary("secret")))
	say(h.PutSecret(ctx, "test", "Not A Name", canary("secret of no name")))
	for i, name := range []string{"dora", "nobody", "robot$none", "robot$production+ci"} {
		wrong := canary(fmt.Sprint("wrong password ", i))
		w, _ := h.ask(basic(name, wrong), "repository:production/web:pull")
		say(w.Code, w.Header(), w.Body)
		say(h.Login(h.who(basic(name, wrong))))
		canaries[fmt.Sprint("Basic ", i)] = strings.TrimPrefix(basic(name, wrong), "Basic ")
	}
	canaries["robot"] = h.robot("production", "ci", "push")
	renewed, _, err := h.RenewRobot(ctx, "test", "robot$production+ci", End{})
	h.must(err)
	canaries["renewed robot"] = renewed
	_, token := h.ask(basic("robot$production+ci", renewed), "repository:production/web:push")
	canaries["token"] = strings.TrimPrefix(token, "Bearer ")
	say(h.Login(h.who(token + "x")))
	p := h.who(token)
	say(p.Name(), h.Authorize(p, registry.Delete, registry.Resource{Kind: registry.Artifact, Repo: web}))
	say(fmt.Sprintf("%v", p.Name()))
	h.Record(registry.Event{Principal: p, Action: registry.Push, Resource: registry.Resource{Kind: registry.Repository, Repo: web}, Outcome: registry.Done})
	say(h.Challenge(request("/v2/", token), "repository:production/web:pull"))
	say(h.Secret(ctx, "none"))
	stop()
	h.must(os.WriteFile(filepath.Join(h.dir, "keys", "vault-1.key"), []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), 0o600))
	_, err = h.again().Secret(ctx, "hub")
	say(err)
	for _, list := range []func() (any, error){
		func() (any, error) { return h.Users(ctx) }, func() (any, error) { return h.Robots(ctx) },
		func() (any, error) { return h.Secrets(ctx) }, func() (any, error) { return h.Members(ctx, "production") },
		func() (any, error) { return h.Audit(ctx, time.Time{}, -1) },
	} {
		all, err := list()
		h.must(err)
		text, err := json.Marshal(all)
		h.must(err)
		say(string(text))
	}
	if !strings.Contains(out.String(), "dora") || !strings.Contains(out.String(), "hub") {
		t.Fatalf("nothing was said: %s", out.String())
	}
	h.must(h.db.Close())
	files, err := filepath.Glob(filepath.Join(h.dir, "*"))
	h.must(err)
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			out.Write(text)
		}
	}
	for name, secret := range canaries {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%s comes out", name)
		}
	}
	for _, hash := range []string{"$argon2id$"} { // in the catalog's file, and nowhere before it
		said, _, _ := strings.Cut(out.String(), "SQLite format 3")
		if strings.Contains(said, hash) {
			t.Errorf("a hash comes out")
		}
	}
}
