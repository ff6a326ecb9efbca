package main_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A node is roadstead under test. It can be ended and started again on the same data.
type node struct {
	*process
	t      testing.TB
	home   string // configuration and log
	dir    string // the data directory
	addr   string // "127.0.0.1:port"
	url    string
	ca     string // the file with what signed its certificate; "" without TLS
	admin  string // URL of metrics and health
	config string // the file
	http   *http.Client
	who    account                                                // whose requests it sends; zero: anybody's
	before func(program string, args []string) (string, []string) // how the program is started, if not as it is
	plain  bool
}

// nodeConfig says how a node is configured.
type nodeConfig struct {
	addr     string         // zero: a free one
	dir      string         // zero: an empty directory
	projects map[string]any // see project
	tls      bool
	storage  map[string]any // further keys of "storage"
	more     map[string]any // further top-level keys
	before   func(program string, args []string) (string, []string)

	// Without the race detector, which doubles what a node costs. It is for tests of what clients see and
	// of what is left on a disk; flights, clusters, reloads, collections and whatever else does several
	// things at once have the detector, and so have the tests of each package.
	plain bool
}

// startNode starts roadstead and waits until it answers.
func startNode(t testing.TB, c nodeConfig) *node {
	t.Helper()
	n := newNode(t, c)
	n.start()
	return n
}

// newHTTPClient trusts pool, if there is one. No request of a test takes longer than its timeout
// when nothing is wrong.
func newHTTPClient(pool *x509.CertPool) *http.Client {
	return &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: pool != nil,
	}}
}

// newNode configures a node that is not started yet. It knows no project but those given, so a
// mistake in a test cannot make it ask the real Docker Hub.
func newNode(t testing.TB, c nodeConfig) *node {
	t.Helper()
	home := t.TempDir()
	n := &node{t: t, home: home, dir: c.dir, addr: cmp.Or(c.addr, freeAddress(t)), http: newHTTPClient(nil), before: c.before, plain: c.plain}
	if n.dir == "" {
		n.dir = filepath.Join(home, "data")
	}
	n.url = "http://" + n.addr
	admin := freeAddress(t)
	n.admin = "http://" + admin
	store := map[string]any{"directory": n.dir, "floor": "1MiB"}
	maps.Copy(store, c.storage)
	config := map[string]any{
		"listen":           n.addr,
		"admin":            admin,
		"storage":          store,
		"builtin_projects": false,
		"default_project":  "",
		"projects":         c.projects,
	}
	if c.tls {
		cert := newCertificate(t, home)
		n.url, n.http, n.ca = "https://"+n.addr, newHTTPClient(cert.pool), cert.file
		config["tls"] = map[string]any{"certificate": cert.file, "key": cert.key}
	}
	maps.Copy(config, c.more)
	n.config = writeJSON(t, filepath.Join(home, "roadstead.yaml"), config)
	t.Cleanup(func() { n.checkLog(t) }) // runs after that of start, which ends it
	return n
}

// start starts a node that has ended.
func (n *node) start() {
	n.t.Helper()
	program, args := n.program(), []string{"serve", "--config", n.config}
	if n.before != nil {
		program, args = n.before(program, args)
	}
	n.process = start(n.t, n.home, "roadstead", program, args...)
	waitForHTTP(n.t, n.process, n.http, n.url+"/v2/")
}

func (n *node) program() string {
	if n.plain {
		return roadsteadCommand(n.t)
	}
	return roadsteadBinary(n.t)
}

// command runs another subcommand on this node's configuration.
func (n *node) command(name string, args ...string) ([]byte, error) {
	return try(environment(n.home), roadsteadCommand(n.t), append([]string{name, "--config", n.config}, args...)...)
}

// checkLog looks for what must never be in a log, whatever a test did.
func (n *node) checkLog(t testing.TB) {
	t.Helper()
	if n.process == nil {
		return // it was never started, which has been said
	}
	log, err := os.ReadFile(n.log)
	if err != nil {
		t.Error(err)
	}
	for _, never := range []string{"WARNING: DATA RACE", "panic:", "fatal error:", tokenSecret} {
		if i := bytes.Index(log, []byte(never)); i >= 0 {
			t.Errorf("roadstead's log says %q:\n%s", never, log[i:min(len(log), i+4<<10)])
		}
	}
}

// An answer is what a node sent for one request.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body: cut off before its end
}

// digest is that of the body.
func (a answer) digest() digest.Digest { return digest.FromBytes(a.body) }

