package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"roadstead/registry"
)

// TestMain lets the test binary be a server in a process of its own, for what is measured or
// limited by process.
func TestMain(m *testing.M) {
	if dir := os.Getenv("ROADSTEAD_TEST_CHILD"); dir != "" {
		if err := serveChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// What a child serves, in every repository: a manifest of 1.8 KiB, a blob of 4 KiB, and 200 MB
// of zeroes as a file or, below the other digest, as a reader that is none. Whether a digest
// is that of the bytes is no business of the server's.
var (
	childManifest = []byte(`{"schemaVersion":2,"mediaType":"` + registry.MediaTypeOCIManifest + `","layers":[` + strings.Repeat(`{"size":1,"digest":""},`, 75) + `{}]}`)
	childSmall    = digestOf([]byte("small"))
	childLarge    = registry.Digest(someDigest)
	childHidden   = registry.Digest(otherDigest)
)

const childLargeSize = 200 << 20

func serveChild(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := New(Config{
		Registry: warehouse{dir: dir, manifest: registry.Manifest{
			Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digestOf(childManifest), Size: int64(len(childManifest))},
			Bytes:      childManifest,
		}},
		Log:   slog.New(slog.NewJSONHandler(log, nil)),
		Drain: 10 * time.Millisecond,
	})
	return s.Serve(ctx, l, nil)
}

// warehouse has a few things and is fast at handing them out.
type warehouse struct {
	registry.Reader
	dir      string
	manifest registry.Manifest
}

// stock makes a warehouse's files in dir.
func stock(t testing.TB, dir string) {
	t.Helper()
	for d, size := range map[registry.Digest]int64{childSmall: 4 << 10, childLarge: childLargeSize, childHidden: childLargeSize} {
		name := filepath.Join(dir, d.Encoded())
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
	}
}

func (w warehouse) Resolve(ctx context.Context, _ registry.Repo, _ string) (registry.Descriptor, error) {
	registry.Note(ctx, registry.Hit)
	return w.manifest.Descriptor, nil
}

func (w warehouse) Manifest(ctx context.Context, _ registry.Repo, _ registry.Digest) (registry.Manifest, error) {
	registry.Note(ctx, registry.Hit)
	return w.manifest, nil
}

func (w warehouse) Blob(ctx context.Context, _ registry.Repo, d registry.Digest) (registry.Blob, error) {
	registry.Note(ctx, registry.Hit)
	f, err := os.Open(filepath.Join(w.dir, d.Encoded()))
	if err != nil {
		return registry.Blob{}, err
	}
	size := int64(childLargeSize)
	if d == childSmall {
		size = 4 << 10
	}
	if d == childHidden {
		return registry.Blob{ReadSeekCloser: struct{ io.ReadSeekCloser }{f}, Size: size}, nil
	}
	return registry.Blob{ReadSeekCloser: f, Size: size}, nil
}

// child is a server in a process of its own.
type child struct {
	addr string
	pid  int
}

// startChild starts a child that may open so many files, 0 for as many as this process.
func startChild(t testing.TB, files int) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stock(t, dir)
	cmd := exec.Command(exe)
	if files > 0 {
		cmd = exec.Command("sh", "-c", `ulimit -n "$1" && exec "$0"`, exe, strconv.Itoa(files))
	}
	cmd.Env = append(os.Environ(), "ROADSTEAD_TEST_CHILD="+dir)
	cmd.Stderr = io.Discard
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // with an error when requests were cut off, as some tests mean to
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &child{addr: strings.TrimSpace(line), pid: cmd.Process.Pid}
}

// cpu is the processor time that the child has used, to 10 ms.
func (c *child) cpu(t testing.TB) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		t.Skipf("how much processor time a process uses is not known here: %v", err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident is the memory of the child, in KiB.
func (c *child) resident(t testing.TB) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		t.Skipf("how much memory a process has is not known here: %v", err)
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// raced reports whether this binary was built with the race detector, which needs many times
// the memory.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}
