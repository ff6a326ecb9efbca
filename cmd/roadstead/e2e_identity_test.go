package main_test

import (
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"roadstead/storage/postgrestest"
	"roadstead/storage/s3test"
)

// A node of an existing cluster that is given another bucket than the others ends with what to do, at
// once or as soon as the bucket is there, and joins with the right one. Whoever means it says so by adopt.
func TestANodeWithAnotherBucket(t *testing.T) {
	e2e(t)
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	bucket, empty, foreign := s.Bucket(t), s.Bucket(t), s.Bucket(t)
	catalog := onPostgreSQL(t, database)
	store := func(bucket string, catalog map[string]any) map[string]any {
		store := bucketStorage(t, s, s.Endpoint, bucket)
		maps.Copy(store["s3"].(map[string]any), map[string]any{"stall": "2s", "retries": 1})
		maps.Copy(store, catalog)
		return store
	}
	w := startWharf(t, nodeConfig{plain: true, storage: store(bucket, catalog)})
	img := recipe{seed: 970_000, layers: 1, layerSize: 1 << 20}.make(t, "1.0")
	if err := w.as(w.robot).push("production/app", img); err != nil {
		t.Fatal(err)
	}
	startNode(t, nodeConfig{plain: true, storage: store(foreign, onPostgreSQL(t, database))}).terminate(10 * time.Second)

	projects := map[string]any{"production": map[string]any{"hosted": true}}
	serve := func(n *node) error {
		_, err := tryFor(20*time.Second, environment(n.home), roadsteadCommand(t), "serve", "--config", n.config)
		return err
	}
	wrongKey := store(bucket, catalog)
	nobody := t.TempDir() + "/secret"
	if err := os.WriteFile(nobody, []byte("not it"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrongKey["s3"].(map[string]any)["secret_key_file"] = nobody
	for name, c := range map[string]struct {
		storage map[string]any
		want    []string
	}{
		"one that does not exist":  {store("imagez", catalog), []string{"imagez", "make it, or correct its name"}},
		"a wrong key":              {wrongKey, []string{bucket, "the secret key is not that of the access key"}},
		"an empty one":             {store(empty, catalog), []string{"bucket " + bucket, "bucket " + empty, "storage.s3", "roadstead adopt"}},
		"that of another catalog":  {store(foreign, catalog), []string{"bucket " + bucket, "bucket " + foreign, "storage.s3", "roadstead adopt"}},
		"the one, another prefix":  {with(store(bucket, catalog), "prefix", "their/registry"), []string{"bucket " + bucket + "/our", "bucket " + bucket + "/their", "storage.s3"}},
		"one that is not a bucket": {store("no/bucket", catalog), []string{"bucket"}},
	} {
		n := newNode(t, nodeConfig{plain: true, projects: projects, storage: c.storage})
		err := serve(n)
		if err == nil {
			t.Errorf("%s: it served", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nwant %q in it", name, err, want)
			}
		}
	}
	if s.Has(t, empty, "our/registry/roadstead/id") {
		t.Error("a bucket that was refused has an id now")
	}
	w.terminate(10 * time.Second)
	second := startNode(t, nodeConfig{plain: true, projects: projects, storage: store(bucket, catalog)})
	second.knows(w.robot)
	if err := second.as(w.robot).pull("production/app", "1.0", img); err != nil {
		t.Errorf("with the right bucket: %v", err)
	}

	// It has been with the right one. When that is away it starts, and ends when another one is there instead.
	second.terminate(10 * time.Second)
	put := func(bucket, key, body string) {
		t.Helper()
		if _, err := s.Client(t).PutObject(t.Context(), bucket, key, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	id, err := s.Client(t).GetObject(t.Context(), bucket, "our/registry/roadstead/id", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	was, err := io.ReadAll(id)
	if err != nil {
		t.Fatal(err)
	}
	put(bucket, "our/registry/roadstead/id", "ANOTHER")
	s.Stop()
	second.launch()
	if a := second.told("/readyz"); a.status != http.StatusOK || !strings.Contains(string(a.body), "bucket") {
		t.Errorf("without the bucket: %v", a)
	}
	s.Start(t)
	eventually(t, 20*time.Second, "the end of a node with another bucket", func() bool { return second.ended(0) })
	if log, err := os.ReadFile(second.log); err != nil || !strings.Contains(string(log), "ANOTHER") {
		t.Errorf("%v, it said\n%s", err, log)
	}
	if err := serve(second); err == nil || !strings.Contains(err.Error(), "ANOTHER") {
		t.Errorf("and when the bucket is there: %v", err)
	}
	put(bucket, "our/registry/roadstead/id", string(was))
	second.start()
	if err := second.as(w.robot).pull("production/app", "1.0", img); err != nil {
		t.Errorf("with the right bucket again: %v", err)
	}
	second.terminate(10 * time.Second)

	// The bucket is lost, and an empty one takes its place.
	third := newNode(t, nodeConfig{plain: true, projects: projects, storage: store(empty, catalog)})
	if out, err := third.command("adopt"); err != nil {
		t.Fatalf("adopt: %v\n%s", err, out)
	}
	third.start()
	if err := third.as(w.robot).push("production/app", img); err != nil {
		t.Error(err)
	}
	if err := third.as(w.robot).pull("production/app", "1.0", img); err != nil {
		t.Error(err)
	}
	third.terminate(10 * time.Second)
	if err := serve(second); err == nil || !strings.Contains(err.Error(), "bucket "+empty) {
		t.Errorf("with the bucket that was lost: %v", err)
	}
	for _, args := range [][]string{
		{"scrub"}, {"import", writeLayout(t, img), "--project", "production"}, {"export", "--project", "production", "--output", filepath.Join(t.TempDir(), "images.tar")},
	} {
		if out, err := second.command(args[0], args[1:]...); err == nil || !strings.Contains(err.Error(), "bucket "+empty) {
			t.Errorf("%s with the bucket that was lost: %v\n%s", args[0], err, out)
		}
	}
	if out, err := third.command("scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}
}

// with is a storage with another value of its bucket's.
func with(storage map[string]any, key string, value any) map[string]any {
	storage["s3"].(map[string]any)[key] = value
	return storage
}

// A single node with its catalog in a file is held to its bucket, too.
func TestASingleNodeWithAnotherBucket(t *testing.T) {
	e2e(t)
	s := s3test.Versitygw(t)
	bucket := s.Bucket(t)
	w := startWharf(t, nodeConfig{plain: true, storage: bucketStorage(t, s, s.Endpoint, bucket)})
	img := recipe{seed: 971_000, layers: 1, layerSize: 1 << 20}.make(t, "1.0")
	if err := w.as(w.robot).push("production/app", img); err != nil {
		t.Fatal(err)
	}
	w.terminate(10 * time.Second)
	for other, want := range map[string]string{"imagez": "make it, or correct its name", s.Bucket(t): "bucket " + bucket} {
		n := newNode(t, nodeConfig{plain: true, dir: w.dir, projects: map[string]any{}, storage: bucketStorage(t, s, s.Endpoint, other)})
		_, err := tryFor(20*time.Second, environment(n.home), roadsteadCommand(t), "serve", "--config", n.config)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), other) {
			t.Errorf("%s: %v", other, err)
		}
	}
	w.start()
	if err := w.as(w.robot).pull("production/app", "1.0", img); err != nil {
		t.Error(err)
	}
}

// A new cluster whose bucket is away says that it is the bucket, and not the catalog.
func TestANewNodeWithoutTheBucket(t *testing.T) {
	e2e(t)
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	bucket := s.Bucket(t)
	store := bucketStorage(t, s, s.Endpoint, bucket)
	maps.Copy(store["s3"].(map[string]any), map[string]any{"stall": "2s", "retries": 1})
	maps.Copy(store, onPostgreSQL(t, database))
	s.Stop()
	n := newNode(t, nodeConfig{plain: true, storage: store})
	n.launch()
	health := strings.Join(strings.Fields(string(n.told("/healthz").body)), " ")
	if !strings.Contains(health, `{ "name": "catalog", "status": "healthy" }`) || !strings.Contains(health, `{ "name": "bucket", "status": "unhealthy", "error": "s3: look at bucket `+bucket) {
		t.Errorf("healthz: %s", health)
	}
	if up := n.metric("roadstead_part_up", `part="bucket"`); up != 0 {
		t.Errorf("part_up of the bucket is %v", up)
	}
	n.away("a page", http.MethodGet, "/c/")
	if a := n.ask(http.MethodGet, "/c/"); !strings.HasPrefix(string(a.body), "The bucket is away") {
		t.Errorf("a page: %s", a.body)
	}
	s.Start(t)
	eventually(t, 15*time.Second, "a node that is whole", func() bool { return n.told("/readyz?whole").status == http.StatusOK })
	log, err := os.ReadFile(n.log)
	for _, want := range []string{"not all can be served before the bucket is there", "the bucket is there, all is served"} {
		if err != nil || !strings.Contains(string(log), want) {
			t.Errorf("%v, the log lacks %q:\n%s", err, want, log)
		}
	}
}