// whole says whether the answer is a complete 200.
func (a answer) whole() bool { return a.status == http.StatusOK && a.err == nil }

func (a answer) String() string {
	return fmt.Sprintf("%d, %d bytes (%v) %.200q", a.status, len(a.body), a.err, a.body)
}

// ask sends one request with headers given as "Name: value". It fails the test only when there
// is no answer.
func (n *node) ask(method, path string, headers ...string) answer {
	n.t.Helper()
	a, err := n.tryAsk(method, path, headers...)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) tryAsk(method, path string, headers ...string) (answer, error) {
	res, err := n.open(method, path, headers...)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	a.body, a.err = io.ReadAll(res.Body)
	return a, nil
}

// open sends one request and leaves the body to the caller.
func (n *node) open(method, path string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequest(method, n.url+path, nil)
	if err != nil {
		return nil, err
	}
	return n.do(req, headers...)
}

// do sends a request with whatever headers it lacks.
func (n *node) do(req *http.Request, headers ...string) (*http.Response, error) {
	if n.who.name != "" {
		req.SetBasicAuth(n.who.name, n.who.secret)
	}
	req.Header.Set("Accept-Encoding", "identity")
	for _, accept := range []string{ociManifest, ociIndex, dockerManifest, dockerList} {
		req.Header.Add("Accept", accept)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return n.http.Do(req)
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
)

func blobPath(repo string, d digest.Digest) string { return "/v2/" + repo + "/blobs/" + string(d) }

func manifestPath(repo, ref string) string { return "/v2/" + repo + "/manifests/" + ref }

// pull gets all of an image by tag and digest, and returns what is not as it should be.
func (n *node) pull(repo, tag string, img *image) error {
	top := img.tags[tag]
	a, err := n.tryAsk(http.MethodHead, manifestPath(repo, tag))
	if err != nil {
		return err
	}
	if a.status != http.StatusOK || a.header.Get("Docker-Content-Digest") != string(top.digest) ||
		a.header.Get("Content-Length") != strconv.Itoa(len(top.bytes)) || a.header.Get("Content-Type") != top.mediaType {
		return fmt.Errorf("HEAD %s:%s: %v, %v; want %s", repo, tag, a, a.header, top.digest)
	}
	for _, m := range img.manifests {
		a, err := n.tryAsk(http.MethodGet, manifestPath(repo, string(m.digest)))
		if err != nil {
			return err
		}
		if !a.whole() || !bytes.Equal(a.body, m.bytes) || a.header.Get("Content-Type") != m.mediaType {
			return fmt.Errorf("GET %s@%s: %v, %s", repo, m.digest, a, a.header.Get("Content-Type"))
		}
	}
	for _, d := range img.blobOrder {
		if err := n.pullBlob(repo, d, img.blobs[d].size); err != nil {
			return err
		}
	}
	return nil
}

// pullBlob gets a blob and hashes it as it comes.
func (n *node) pullBlob(repo string, d digest.Digest, size int64) error {
	res, err := n.open(http.MethodGet, blobPath(repo, d))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	hash := sha256.New()
	got, err := io.Copy(hash, res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s@%s: %s, %d of %d bytes: %w", repo, d, res.Status, got, size, err)
	}
	if have := digest.NewDigest(digest.SHA256, hash); have != d || got != size {
		return fmt.Errorf("GET %s@%s: a complete body of %d bytes with digest %s", repo, d, got, have)
	}
	return nil
}

// metric returns the sum of a metric's series whose text contains all of labels.
func (n *node) metric(name string, labels ...string) float64 {
	n.t.Helper()
	res, err := http.Get(n.admin + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	sum, found := 0.0, false
lines:
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(series, label) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			n.t.Fatalf("metric %q: %v", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		n.t.Errorf("no metric %s with %q", name, labels)
	}
	return sum
}

// rss is the memory that the node occupies, in bytes.
func (n *node) rss() int64 {
	n.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		n.t.Fatalf("no VmRSS in %s", status)
	}
	kib, _ := strconv.ParseInt(string(found[1]), 10, 64)
	return kib << 10
}

// descriptors is how many files and connections the node has open.
func (n *node) descriptors() int {
	n.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	return len(open)
}

// terminate is SIGTERM, and the node's time to end in its own way, on a machine of its own.
func (n *node) terminate(within time.Duration) {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	if !n.ended(given(within)) {
		n.t.Fatalf("roadstead did not end within %v of SIGTERM", within)
	}
	if n.err != nil {
		n.t.Errorf("roadstead ended with %v after SIGTERM", n.err)
	}
}
