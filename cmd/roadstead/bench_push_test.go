//go:build linux

package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// How much is pushed: small images as they are built by the hundred, and layers that are mostly
// data. Of 64 clients at once each sends a smaller layer, since the disk has to hold all of them.
const (
	smallLayer     = 4 << 10
	largeLayer     = 1 << 30
	largeOf64      = 128 << 20
	pushClients    = 64
	imagesOfOne    = 100
	imagesOf64     = 1280
	pushRepository = "team/push"
)

// benchPush measures pushes to an ordinary registry: ours, to a hosted project with a robot's
// credentials on each request, and distribution's with its file system driver and no
// authentication at all.
func benchPush(b *testing.B, o benchOptions) benchTable {
	// Half as many again of small images in the same time, large layers no slower, less memory.
	small, level := map[string]float64{stock: 1 / 1.5}, map[string]float64{stock: 1}
	rows := pushFigures{
		smallOne: &benchFigure{title: "small image, 1 client, ms (images/s)", metric: "push-ms", places: 2, beside: "images/s", share: small},
		smallAll: &benchFigure{title: "small image, 64 clients, ms (images/s)", metric: "push64-ms", places: 2, beside: "images/s", share: small},
		smallCPU: &benchFigure{title: "… ms CPU an image", metric: "push64-cpu-ms", places: 2},
		largeOne: &benchFigure{title: "1 GiB layer, 1 client, s (MB/s)", metric: "push-1g-s", places: 2, beside: "MB/s", share: level},
		largeCPU: &benchFigure{title: "… s CPU", metric: "push-1g-cpu-s", places: 2},
		largeAll: &benchFigure{title: "128 MiB layers, 64 clients, s (MB/s)", metric: "push64-128m-s", places: 2, beside: "MB/s", share: level},
		memory:   &benchFigure{title: "most memory in all this, MB", metric: "push-rss-MB", share: level},
	}
	var all []pushContestant
	for _, c := range []pushContestant{{name: stock, start: startHostedDistribution}, {name: ours, start: startHostedOurs}} {
		if o.has(c.name) {
			dir := b.TempDir()
			c.benchProcess, c.client = c.start(b, dir)
			all = append(all, c)
		}
	}
	noise := newPushNoise(b, smallLayer, largeOf64, largeLayer)
	for round := range o.rounds {
		for i := range all {
			all[i].round(b, rows, noise, round)
		}
	}
	var columns []string
	for i := range all {
		columns = append(columns, all[i].name)
		rows.memory.sample(all[i].name, benchSample{value: float64(all[i].most) / 1e6})
	}
	return benchTable{title: "push", columns: columns, rows: []*benchFigure{
		rows.smallOne, rows.smallAll, rows.smallCPU, rows.largeOne, rows.largeCPU, rows.largeAll, rows.memory,
	}}
}

type pushFigures struct {
	smallOne, smallAll, smallCPU, largeOne, largeCPU, largeAll, memory *benchFigure
}

// pushContestant is a server that is pushed to.
type pushContestant struct {
	name  string
	start func(b *testing.B, dir string) (*benchProcess, pushClient)
	*benchProcess
	client pushClient
	most   int64 // resident memory in bytes, as sampled
}

// round pushes everything once, under names and with content of its own.
func (c *pushContestant) round(b *testing.B, rows pushFigures, noise *pushNoise, round int) {
	done := c.watch()
	defer done()
	seed := fmt.Sprintf("%s %d", c.name, round)
	settle()
	took := c.time(b, func() error {
		return c.client.images(noise, seed+" one", imagesOfOne)
	})
	rows.smallOne.sample(c.name, perImage(took, imagesOfOne))

	settle()
	before := c.cpu()
	took = c.time(b, func() error {
		return together(pushClients, func(i int) error {
			return c.client.images(noise, fmt.Sprintf("%s of 64: %d", seed, i), imagesOf64/pushClients)
		})
	})
	rows.smallAll.sample(c.name, perImage(took, imagesOf64))
	rows.smallCPU.sample(c.name, benchSample{value: milliseconds(c.cpu()-before) / imagesOf64})

	settle()
	before = c.cpu()
	took = c.time(b, func() error {
		_, err := c.client.blob(pushRepository+"/large", noise.layer(largeLayer, seed))
		return err
	})
	rows.largeOne.sample(c.name, perByte(took, largeLayer))
	rows.largeCPU.sample(c.name, benchSample{value: (c.cpu() - before).Seconds()})

	if round > 1 {
		return // 8 GiB are written in a round, by each
	}
	settle()
	layers := make([]pushLayer, pushClients)
	for i := range layers {
		layers[i] = noise.layer(largeOf64, fmt.Sprintf("%s large %d", seed, i))
	}
	took = c.time(b, func() error {
		return together(pushClients, func(i int) error {
			_, err := c.client.blob(fmt.Sprintf("%s/large%d", pushRepository, i), layers[i])
			return err
		})
	})
	rows.largeAll.sample(c.name, perByte(took, pushClients*largeOf64))
}

