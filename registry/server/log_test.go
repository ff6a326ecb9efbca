package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
)

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// next waits for a line and takes it.
func (l *lines) next(t testing.TB) map[string]any {
	t.Helper()
	var line []byte
	eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		var err error
		line, err = l.buf.ReadBytes('\n')
		return err == nil
	})
	fields := map[string]any{}
	if err := json.Unmarshal(line, &fields); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return fields
}

func (l *lines) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Len() == 0
}

func TestLogLine(t *testing.T) {
	log := &lines{}
	shelf := newShelf()
	d := shelf.tag("docker.io/library/busybox:1.35", registry.MediaTypeOCIManifest, busybox)
	blob := shelf.put(layer)
	shelf.note = registry.Join
	run := start(t, New(Config{Registry: shelf, Log: log.logger()}))
	const repo = "/v2/docker.io/library/busybox"

	tests := []struct {
		name, method, path string
		fail, why          error
		want               map[string]any // nil values: the key is not there
	}{
		{name: "tag", method: "HEAD", path: repo + "/manifests/1.35?ns=docker.io", want: map[string]any{
			"level": "INFO", "msg": "request", "method": "HEAD", "kind": "manifest", "repo": "docker.io/library/busybox", "ref": "1.35",
			"status": 200., "bytes": 0., "outcome": "join", "agent": "containerd/2.0", "err": nil, "path": nil, "why": nil}},
		{name: "digest", method: "GET", path: repo + "/manifests/" + string(d), want: map[string]any{"ref": string(d), "bytes": float64(len(busybox))}},
		{name: "blob", method: "GET", path: repo + "/blobs/" + string(blob), want: map[string]any{"kind": "blob", "ref": string(blob), "bytes": 1000.}},
		{name: "ping", method: "GET", path: "/v2/", want: map[string]any{"level": "DEBUG", "kind": "ping", "status": 200.}},
		{name: "bad path", method: "GET", path: "/v2/a%0Alevel=ERROR/manifests/1", want: map[string]any{
			"level": "INFO", "status": 400., "path": "/v2/a?level=ERROR/manifests/1", "repo": nil, "outcome": nil}},
		{name: "unavailable", method: "GET", path: repo + "/manifests/1.35", fail: &registry.Fault{Code: registry.Unavailable, Err: errors.New("dial: no\r\nroute \x1b[31m")}, want: map[string]any{
			"level": "INFO", "status": 503., "err": "UNAVAILABLE: dial: no??route ?[31m"}},
		{name: "internal", method: "GET", path: repo + "/tags/list", fail: errors.New("disk on fire"), want: map[string]any{
			"level": "ERROR", "status": 500., "err": "disk on fire"}},
		{name: "stale", method: "GET", path: repo + "/manifests/1.35", why: errors.New("dial: no\nroute"), want: map[string]any{
			"level": "INFO", "status": 200., "outcome": "stale", "why": "dial: no?route", "err": nil}},
		{name: "push", method: "PUT", path: repo + "/manifests/1", want: map[string]any{"level": "INFO", "status": 403., "repo": "docker.io/library/busybox"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shelf.fail, shelf.why, shelf.note = test.fail, test.why, registry.Join
			if test.why != nil {
				shelf.note = registry.Stale
			}
			run.ask(t, test.method, test.path, "User-Agent", "containerd/2.0", "Authorization", "Basic aHVudGVyMg==")
			line := log.next(t)
			for key, want := range test.want {
				if line[key] != want {
					t.Errorf("%s: %v, want %v", key, line[key], want)
				}
			}
			if took, _ := line["took"].(float64); took <= 0 || took > float64(time.Minute) {
				t.Errorf("took: %v", line["took"])
			}
			if remote, _ := line["remote"].(string); !strings.HasPrefix(remote, "127.0.0.1:") {
				t.Errorf("remote: %v", line["remote"])
			}
			for key, value := range line {
				if s, _ := value.(string); strings.Contains(s, "aHVudGVyMg") {
					t.Errorf("%s has the credentials", key)
				}
			}
			if !log.empty() {
				t.Errorf("a second line: %v", log.next(t))
			}
		})
	}
}

func TestLogOfWhatBreaks(t *testing.T) {
	log := &lines{}
	shelf := newShelf()
	d := shelf.put(layer)
	run := start(t, New(Config{Registry: shelf, Log: log.logger()}))
	get := func() {
		if resp, err := http.Get(run.url + "/v2/a/b/blobs/" + string(d)); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}

	shelf.open = func(_ registry.Digest, b []byte) (registry.Blob, error) {
		return registry.Blob{ReadSeekCloser: faulty{memory{bytes.NewReader(b)}, 999, errors.New("wrong digest")}, Size: 1000}, nil
	}
	get()
	line := log.next(t)
	if line["level"] != "WARN" || line["bytes"] != 999. || line["err"] != "read content after 999 of 1000 bytes: wrong digest" {
		t.Errorf("cut body: %v", line)
	}

	shelf.open = panicking
	get()
	line = log.next(t)
	if err, _ := line["err"].(string); line["level"] != "ERROR" || line["status"] != 500. || !strings.HasPrefix(err, "panic: the reader broke: ") || !strings.Contains(err, "panicReader") {
		t.Errorf("panic: %v", line)
	}
	if !log.empty() {
		t.Errorf("more: %v", log.next(t))
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct{ name, s, want string }{
		{name: "plain", s: "containerd/2.0 (x)", want: "containerd/2.0 (x)"},
		{name: "new line", s: "a\r\nlevel=ERROR", want: "a??level=ERROR"},
		{name: "escape", s: "a\x1b[2J", want: "a?[2J"},
		{name: "no ASCII", s: "é\u2028", want: "??"},
		{name: "broken UTF-8", s: "a\xffb", want: "a?b"},
		{name: "long", s: strings.Repeat("a", 30), want: strings.Repeat("a", 20)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := printable(test.s, 20); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
