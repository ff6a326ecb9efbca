package main_test

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
	"roadstead/storage/s3test"
)

// launch starts a node that may have nothing to serve yet, and waits until it says so.
func (n *node) launch() {
	n.t.Helper()
	n.process = start(n.t, n.home, "roadstead", n.program(), "serve", "--config", n.config)
	eventually(n.t, 20*time.Second, "a node that tells how it is", func() bool {
		res, err := http.Get(n.admin + "/healthz")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
}

// told is what a node tells of itself on its admin address.
func (n *node) told(path string) answer {
	n.t.Helper()
	m := *n
	m.url, m.who = n.admin, account{}
	return m.ask(http.MethodGet, path)
}

// away wants a 503 that says when to come back, and never that something is not there.
func (n *node) away(what, method, path string) {
	n.t.Helper()
	began := time.Now()
	a := n.ask(method, path)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || time.Since(began) > 5*time.Second {
		n.t.Errorf("%s: %v, Retry-After %q, after %v; want 503 with one", what, a, a.header.Get("Retry-After"), time.Since(began))
	}
}

// A node that is started while its database, its bucket, or both are away serves what it can of what is
// for everybody, says what it lacks, and is whole by itself when that is back (FAULTS S12, S14). What
// refuses it, and has never worked, ends it with what to do.
func TestS14_StartedWithoutTheRest(t *testing.T) {
	e2e(t)
	t.Run("alone", func(t *testing.T) { startedWithoutTheRest(t, false) })
	t.Run("as a node of a cluster", func(t *testing.T) { startedWithoutTheRest(t, true) })
}

func startedWithoutTheRest(t *testing.T, clustered bool) {
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	name, err := database.Create("")
	if err != nil {
		t.Fatal(err)
	}
	network := postgrestest.Before(t, database)
	bucket := s.Bucket(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(postgrestest.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	store := bucketStorage(t, s, s.Endpoint, bucket)
	maps.Copy(store["s3"].(map[string]any), map[string]any{"stall": "2s", "retries": 1})
	maps.Copy(store, map[string]any{"catalog": network.Place(name), "catalog_password_file": password})

	u := startUpstream(t, upstreamConfig{})
	img, cold := recipe{seed: 960_000, layers: 1, layerSize: 1 << 20}.make(t, "1.0"), recipe{seed: 960_100, layers: 1, layerSize: 1 << 20}.make(t, "1.0")
	u.push(t, "team/cached", img)
	u.push(t, "team/cold", cold)
	c := nodeConfig{plain: true, storage: store, projects: map[string]any{
		"mirror": u.project(map[string]any{"public": true, "ttl": "1h"}),
		"closed": u.project(map[string]any{"public": false}),
	}}
	if clustered { // the keys are in the database then, too
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte(clusterSecret), 0o600); err != nil {
			t.Fatal(err)
		}
		c.more = map[string]any{"cluster": map[string]any{"listen": freeAddress(t), "secret_file": secret}}
	}

	// Nothing has worked yet, and the database is not there: it waits.
	network.Refuse()
	w := &wharf{members: map[string]account{}}
	first := newNode(t, c)
	first.launch()
	if a := first.told("/readyz"); a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "nothing is known that could be served") {
		t.Errorf("readyz before the first connection: %v", a)
	}
	first.away("a public project, before the first connection", http.MethodGet, manifestPath("mirror/team/cold", "1.0"))
	first.away("a private one", http.MethodGet, manifestPath("closed/team/cold", "1.0"))
	first.away("one that may be there", http.MethodGet, manifestPath("house/app", "1.0"))
	network.Heal()
	eventually(t, 15*time.Second, "a node that is whole", func() bool { return first.told("/readyz?whole").status == http.StatusOK })
	first.terminate(10 * time.Second)

	w = startWharf(t, c)
	n := w.as(w.robot)
	if err := n.pull("mirror/team/cached", "1.0", img); err != nil {
		t.Fatal(err)
	}
	if err := n.push("production/app", img); err != nil {
		t.Fatal(err)
	}
	made := w.administer("project", "create", "later", "--public")
	eventually(t, 10*time.Second, "a project that is made", func() bool { return n.push("later/app", img) == nil })
	_ = made
	time.Sleep(time.Second) // for what is kept behind the answers
	u.stop(t)

	for _, fault := range []struct {
		name             string
		database, bucket bool
		leave, come      func()
	}{
		{"the database", true, false, func() { network.Refuse(); network.Cut() }, network.Heal},
		{"the database, which is frozen", true, false, network.Stall, network.Heal},
		{"the bucket", false, true, s.Stop, func() { s.Start(t) }},
		{"the bucket, which is frozen", false, true, func() { s.Freeze(t) }, s.Thaw},
		{"both", true, true, func() { network.Refuse(); network.Cut(); s.Stop() }, func() { s.Start(t); network.Heal() }},
	} {
		w.terminate(20 * time.Second)
		fault.leave()
		began := time.Now()
		w.launch()
		started := time.Since(began)
		ready := w.told("/readyz")
		if ready.status != http.StatusOK || !strings.Contains(string(ready.body), `"degraded"`) {
			t.Errorf("without %s: readyz: %v", fault.name, ready)
		}
		up := func(part string, away bool) {
			if got := w.metric("roadstead_part_up", `part="`+part+`"`); got == 1 == away {
				t.Errorf("without %s: part_up of the %s is %v", fault.name, part, got)
			}
		}
		up("catalog", fault.database)
		up("accounts", fault.database)
		up("bucket", fault.bucket)
		up("storage", false)
		if !fault.bucket { // and upstream is stopped: from the bucket, by what lies there
			if err := w.as(account{}).pull("mirror/team/cached", "1.0", img); err != nil {
				t.Errorf("without %s: %v", fault.name, err)
			}
		} else {
			w.as(account{}).away("without "+fault.name+": what only the bucket has", http.MethodGet, blobPath("mirror/team/cached", img.blobOrder[0]))
		}
		w.as(account{}).away("without "+fault.name+": what is nowhere", http.MethodGet, manifestPath("mirror/team/unknown", "1.0"))
		n.away("without "+fault.name+": what was pushed", http.MethodGet, blobPath("production/app", img.blobOrder[0]))
		n.away("without "+fault.name+": what was pushed, for everybody", http.MethodGet, blobPath("later/app", img.blobOrder[0]))
		if fault.database {
			n.away("without "+fault.name+": a push", http.MethodPost, "/v2/production/app/blobs/uploads/")
			n.away("without "+fault.name+": the API", http.MethodGet, "/api/v2.0/projects")
			n.away("without "+fault.name+": a page", http.MethodGet, "/c/")
			w.as(account{}).away("without "+fault.name+": a name of the default project's", http.MethodGet, manifestPath("team/cached", "1.0"))
		} else if err := n.push("production/more", cold); err == nil {
			t.Errorf("without %s: a push was acknowledged", fault.name)
		}
		fault.come()
		back := time.Now()
		eventually(t, 15*time.Second, "a node that is whole after "+fault.name+" has come back", func() bool {
			return w.told("/readyz?whole").status == http.StatusOK && n.pull("production/app", "1.0", img) == nil
		})
		t.Logf("without %s: started after %v, whole %v after it came back", fault.name, started, time.Since(back))
		if err := n.push("production/more", cold); err != nil {
			t.Errorf("after %s: %v", fault.name, err)
		}
	}
	if out, err := w.command("scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}

	// What refuses a node that has worked counts as away; one that never has is told what to do.
	w.terminate(10 * time.Second)
	if err := os.WriteFile(password, []byte("not it"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.launch()
	if a := w.told("/readyz"); !strings.Contains(string(a.body), "does not let us in") {
		t.Errorf("with another password: %v", a)
	}
	w.terminate(10 * time.Second)
	fresh := newNode(t, c)
	if out, err := fresh.command("serve"); err == nil || !strings.Contains(err.Error(), "does not let us in") {
		t.Errorf("serve, for the first time, with a wrong password: %v\n%s", err, out)
	}
}
