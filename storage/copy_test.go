package storage

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"roadstead/storage/s3"
	"roadstead/storage/s3test"
)

// lying is what lies in the layout of a directory, by name.
func lying(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, layoutDir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		all[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lyingIn is the same of a bucket.
func lyingIn(t *testing.T, d storagedriver.StorageDriver) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := d.Walk(t.Context(), "/", func(info storagedriver.FileInfo) error {
		if info.IsDir() {
			return nil
		}
		b, err := d.GetContent(t.Context(), info.Path())
		all[info.Path()[1:]] = string(b)
		return err
	})
	if _, none := errors.AsType[storagedriver.PathNotFoundError](err); err != nil && !none {
		t.Fatal(err)
	}
	return all
}

func bucketOf(t testing.TB, s *s3test.Server, endpoint string) *s3.Driver {
	t.Helper()
	d, err := s3.New(t.Context(), s3.Config{Endpoint: endpoint, Region: s.Region, Bucket: s.Bucket(t), AccessKey: s.AccessKey, SecretKey: s.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// told is what a copy has said.
type told struct {
	mu       sync.Mutex
	sent     int64
	left     map[digest.Digest]error
	links    int64
	problems []string
}

// copyAll makes a whole copy, as far as it goes.
func copyAll(t *testing.T, from, to *Store) (p Plan, said *told, pruned int, err error) {
	t.Helper()
	said = &told{left: map[digest.Digest]error{}}
	c, err := NewCopy(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	c.waits = []time.Duration{0, time.Millisecond}
	if p, err = c.Plan(t.Context(), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	with := func(do func()) { said.mu.Lock(); do(); said.mu.Unlock() }
	err = c.Contents(t.Context(), func(n int64) { with(func() { said.sent += n }) }, func(d digest.Digest, err error) { with(func() { said.left[d] = err }) })
	if err == nil {
		err = c.Links(t.Context(), func() { with(func() { said.links++ }) }, func(s string) { with(func() { said.problems = append(said.problems, s) }) })
	}
	if err == nil {
		pruned, err = c.Prune(t.Context())
	}
	return p, said, pruned, err
}

// A copy has what the directory has, file by file, but for what is damaged or does not belong. What was
// cut short goes on, and what has changed in between is as it is now.
func TestCopy(t *testing.T) {
	server := s3test.Versitygw(t)
	proxy := server.Proxy(t)
	driver := bucketOf(t, server, proxy.Endpoint)
	to, _ := overDriver(t, driver)
	root := t.TempDir()
	from := openStore(t, root)
	ctx := t.Context()

	const repo = "production/team/web"
	long := digest.FromString("of the other algorithm")
	var contents []digest.Digest
	for i, n := range []int{0, 1, 1000, atOnce, atOnce + 1, 40 << 20} {
		contents = append(contents, mustCommit(t, from, some(uint64(i), n)))
	}
	other := sum(digest.SHA512, []byte("other"))
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(from.Put(ctx, other, []byte("other")), from.Put(ctx, long, []byte("of the other algorithm")))
	must(from.LinkBlob(ctx, repo, contents[2]), from.LinkBlob(ctx, repo+"/below", other), from.LinkManifest(ctx, repo, long))
	must(from.Tag(ctx, repo, "1.0", contents[1]), from.Tag(ctx, repo, "1.0", long), from.Tag(ctx, repo, "2.0", long))
	whole := lying(t, root)

	// What does not belong, and what is damaged: small, large, cut short, and in a link.
	stray := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		must(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	for _, name := range []string{"/_uploads/1/data", "/_other/link", "/_layers/sha256/none/link", "/_manifests/tags/-/current/link", "/file", "/UPPER/_layers/x"} {
		stray(reposDir+"/"+repo+name, "x")
	}
	stray(blobsDir+"/sha256/00/none/data", "x")
	small, large, short := mustCommit(t, from, some(90, 500)), mustCommit(t, from, some(91, atOnce+500)), mustCommit(t, from, some(92, 3000))
	for d, text := range map[digest.Digest]string{small: "damaged", large: strings.Repeat("damaged", atOnce/5), short: ""} {
		name, _ := blobPath(d)
		stray(name, text)
	}
	stray(linkDir(layersDir(repo), small)+"/link", "no link")

	// The bucket refuses in the middle, for longer than anybody tries.
	proxy.Fail(func(r s3test.Request) s3test.Fault {
		if r.Kind == "PUT" && r.N > 4 || r.Kind == "PART" {
			return s3test.Fault{Status: 403, Code: "AccessDenied"}
		}
		return s3test.Fault{}
	})
	if _, _, _, err := copyAll(t, from, to); err == nil || !strings.Contains(err.Error(), "AccessDenied") && !strings.Contains(err.Error(), "Access Denied") {
		t.Errorf("while the bucket refuses: %v", err)
	}
	// One that was just being begun when another was refused is not known to anybody: it is swept.
	if left := server.Unfinished(t, onlyBucket(t, server)); len(left) >= copiers {
		t.Errorf("unfinished uploads are left: %q", left)
	}
	proxy.Fail(nil)
	p, said, pruned, err := copyAll(t, from, to)
	must(err)
	if got := lyingIn(t, driver); !maps.Equal(got, whole) || pruned != 0 {
		t.Errorf("the bucket has %q\nwant %q; %d pruned", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(whole)), pruned)
	}
	if len(said.left) != 3 || !errors.Is(said.left[small], ErrDamaged) || !errors.Is(said.left[large], ErrDamaged) || !errors.Is(said.left[short], ErrDamaged) {
		t.Errorf("left out are %v", said.left)
	}
	if len(said.problems) != 1 || !strings.Contains(said.problems[0], small.Encoded()) {
		t.Errorf("the problems are %q", said.problems)
	}
	if p.Contents != 11 || p.ContentsLeft >= p.Contents || said.links != p.Links-1 || said.sent > p.BytesLeft {
		t.Errorf("the plan is %+v, sent are %d bytes and %d links", p, said.sent, said.links)
	}

	// It is served meanwhile, and copied again: only what is new goes, what has gone goes, and tags are
	// where they are now.
	must(from.Tag(ctx, repo, "1.0", contents[1]), from.Untag(ctx, repo, "2.0"), from.Remove(ctx, contents[3]))
	fresh := mustCommit(t, from, some(77, 1000))
	proxy.Requests()
	p, _, pruned, err = copyAll(t, from, to)
	must(err)
	if pruned != 3 || p.ContentsLeft != 4 { // the new one, and three that are damaged
		t.Errorf("%d were pruned, and %d are left", pruned, p.ContentsLeft)
	}
	got := lyingIn(t, driver)
	name, _ := blobPath(fresh)
	tag := tagsDir(repo) + "/1.0/current/link"
	if got[tag] != string(contents[1]) || got[name] != string(some(77, 1000)) {
		t.Errorf("the tag points to %q", got[tag])
	}
	for name := range got {
		if strings.Contains(name, "/2.0/") || strings.Contains(name, contents[3].Encoded()) {
			t.Errorf("%s is still there", name)
		}
	}
	puts := slices.DeleteFunc(proxy.Requests(), func(kind string) bool { return kind != "PUT" && kind != "PART" && kind != "BEGIN" })
	if want := []string{"PUT", "PUT"}; !slices.Equal(puts, want) { // the new one, and the tag
		t.Errorf("again: %q, want %q", puts, want)
	}
	if _, err := NewCopy(ctx, to, from); err == nil {
		t.Error("a directory was copied into")
	}
}

// onlyBucket is the bucket that a server has, if it is one.
func onlyBucket(t *testing.T, s *s3test.Server) string {
	t.Helper()
	all, err := s.Client(t).ListBuckets(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	return all[0].Name
}

// BenchmarkCopy is a copy of large and small content beside a copy of the same files by minio-go, as
// many at once.
func BenchmarkCopy(b *testing.B) {
	server := s3test.Versitygw(b)
	root := b.TempDir()
	from := openStore(b, root)
	size, files := int64(0), []string{}
	for i := range 420 {
		n := 10_000
		if i < 20 {
			n = 24 << 20
		}
		d := mustCommit(b, from, some(uint64(i), n))
		name, _ := blobPath(d)
		size, files = size+int64(n), append(files, name)
	}
	client, ctx := server.Client(b), b.Context()
	var ours, plain time.Duration
	for b.Loop() {
		began := time.Now()
		to, err := New(Config{Driver: bucketOf(b, server, server.Endpoint), Drafts: b.TempDir(), Floor: -1})
		if err != nil {
			b.Fatal(err)
		}
		c, err := NewCopy(ctx, from, to)
		if err == nil {
			err = c.Contents(ctx, func(int64) {}, func(_ digest.Digest, err error) { b.Error(err) })
		}
		if err != nil {
			b.Fatal(err)
		}
		ours += time.Since(began)

		began = time.Now()
		bucket, todo := server.Bucket(b), make(chan string)
		var workers sync.WaitGroup
		for range copiers {
			workers.Go(func() {
				for name := range todo {
					if _, err := client.FPutObject(ctx, bucket, name, filepath.Join(root, name), minio.PutObjectOptions{}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for _, name := range files {
			todo <- name
		}
		close(todo)
		workers.Wait()
		plain += time.Since(began)
	}
	mib := float64(size) * float64(b.N) / (1 << 20)
	b.ReportMetric(mib/ours.Seconds(), "MiB/s")
	b.ReportMetric(mib/plain.Seconds(), "minio-go-MiB/s")
	b.ReportMetric(plain.Seconds()/ours.Seconds(), "ratio")
}
