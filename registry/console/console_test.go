package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/accesstest"
	"roadstead/registry/estate"
	"roadstead/registry/hosted"
	"roadstead/registry/server"
	"roadstead/registry/upstream"
	"roadstead/rewrite"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

const password = "Correct-Horse-1"

// town is a Console over a real catalog, accounts and estate, with three projects: hub, a public
// cache of Docker Hub; shop, to push to and private; and declared, of the configuration.
type town struct {
	*Console
	t       testing.TB
	db      *catalog.DB
	access  *access.Access
	estate  *estate.Estate
	content map[registry.Digest][]byte
	down    error    // what a ping finds
	offline bool     // no upstream is ever asked
	deleted []string // what was taken out of projects
	flights []cache.Flight
	maxSize int64 // of what is cached
	cached  *cache.Cache
	names   map[string][]string // the registries that projects stand for
}

// contents is what was taken out, of hosted projects and caches alike.
type contents struct{ *town }

func (c contents) DeleteRepository(_ context.Context, repo registry.Repo) error {
	c.deleted = append(c.deleted, repo.String())
	return nil
}

func (c contents) DeleteManifest(_ context.Context, repo registry.Repo, d registry.Digest) error {
	c.deleted = append(c.deleted, repo.String()+"@"+d.String())
	return nil
}

func (c contents) DeleteTag(_ context.Context, repo registry.Repo, tag string) error {
	c.deleted = append(c.deleted, repo.String()+":"+tag)
	return nil
}

func (c contents) CopyTag(context.Context, registry.Repo, string, string) (registry.Descriptor, error) {
	return registry.Descriptor{}, errors.New("nothing here copies tags")
}

// idle carries out nothing.
type idle struct{}

func (idle) Clean(hosted.Order) error { return nil }
func (idle) SetPlan(*hosted.Plan)     {}
func (idle) StopCleaning() bool       { return false }

// open makes one, with the administrator "admin"; "gina", who is a guest of shop; and "nobody".
func open(t testing.TB) *town {
	t.Helper()
	dir := t.TempDir()
	v := &town{t: t, content: map[registry.Digest][]byte{}, names: map[string][]string{"hub": {"docker.io"}, "declared": {"quay.io"}}}
	var err error
	if v.db, err = catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.db.Close() })
	if v.access, err = accesstest.Open(t.Context(), access.Config{Catalog: v.db, Directory: filepath.Join(dir, "keys"), AdminPassword: password}); err != nil {
		t.Fatal(err)
	}
	v.must(v.db.Durable(t.Context(), func(tx *catalog.Tx) error {
		hub, err := tx.AddRegistry(catalog.Registry{Name: "hub-upstream", Kind: "docker-hub", URL: "https://hub.docker.com"})
		declared, err2 := tx.AddRegistry(catalog.Registry{Name: "declared (configured)", Kind: "quay", URL: "https://quay.io", Configured: true})
		return errors.Join(err, err2,
			tx.PutProject(catalog.Project{Name: "hub", Registry: hub, Public: true}),
			tx.PutProject(catalog.Project{Name: "declared", Registry: declared, Public: true, Configured: true}),
			tx.PutProject(catalog.Project{Name: "shop"}))
	}))
	table, err := rewrite.NewTable([]rewrite.Project{{Name: "hub", Hub: true, Hosts: []string{"docker.io"}}, {Name: "declared", Hosts: []string{"quay.io"}}, {Name: "shop", Hosted: true}}, nil, "hub")
	v.must(err)
	cached, err := cache.New(cache.Config{Catalog: v.db}) // of no project
	v.must(err)
	v.cached = cached
	v.must(cached.SetProjects(nil))
	v.estate = estate.New(estate.Config{
		Catalog: v.db, Access: v.access, Cache: cached, InForce: v.inForce, File: "roadstead.yaml",
		Try:     func(*catalog.Tx) error { return nil },
		Ping:    func(context.Context, catalog.Registry, string) error { return v.down },
		Builtin: func(string) bool { return false },
		Table:   func() *rewrite.Table { return table },
		Upstream: func(repo registry.Repo, reference string) []string {
			return []string{"https://up.example/v2/" + repo.Name + "/manifests/" + reference}
		},
		Place: func(i rewrite.Image, _ ...string) (registry.Repo, error) {
			if i.Host != "docker.io" {
				return registry.Repo{}, registry.NameUnknown
			}
			return registry.Repo{Project: "hub", Name: i.Name}, nil
		},
		Offline:   func() bool { return v.offline },
		Names:     func(project string) []string { return v.names[project] },
		Default:   func(string) string { return "hub" },
		CheckName: registry.CheckProject, Cleaner: idle{}, Hosted: contents{v}, Cached: contents{v},
		Scrub: func(ctx context.Context, step func(done, total int64)) (string, error) {
			step(1<<20, 4<<20)
			<-ctx.Done()
			return "a quarter of it", ctx.Err()
		},
		Read: func(_ context.Context, d registry.Digest, most int64) ([]byte, error) {
			b, ok := v.content[d]
			if !ok || int64(len(b)) > most {
				return nil, errors.New("it is not stored")
			}
			return b, nil
		},
	})
	v.must(v.inForce(t.Context()))
	for _, name := range []string{"gina", "nobody"} {
		v.must(v.access.AddUser(t.Context(), "test", access.NewUser{Name: name, Password: password}))
	}
	v.must(v.access.SetMember(t.Context(), "test", catalog.Member{Project: "shop", Name: "gina", Role: string(access.Guest)}))
	v.Console, err = New(Config{
		Access: v.access, Estate: v.estate, Version: "1.2.3",
		Cache: func() cache.Stats {
			return cache.Stats{Projects: map[string]cache.ProjectStats{"hub": {Hits: 8, Misses: 2, BytesUpstream: 1 << 20}}, StoredBytes: 5 << 30, ProxiedBytes: 2 << 30, MaxSize: v.maxSize}
		},
		Flights: func() []cache.Flight { return v.flights },
		Hosted:  func() hosted.Stats { return hosted.Stats{} },
		Server:  func() server.Stats { return server.Stats{Bytes: 9 << 20} },
		Upstreams: func() map[string]upstream.Stats {
			return map[string]upstream.Stats{"hub": {
				Limit:     upstream.RateLimit{Limit: 100, Remaining: 63, At: time.Now()},
				Endpoints: []upstream.EndpointStats{{Host: "registry-1.docker.io", Asked: true}, {Host: "second.example", Asked: true, Down: true}, {Host: "third.example", Asked: true, QuietUntil: time.Now().Add(time.Hour)}, {Host: "fourth.example"}},
			}}
		},
	})
	v.must(err)
	return v
}

