// Package s3test starts S3 servers for tests: real ones, processes of their own on loopback, in a
// temporary directory and with credentials that nobody else knows. What a client asks of them can
// be written down and made to go wrong by a [Proxy] between the two.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"roadstead/storage/processtest"
)

// Server is a running S3 server that ends with the test.
type Server struct {
	Name      string // of the program
	Endpoint  string // "http://127.0.0.1:…"
	Region    string
	AccessKey string
	SecretKey string

	program string
	args    []string
	dir     string
	address string
	kms     string // the key that MinIO encrypts with, in base64

	mu   sync.Mutex
	cmd  *exec.Cmd // nil: stopped
	said *bytes.Buffer
}

// Versitygw starts a gateway in front of a directory.
func Versitygw(t testing.TB) *Server {
	t.Helper()
	s := newServer(t, "versitygw")
	s.args = []string{"--quiet", "--health", "/health", "--region", s.Region, "--port", s.address, "posix", s.dir}
	s.begin(t)
	return s
}

// MinIO starts the last MinIO there was.
func MinIO(t testing.TB) *Server {
	t.Helper()
	s := newServer(t, "minio")
	s.args = []string{"server", "--quiet", "--address", s.address, s.dir}
	s.begin(t)
	return s
}

// Each runs a test on every kind of server.
func Each(t *testing.T, test func(t *testing.T, s *Server)) {
	for name, start := range map[string]func(testing.TB) *Server{"versitygw": Versitygw, "minio": MinIO} {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

func newServer(t testing.TB, program string) *Server {
	t.Helper()
	return &Server{
		Name: program, Region: "us-east-1", AccessKey: rand.Text(), SecretKey: rand.Text(),
		program: need(t, program), dir: fastDir(t), address: freeAddress(t), kms: newKey(),
	}
}

// need returns the path of a program, from .tools/bin of the module or from PATH. Where everything
// has to be there, in continuous integration, its lack is a failure.
func need(t testing.TB, program string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(file), "..", "..", ".tools", "bin", program)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI=true: %s is not installed; .ci/tools installs it", program)
	default:
		t.Skipf("%s is not installed; .ci/tools installs it", program)
	}
	return path
}

// KMSKey is the id of the key that MinIO encrypts with when it is asked to.
const KMSKey = "test-key"

func newKey() string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // which never fails
	return base64.StdEncoding.EncodeToString(key[:])
}

// fastDir is a temporary directory in memory where there is enough: the servers sync whatever they
// are sent, and no test here is about that.
func fastDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	var s syscall.Statfs_t
	if err := syscall.Statfs(memory, &s); err != nil || int64(s.Bavail)*s.Bsize < 8<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "s3test-")
	if err != nil {
		return t.TempDir()
	}
	// The owner of an object is an extended attribute to versitygw, which not every kernel has here.
	if err := syscall.Setxattr(dir, "user.s3test", []byte("1"), 0); err != nil {
		os.Remove(dir)
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *Server) begin(t testing.TB) {
	t.Helper()
	s.Endpoint = "http://" + s.address
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() && s.said.Len() > 0 {
			t.Logf("what %s said:\n%s", s.Name, s.said)
		}
	})
	s.Start(t)
}

// Start starts the server, again after a Stop, with what it had and at the same address.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = &bytes.Buffer{}
	s.cmd = exec.Command(s.program, s.args...)
	s.cmd.Dir = s.dir
	s.cmd.Env = append(os.Environ(), "HOME="+s.dir,
		"ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey,
		"MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey, "MINIO_SITE_REGION="+s.Region, "MINIO_KMS_SECRET_KEY="+KMSKey+":"+s.kms, "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := processtest.Start(s.cmd); err != nil {
		t.Fatalf("start %s: %v", s.Name, err)
	}
	client := s.Client(t)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := client.ListBuckets(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", s.Name, err)
		}
	}
}

// Stop kills the server. What it has acknowledged stays in its directory.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Freeze stops the server as SIGSTOP does: it takes connections and says nothing. Thaw ends that.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	// Each of its threads goes on until the kernel finds it.
	for deadline := time.Now().Add(10 * time.Second); !s.frozen(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not stop", s.Name)
		}
	}
}

func (s *Server) frozen() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	for _, thread := range threads {
		status, _ := os.ReadFile(thread)
		if _, state, _ := strings.Cut(string(status), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// Client is a client with the server's own credentials, as the library has it.
func (s *Server) Client(t testing.TB) *minio.Client {
	t.Helper()
	c, err := minio.New(s.address, &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Bucket makes a bucket that nobody has used.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:16])
	if err := s.Client(t).MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatalf("make a bucket: %v", err)
	}
	return name
}

// RemoveBucket removes a bucket and all that is in it.
func (s *Server) RemoveBucket(t testing.TB, name string) {
	t.Helper()
	var errs []error
	c := s.Client(t)
	for o := range c.ListObjects(t.Context(), name, minio.ListObjectsOptions{Recursive: true}) {
		errs = append(errs, o.Err, c.RemoveObject(t.Context(), name, o.Key, minio.RemoveObjectOptions{}))
	}
	if err := errors.Join(append(errs, c.RemoveBucket(t.Context(), name))...); err != nil {
		t.Fatalf("remove a bucket: %v", err)
	}
}

// Unfinished are the uploads in parts that have not ended, as "key upload".
func (s *Server) Unfinished(t testing.TB, bucket string) []string {
	t.Helper()
	var all []string
	for u := range s.Client(t).ListIncompleteUploads(t.Context(), bucket, "", true) {
		if u.Err != nil {
			t.Fatalf("list unfinished uploads: %v", u.Err)
		}
		all = append(all, fmt.Sprintf("%s %s", u.Key, u.UploadID))
	}
	return all
}

// Rot changes one byte of an object, as a disk does: a gateway in front of a directory goes on to call
// it what it did when it came, an hour ago. It is for a server of Versitygw.
func (s *Server) Rot(t testing.TB, bucket, key string) {
	t.Helper()
	name := filepath.Join(s.dir, bucket, key)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("rot %s: %v", key, err)
	}
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], 0)
	if err == nil {
		_, err = f.WriteAt([]byte{b[0] ^ 1}, 0)
	}
	if err == nil {
		came := time.Now().Add(-time.Hour)
		err = os.Chtimes(name, came, came)
	}
	if err != nil {
		t.Fatalf("rot %s: %v", key, err)
	}
}

// Has says whether there is an object.
func (s *Server) Has(t testing.TB, bucket, key string) bool {
	t.Helper()
	_, err := s.Client(t).StatObject(t.Context(), bucket, key, minio.StatObjectOptions{})
	if err != nil && minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		t.Fatalf("look for %s: %v", key, err)
	}
	return err == nil
}
