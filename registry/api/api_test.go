package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/accesstest"
	"roadstead/registry/estate"
	"roadstead/registry/registrytest"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

const password = "Correct-Horse-1"

// rig is an API over a real catalog, real accounts and a real estate, behind a real server.
type rig struct {
	t        testing.TB
	db       *catalog.DB
	access   *access.Access
	estate   *estate.Estate
	api      *API
	server   *httptest.Server
	upstream *registrytest.Registry
	cleaner  *cleaner
	content  *content
	log      *safeBuffer
	secrets  map[string]string // of robots, by their full names
	bodies   map[registry.Digest][]byte
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// open makes a rig with the administrator "admin".
func open(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, upstream: registrytest.New(t), log: &safeBuffer{}, cleaner: &cleaner{}, content: &content{}, secrets: map[string]string{}, bodies: map[registry.Digest][]byte{}}
	logger := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	r.db, err = catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db"))
	r.must(err)
	t.Cleanup(func() { r.db.Close() })
	r.access, err = accesstest.Open(t.Context(), access.Config{Catalog: r.db, Directory: filepath.Join(dir, "keys"), AdminPassword: password, Log: logger})
	r.must(err)
	r.estate = estate.New(estate.Config{
		Catalog: r.db, Access: r.access, InForce: r.inForce, File: "roadstead.yaml",
		Try:  func(*catalog.Tx) error { return nil },
		Ping: ping, Builtin: func(string) bool { return false }, CheckName: registry.CheckProject,
		Cleaner: r.cleaner, Hosted: r.content, Cached: r.content,
		Read: func(_ context.Context, d registry.Digest, most int64) ([]byte, error) {
			body, ok := r.bodies[d]
			if !ok || int64(len(body)) > most {
				return nil, errors.New("it is not here")
			}
			return body, nil
		},
	})
	r.cleaner.note = r.estate.Note
	r.api = New(Config{
		Estate: r.estate, Access: r.access, Version: "test", Log: logger,
		Health: func(context.Context) []Component {
			return []Component{{Name: "core", Core: true}, {Name: "upstream secret.example", Down: true, Error: "it is down"}}
		},
		Room: func() (int64, int64, error) { return 1, 2, nil },
	})
	r.must(r.inForce(t.Context()))
	r.server = httptest.NewServer(r.api)
	t.Cleanup(r.server.Close)
	return r
}

// ping asks as the house does, but for the rules of addresses, which its own test has.
func ping(ctx context.Context, r catalog.Registry, password string) error {
	req, err := http.NewRequestWithContext(ctx, "GET", r.URL+"/v2/", nil)
	if err != nil {
		return err
	}
	if r.Username != "" {
		req.SetBasicAuth(r.Username, password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return errors.New("it does not answer")
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		return fmt.Errorf("it answers %d", res.StatusCode)
	}
	return nil
}

func (r *rig) inForce(ctx context.Context) error {
	rows, err := r.db.AllProjects(ctx)
	var all []access.Project
	for _, p := range rows {
		all = append(all, access.Project{Name: p.Name, Public: p.Public, Hosted: p.Hosted()})
	}
	r.access.SetProjects(all)
	return errors.Join(err, r.estate.Follow(ctx))
}

func (r *rig) must(errs ...error) {
	r.t.Helper()
	for _, err := range errs {
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// cleaner carries orders out at once, with nothing to do.
type cleaner struct {
	note   func(estate.Cleaning) error
	orders []estate.Order
	plan   *estate.CleaningPlan
}

func (c *cleaner) Clean(o estate.Order) error {
	c.orders = append(c.orders, o)
	return nil
}
func (c *cleaner) SetPlan(p *estate.CleaningPlan) { c.plan = p }
func (c *cleaner) StopCleaning() bool             { return true }

// content writes down what is deleted.
type content struct{ deleted []string }

func (c *content) DeleteRepository(_ context.Context, repo registry.Repo) error {
	c.deleted = append(c.deleted, repo.String())
	return nil
}
func (c *content) DeleteManifest(_ context.Context, repo registry.Repo, d registry.Digest) error {
	c.deleted = append(c.deleted, repo.String()+"@"+d.String())
	return nil
}
func (c *content) DeleteTag(_ context.Context, repo registry.Repo, tag string) error {
	c.deleted = append(c.deleted, repo.String()+":"+tag)
	return nil
}
func (c *content) CopyTag(_ context.Context, _ registry.Repo, reference, _ string) (registry.Descriptor, error) {
	return registry.Descriptor{Digest: registry.Digest(reference)}, nil
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// into reads the body, and numbers without losing any of their digits.
func (a answer) into(t testing.TB) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%q is no JSON: %v", a.body, err)
	}
	return v
}

func (a answer) object(t testing.TB) map[string]any {
	t.Helper()
	m, ok := a.into(t).(map[string]any)
	if !ok {
		t.Fatalf("%s is no object", a.body)
	}
	return m
}

func (a answer) list(t testing.TB) []any {
	t.Helper()
	l, ok := a.into(t).([]any)
	if !ok {
		t.Fatalf("%s is no list", a.body)
	}
	return l
}

// ask sends a request as somebody: "" is anybody, a robot has its secret and a user the password.
// headers are pairs.
func (r *rig) ask(who, method, path, body string, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, strings.NewReader(body))
	r.must(err)
	switch secret := r.secrets[who]; {
	case secret != "":
		req.SetBasicAuth(who, secret)
	case who != "":
		req.SetBasicAuth(who, password)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	r.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	r.must(err)
	return answer{res.StatusCode, res.Header, string(text)}
}

// wants is ask for an answer of a status.
func (r *rig) wants(status int, who, method, path, body string, headers ...string) answer {
	r.t.Helper()
	a := r.ask(who, method, path, body, headers...)
	if a.status != status {
		r.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, a.status, a.body, status)
	}
	return a
}

// makes is wants for a 201, and returns the path and the number of what is new.
func (r *rig) makes(who, path, body string) (string, string) {
	r.t.Helper()
	a := r.wants(201, who, "POST", path, body)
	location := a.header.Get("Location")
	if !strings.HasPrefix(location, "/api/v2.0/") {
		r.t.Fatalf("POST %s: Location %q, want one below /api/v2.0", path, location)
	}
	return location, location[strings.LastIndex(location, "/")+1:]
}

// robot makes a robot with words of access.Permit.
func (r *rig) robot(project, name string, words ...string) catalog.Robot {
	r.t.Helper()
	permission, err := access.Permit(project, words...)
	r.must(err)
	made, secret, err := r.access.AddRobot(r.t.Context(), "test", catalog.Robot{Project: project, Name: name, Permissions: []catalog.Permission{permission}})
	r.must(err)
	r.secrets[made.FullName()] = secret
	return made
}

// artifact writes an image into the catalog, with a tag, and returns its digest.
func (r *rig) artifact(repo registry.Repo, tag string) string {
	r.t.Helper()
	layer, d := digest.FromString("layer"), digest.FromString(repo.String()+tag)
	r.must(r.db.Durable(r.t.Context(), func(tx *catalog.Tx) error {
		m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: d, Size: 100}}
		return errors.Join(
			tx.AddBlob(repo, layer, 10),
			tx.AddManifest(repo, m, registry.References{Layers: []registry.Descriptor{{Digest: layer, Size: 10, MediaType: "application/octet-stream"}}}),
			tx.PutTag(repo, tag, catalog.Tag{Descriptor: m.Descriptor}),
		)
	}))
	return d.String()
}
