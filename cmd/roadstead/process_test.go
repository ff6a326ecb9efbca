package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roadstead/registry/accesstest"
)

// asRoadstead tells this test binary to be roadstead, so that tests can start real processes
// of exactly the code under test, race detector included.
const asRoadstead = "ROADSTEAD_TEST_AS_ROADSTEAD"

func TestAsRoadstead(t *testing.T) {
	if os.Getenv(asRoadstead) == "" {
		t.Skip("not a test: what other tests start as roadstead")
	}
	accesstest.Cheap()
	for i, arg := range os.Args {
		if arg == "--" {
			os.Exit(run(os.Args[i+1:], streams{os.Stdout, os.Stderr}))
		}
	}
}

// process is a "roadstead serve" of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *buffer
	done chan struct{}

	url, admin string // once it serves
}

// serve starts roadstead with JSON logs on free ports and waits until it serves.
func serve(t *testing.T, config string, args ...string) *process {
	t.Helper()
	return started(start(t, append([]string{"serve", "--config", config}, args...)...))
}

// started waits until a process that logs JSON serves.
func started(p *process) *process {
	p.t.Helper()
	line := p.wait("serving")
	scheme := "http://"
	if line["tls"] == true {
		scheme = "https://"
	}
	p.url = scheme + line["listen"].(string)
	p.admin = "http://" + line["admin"].(string)
	return p
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, log: &buffer{}, done: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], append([]string{"-test.run=^TestAsRoadstead$", "--"}, args...)...)
	p.cmd.Env = append(os.Environ(), asRoadstead+"=1", "HTTP_PROXY=", "HTTPS_PROXY=")
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("log of %q:\n%s", args, p.log)
		}
	})
	return p
}

// wait waits for a log line with this message and returns it.
func (p *process) wait(message string) map[string]any {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(p.log.String()) {
			var record map[string]any
			if json.Unmarshal([]byte(line), &record) == nil && record["msg"] == message {
				return record
			}
		}
		select {
		case <-p.done:
			p.t.Fatalf("it ended before it said %q:\n%s", message, p.log)
		default:
		}
	}
	p.t.Fatalf("it never said %q:\n%s", message, p.log)
	return nil
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end of the process and returns its status.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		p.t.Fatalf("it does not end:\n%s", p.log)
		return 0
	}
}

// get asks the registry, or the admin address when path begins with "admin".
func (p *process) get(path string) (int, string) {
	p.t.Helper()
	url := p.url + path
	if rest, admin := strings.CutPrefix(path, "admin"); admin {
		url = p.admin + rest
	}
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// buffer is a log that is written to while it is read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
