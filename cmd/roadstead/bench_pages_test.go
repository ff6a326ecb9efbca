//go:build linux

package main_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// A house that many clusters have used for years.
const (
	pageRepositories = 100_000
	pageLayers       = 9 // of each image, its own; with its config and manifest they are the rest of a million
	pageDeep         = 1_000
)

func pageDigest(kind string, repo, i int) digest.Digest {
	sum := sha256.Sum256(fmt.Append(nil, kind, repo, " ", i))
	return digest.NewDigestFromBytes(digest.SHA256, sum[:])
}

// fillPages writes rows as a cache would that has so much: an image in each repository, and one
// repository of a thousand.
func fillPages(b *testing.B, path string, repositories int) {
	b.Helper()
	ctx := context.Background()
	db, err := catalog.Open(ctx, "sqlite:"+path)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	const atOnce = 2_000
	for from := 0; from < repositories; from += atOnce {
		err := db.Update(ctx, func(tx *catalog.Tx) error {
			for r := from; r < min(from+atOnce, repositories); r++ {
				project := []string{"docker.io", "quay.io", "production"}[r%3]
				repo := registry.Repo{Project: project, Name: fmt.Sprintf("team-%d/service-%d", r%500, r)}
				if err := fillPage(tx, repo, r, 0); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	deep := registry.Repo{Project: "docker.io", Name: "library/deep"}
	err = db.Update(ctx, func(tx *catalog.Tx) error {
		for i := range min(pageDeep, repositories) {
			if err := fillPage(tx, deep, -1, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func fillPage(tx *catalog.Tx, repo registry.Repo, r, i int) error {
	var refs registry.References
	desc := func(kind string, n int) registry.Descriptor {
		return registry.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: pageDigest(kind, r, i*pageLayers+n), Size: 1 << 20}
	}
	config := desc("config", 0)
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	refs.Config = &config
	for n := range pageLayers - 1 {
		layer := desc("layer", n)
		refs.Layers = append(refs.Layers, layer)
		if err := tx.AddBlob(repo, layer.Digest, layer.Size); err != nil {
			return err
		}
	}
	if err := tx.AddBlob(repo, config.Digest, config.Size); err != nil {
		return err
	}
	m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: ociManifest, Digest: pageDigest("manifest", r, i), Size: 2000}}
	if err := tx.AddManifest(repo, m, refs); err != nil {
		return err
	}
	now := time.Now()
	return tx.PutTag(repo, fmt.Sprintf("v%d", i), catalog.Tag{Descriptor: m.Descriptor, CheckedAt: now, ChangedAt: now})
}

// BenchmarkPages asks for every page of the console and every list of the API over 100,000
// repositories and a million pieces of content, and prints the time of each beside that of a house
// that has a hundredth of it, and how long either takes to start.
//
//	go test -run '^$' -bench Pages -benchtime 1x -timeout 30m ./cmd/roadstead
func BenchmarkPages(b *testing.B) {
	projects := map[string]any{
		"docker.io": map[string]any{"endpoints": []string{"http://127.0.0.1:1"}, "allow_private": true},
		"quay.io":   map[string]any{"endpoints": []string{"http://127.0.0.1:1"}, "allow_private": true},
	}
	large := newPages(b, projects, pageRepositories)
	small := newPages(b, projects, pageRepositories/100)
	fmt.Printf("%-78s %9s %9s %7s\n", "every page, ms (at most 100)", "100,000", "1,000", "ratio")
	report := func(name string, l, s time.Duration) {
		over := ""
		if l > 100*time.Millisecond {
			over = " OVER"
		}
		fmt.Printf("%-78s %9.1f %9.1f %6.1f×%s\n", name, milliseconds(l), milliseconds(s), float64(l)/float64(s), over)
	}
	report("start to first answer", large.restarted, small.restarted)
	var worst time.Duration
	for _, path := range pagesToAsk {
		l, s := large.median(path), small.median(path)
		report("GET "+path, l, s)
		worst = max(worst, l)
	}
	b.ReportMetric(milliseconds(worst), "worst-ms")
	b.ReportMetric(0, "ns/op")
}

var pagesToAsk = []string{
	"/c/", "/c/projects", "/c/registries", "/c/projects/docker.io", "/c/projects/docker.io?page=1000", "/c/projects/docker.io?q=service-7",
	"/c/repositories/docker.io/library/deep", "/c/search?q=service-99", "/c/search?q=nothing-like-it", "/c/audit", "/c/jobs", "/c/users", "/c/connect",
	"/api/v2.0/projects", "/api/v2.0/projects/docker.io", "/api/v2.0/projects/docker.io/summary", "/api/v2.0/statistics", "/api/v2.0/quotas",
	"/api/v2.0/projects/docker.io/repositories?page_size=100", "/api/v2.0/projects/docker.io/repositories?page=300&page_size=100",
	"/api/v2.0/projects/production/repositories?q=name%3D~service-7&page_size=100", "/api/v2.0/repositories?page_size=100",
	"/api/v2.0/projects/docker.io/repositories/library%252Fdeep/artifacts?page_size=100", "/api/v2.0/projects/docker.io/repositories/library%252Fdeep/artifacts/v1",
	"/api/v2.0/search?q=service-99", "/api/v2.0/audit-logs?page_size=100", "/v2/_catalog?n=1000",
}

// pages is a house with so many repositories and somebody who has signed in to it.
type pages struct {
	*wharf
	client    *http.Client
	restarted time.Duration
}

func newPages(b *testing.B, projects map[string]any, repositories int) *pages {
	b.Helper()
	p := &pages{wharf: startWharf(b, nodeConfig{projects: projects})}
	p.terminate(10 * time.Second)
	fillPages(b, filepath.Join(p.dir, "catalog.db"), repositories)
	began := time.Now()
	p.start()
	p.restarted = time.Since(began)
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	p.client = &http.Client{Jar: jar, Timeout: time.Minute}
	res, err := p.client.PostForm(p.url+"/c/signin", url.Values{"username": {p.root.name}, "password": {p.root.secret}})
	if err != nil {
		b.Fatal(err)
	}
	res.Body.Close()
	return p
}

// median asks for a page some times and returns the time in the middle until all of it is here.
func (p *pages) median(path string) time.Duration {
	p.t.Helper()
	var all []time.Duration
	for range 7 {
		began := time.Now()
		req, err := http.NewRequest(http.MethodGet, p.url+path, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		if path[:3] != "/c/" {
			req.SetBasicAuth(p.root.name, p.root.secret)
		}
		res, err := p.client.Do(req)
		if err != nil {
			p.t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || res.Request.URL.Path == "/c/signin" {
			p.t.Fatalf("GET %s: %s at %s, %v", path, res.Status, res.Request.URL.Path, err)
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