func (v *town) inForce(ctx context.Context) error {
	rows, err := v.db.AllProjects(ctx)
	var all []access.Project
	for _, p := range rows {
		all = append(all, access.Project{Name: p.Name, Public: p.Public, Hosted: p.Hosted()})
	}
	v.access.SetProjects(all)
	return err
}

func (v *town) must(errs ...error) {
	v.t.Helper()
	for _, err := range errs {
		if err != nil {
			v.t.Fatal(err)
		}
	}
}

// browser is one of somebody.
type browser struct {
	*town
	cookies []*http.Cookie
	headers map[string]string // of each request
}

// as signs somebody in, or is nobody's browser.
func (v *town) as(name string) *browser {
	v.t.Helper()
	b := &browser{town: v, headers: map[string]string{}}
	if name != "" {
		page := b.post("/c/signin", url.Values{"username": {name}, "password": {password}})
		if page.status != http.StatusSeeOther || len(b.cookies) == 0 {
			v.t.Fatalf("%s is not signed in: %d %s", name, page.status, page.body)
		}
	}
	return b
}

// page is an answer.
type page struct {
	status int
	header http.Header
	body   string
}

func (b *browser) get(path string) page { return b.send(http.MethodGet, path, nil) }

func (b *browser) post(path string, form url.Values) page {
	return b.send(http.MethodPost, path, strings.NewReader(form.Encode()))
}

func (b *browser) send(method, path string, body io.Reader) page {
	b.t.Helper()
	r := httptest.NewRequest(method, path, body)
	r.Host = "mirror.example.com"
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, value := range b.headers {
		r.Header.Set(name, value)
	}
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookies = append(slices.DeleteFunc(b.cookies, func(old *http.Cookie) bool { return old.Name == c.Name }), c)
	}
	return page{w.Code, w.Header(), w.Body.String()}
}

// leads wants a redirect to an address.
func (p page) leads(t testing.TB, to string) {
	t.Helper()
	if got := p.header.Get("Location"); p.status != http.StatusSeeOther || got != to {
		t.Errorf("%d to %q, want 303 to %q\n%s", p.status, got, to, p.body)
	}
}

// has wants a status and texts in the page.
func (p page) has(t testing.TB, status int, texts ...string) {
	t.Helper()
	if p.status != status {
		t.Errorf("status %d, want %d\n%s", p.status, status, p.body)
	}
	for _, text := range texts {
		if !strings.Contains(p.body, text) {
			t.Errorf("the page lacks %q\n%s", text, p.body)
		}
	}
}

// put writes content down and returns its descriptor.
func (v *town) put(mediaType, body string) registry.Descriptor {
	d := digest.FromString(body)
	v.content[d] = []byte(body)
	return registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

// image writes an image into a repository, with a configuration and annotations, and tags it.
func (v *town) image(repo registry.Repo, tag, config, annotations string) registry.Digest {
	v.t.Helper()
	c := v.put("application/vnd.oci.image.config.v1+json", config)
	body := `{"schemaVersion":2,"mediaType":"` + registry.MediaTypeOCIManifest + `","config":{"mediaType":"` + c.MediaType + `","digest":"` + c.Digest.String() +
		`","size":` + itoa(c.Size) + `},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + digest.FromString("layer").String() + `","size":7340032}],"annotations":` + annotations + `}`
	m := v.put(registry.MediaTypeOCIManifest, body)
	manifest, refs, err := registry.ParseManifest(m.MediaType, m.Digest, []byte(body))
	v.must(err, v.db.Update(v.t.Context(), func(tx *catalog.Tx) error {
		return errors.Join(
			tx.AddBlob(repo, c.Digest, c.Size), tx.AddBlob(repo, digest.FromString("layer"), 7340032),
			tx.AddManifest(repo, manifest, refs), tx.PutTag(repo, tag, catalog.Tag{Descriptor: m, ChangedAt: time.Now(), CheckedAt: time.Now()}))
	}))
	return m.Digest
}

func itoa(n int64) string { return strings.ReplaceAll(words{}.number(n), ",", "") }