func (c *pushContestant) time(b *testing.B, push func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := push(); err != nil {
		b.Fatalf("%s: %v\n%s", c.name, err, tail(c.log, 2000))
	}
	return time.Since(start)
}

func perImage(took time.Duration, n int) benchSample {
	return benchSample{value: milliseconds(took) / float64(n), beside: float64(n) / took.Seconds()}
}

func perByte(took time.Duration, n int64) benchSample {
	return benchSample{value: took.Seconds(), beside: float64(n) / 1e6 / took.Seconds()}
}

// watch samples the memory until done is called.
func (c *pushContestant) watch() (done func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if now, err := c.rss(); err == nil {
				c.most = max(c.most, now)
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// pushNoise is a file in memory whose bytes layers begin with. What tells them apart is at their
// end, so that the digest of each costs next to nothing.
type pushNoise struct {
	file   *os.File
	states map[int64][]byte // of the hash, by length
}

// pushLayer is a blob to push.
type pushLayer struct {
	digest digest.Digest
	size   int64
	open   func() io.Reader
}

// newPushNoise is noise for layers of these sizes.
func newPushNoise(b *testing.B, sizes ...int64) *pushNoise {
	b.Helper()
	f, err := os.CreateTemp("/dev/shm", "roadstead-bench-")
	if err != nil {
		b.Fatal(err)
	}
	os.Remove(f.Name())
	b.Cleanup(func() { f.Close() })
	if _, err := io.Copy(f, io.LimitReader(rand.NewChaCha8([32]byte{3}), slices.Max(sizes))); err != nil {
		b.Fatal(err)
	}
	n := &pushNoise{file: f, states: map[int64][]byte{}}
	for _, size := range sizes {
		hash := sha256.New()
		if _, err := io.Copy(hash, n.section(size)); err != nil {
			b.Fatal(err)
		}
		if n.states[size], err = hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
			b.Fatal(err)
		}
	}
	return n
}

func (n *pushNoise) section(size int64) io.Reader { return io.NewSectionReader(n.file, 0, size) }

// layer returns a blob of a little more than size bytes that no other seed has.
func (n *pushNoise) layer(size int64, seed string) pushLayer {
	hash := sha256.New()
	if err := hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(n.states[size]); err != nil {
		panic(err) // it was marshalled by the same code
	}
	hash.Write([]byte(seed))
	return pushLayer{
		digest: digest.NewDigest(digest.SHA256, hash), size: size + int64(len(seed)),
		open: func() io.Reader { return io.MultiReader(n.section(size), strings.NewReader(seed)) },
	}
}

// pushClient pushes as docker and crane do: it looks whether a blob is there, begins an upload,
// sends all of it in one PATCH and ends with an empty PUT.
type pushClient struct {
	http   *http.Client
	base   string
	prefix string // of repository names
	user   *url.Userinfo
}

// images pushes small images, one after the other.
func (c pushClient) images(noise *pushNoise, seed string, n int) error {
	for i := range n {
		if err := c.image(noise, fmt.Sprintf("%s, image %d", seed, i), i); err != nil {
			return err
		}
	}
	return nil
}

// image pushes one: a config, two layers and a manifest with a tag.
func (c pushClient) image(noise *pushNoise, seed string, i int) error {
	repo := pushRepository + "/small"
	config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Labels":{"of":%q}},"rootfs":{"type":"layers","diff_ids":[]}}`, seed))
	blobs := []pushLayer{{
		digest: digest.FromBytes(config), size: int64(len(config)),
		open: func() io.Reader { return bytes.NewReader(config) },
	}, noise.layer(smallLayer, seed+" a"), noise.layer(smallLayer, seed+" b")}
	var pushed []v1.Descriptor
	for _, l := range blobs {
		d, err := c.blob(repo, l)
		if err != nil {
			return err
		}
		pushed = append(pushed, d)
	}
	pushed[0].MediaType = v1.MediaTypeImageConfig
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Config: pushed[0], Layers: pushed[1:],
	})
	if err != nil {
		return err
	}
	tag := strings.NewReplacer(" ", "-", ",", "", ":", "").Replace(seed)
	_, err = c.do(http.MethodPut, c.base+"/v2/"+c.prefix+repo+"/manifests/"+tag, bytes.NewReader(manifest), int64(len(manifest)), v1.MediaTypeImageManifest, http.StatusCreated)
	return err
}

