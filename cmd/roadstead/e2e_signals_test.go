package main_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Commands that read a pipe into which nobody writes any more end when they are told to.
func TestCommandsEndWhileTheyRead(t *testing.T) {
	e2e(t)
	program := roadsteadCommand(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "roadstead.yaml"), []byte("storage:\n  directory: data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const nothing = "# nothing\n"
	for _, tt := range []struct {
		args string
		in   string // again and again
		says string // "": the signal ends it
	}{
		{"lint -", nothing, ""},
		{"lint --no-projects -", nothing, ""},
		{"explain --registries - busybox", nothing, ""},
		{"export --file - -o images.tar", nothing, ""},
		{"import -", "\x00", "interrupted"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(program, strings.Fields(tt.args)...)
			cmd.Dir = dir
			var said strings.Builder
			cmd.Stdout, cmd.Stderr = &said, &said
			in, err := cmd.StdinPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			killed := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
			defer killed.Stop()
			// More than a pipe holds: all of it is gone once somebody reads.
			if _, err := in.Write([]byte(strings.Repeat(tt.in, 200_000/len(tt.in)))); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok {
				t.Fatalf("%v\n%s", err, &said)
			}
			status := exit.Sys().(syscall.WaitStatus)
			if tt.says == "" && (!status.Signaled() || status.Signal() != syscall.SIGINT) || tt.says != "" && (status.ExitStatus() != 1 || !strings.Contains(said.String(), tt.says)) {
				t.Errorf("%v\n%s", err, &said)
			}
		})
	}
}

// A probe goes by the proxy of the environment, as a node does, and past it where the environment says so.
func TestProbeGoesByTheProxy(t *testing.T) {
	e2e(t)
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.String())
		w.Header().Set("Docker-Content-Digest", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	}))
	defer proxy.Close()
	program := roadsteadCommand(t)
	explain := func(past string) string {
		t.Helper()
		cmd := exec.Command(program, "explain", "--server", "http://mirror.invalid:5000", "--probe", "busybox")
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY="+past, "no_proxy="+past)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := explain(""); !strings.Contains(out, "200 OK") {
		t.Errorf("by the proxy:\n%s", out)
	}
	mu.Lock()
	by := strings.Join(asked, "\n")
	asked = nil
	mu.Unlock()
	if !strings.Contains(by, "HEAD http://mirror.invalid:5000/v2/docker.io/library/busybox/manifests/latest") {
		t.Errorf("the proxy was asked\n%s", by)
	}
	if out := explain("mirror.invalid"); strings.Contains(out, "200 OK") {
		t.Errorf("past the proxy:\n%s", out)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) > 0 {
		t.Errorf("the proxy was asked %q all the same", asked)
	}
}