func (c pushClient) blob(repo string, l pushLayer) (v1.Descriptor, error) {
	blobs := c.base + "/v2/" + c.prefix + repo + "/blobs/"
	if _, err := c.do(http.MethodHead, blobs+string(l.digest), nil, 0, "", http.StatusNotFound); err != nil {
		return v1.Descriptor{}, err
	}
	at, err := c.do(http.MethodPost, blobs+"uploads/", nil, 0, "", http.StatusAccepted)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if at, err = c.do(http.MethodPatch, at, l.open(), l.size, "application/octet-stream", http.StatusAccepted); err != nil {
		return v1.Descriptor{}, err
	}
	to, err := url.Parse(at)
	if err != nil {
		return v1.Descriptor{}, err
	}
	query := to.Query()
	query.Set("digest", string(l.digest))
	to.RawQuery = query.Encode()
	_, err = c.do(http.MethodPut, to.String(), nil, 0, "", http.StatusCreated)
	return v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: l.digest, Size: l.size}, err
}

// do sends a request and returns where it says to go on.
func (c pushClient) do(method, to string, body io.Reader, size int64, mediaType string, want int) (location string, err error) {
	r, err := http.NewRequest(method, to, body)
	if err != nil {
		return "", err
	}
	r.ContentLength = size
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	if c.user != nil {
		password, _ := c.user.Password()
		r.SetBasicAuth(c.user.Username(), password)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != want {
		return "", fmt.Errorf("%s %s: status %d instead of %d: %s", method, to, answer.StatusCode, want, text)
	}
	if at := answer.Header.Get("Location"); at != "" {
		there, err := answer.Request.URL.Parse(at)
		if err != nil {
			return "", err
		}
		location = there.String()
	}
	return location, nil
}

func newPushClient(addr, prefix string, user *url.Userinfo) pushClient {
	// The buffer is as large as what the kernel sends a file in, so that the client's copies cost
	// it less than the servers' work does.
	transport := &http.Transport{MaxIdleConnsPerHost: pushClients, WriteBufferSize: 256 << 10, DisableCompression: true}
	return pushClient{&http.Client{Transport: transport, Timeout: 10 * time.Minute}, "http://" + addr, prefix, user}
}

func startHostedDistribution(b *testing.B, dir string) (*benchProcess, pushClient) {
	b.Helper()
	addr := freeAddress(b)
	path := filepath.Join(dir, "config.yml")
	writeFile(b, path, fmt.Sprintf(`
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %s/data}
  cache: {blobdescriptor: inmemory}
http: {addr: %q, secret: benchmark}
`, dir, addr))
	return startServer(b, dir, addr, need(b, "registry"), "serve", path), newPushClient(addr, "", nil)
}

// startHostedOurs runs this module's own program with its defaults, log and access control
// included.
func startHostedOurs(b *testing.B, dir string) (*benchProcess, pushClient) {
	b.Helper()
	return startHostedOn(b, dir, fmt.Sprintf("{directory: %s/data}", dir))
}

// startHostedOn is startHostedOurs with a storage of the configuration's.
func startHostedOn(b *testing.B, dir, storage string) (*benchProcess, pushClient) {
	b.Helper()
	addr := freeAddress(b)
	path := filepath.Join(dir, "roadstead.yaml")
	writeFile(b, path, fmt.Sprintf(`
listen: %q
admin: %q
storage: %s
projects:
  production: {hosted: true}
`, addr, freeAddress(b), storage))
	program := roadsteadBinary(b)
	server := startServer(b, dir, addr, program, "serve", "--config", path)
	var secret []byte
	eventually(b, 10*time.Second, "the server has a catalog", func() bool {
		var err error
		secret, err = try(environment(dir), program, "robot", "add", "bench", "--config", path,
			"--project", "production", "--permission", "pull", "--permission", "push")
		return err == nil
	})
	user := url.UserPassword("robot$production+bench", strings.TrimSpace(string(secret)))
	client := newPushClient(addr, "production/", user)
	eventually(b, 10*time.Second, "the robot may push", func() bool {
		_, err := client.do(http.MethodPost, client.base+"/v2/production/"+pushRepository+"/blobs/uploads/", nil, 0, "", http.StatusAccepted)
		return err == nil
	})
	return server, client
}
