package server

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"roadstead/registry"
)

// Who may have a blob is sent to where it is, and nobody else hears of that, the log neither.
func TestBlobsCanBeElsewhere(t *testing.T) {
	y := newYard()
	large, small := y.put("private/app", bytes.Repeat([]byte("layer"), 100)), y.put("private/app", []byte("layer"))
	const url = "https://bucket.example/blob?X-Amz-Signature=0123456789abcdef"
	asked := 0
	locate := func(_ context.Context, repo registry.Repo, d registry.Digest) string {
		if asked++; repo.String() == "private/app" && d == large {
			return url
		}
		return ""
	}
	var lines bytes.Buffer
	s := New(Config{
		Registry: y, Access: &gate{}, Locate: locate, Known: func(p string) bool { return p == "private" },
		Log: slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	for _, row := range []struct {
		name, who, method string
		d                 registry.Digest
		header            string
		status, asked     int
	}{
		{"of a member", "dev", "GET", large, "", 307, 1},
		{"a part of it", "dev", "GET", large, "Range", 307, 1},
		{"one that is here", "dev", "GET", small, "", 200, 1},
		{"HEAD", "dev", "HEAD", large, "", 200, 0},
		{"unless it is known", "dev", "GET", large, "If-None-Match", 304, 0},
		{"the rest of what was from here", "dev", "GET", large, "If-Range", 200, 0},
		{"of a stranger", "alien", "GET", large, "", 404, 0},
		{"of nobody", "", "GET", large, "", 401, 0},
	} {
		r := httptest.NewRequest(row.method, "/v2/private/app/blobs/"+row.d.String(), http.NoBody)
		if row.who != "" {
			r.SetBasicAuth(row.who, row.who)
		}
		switch row.header {
		case "Range":
			r.Header.Set("Range", "bytes=10-20")
		case "":
		default:
			r.Header.Set(row.header, `"`+row.d.String()+`"`)
		}
		w := httptest.NewRecorder()
		asked = 0
		s.ServeHTTP(w, r)
		if w.Code != row.status || asked != row.asked {
			t.Errorf("%s: %d, asked %d times; want %d, %d", row.name, w.Code, asked, row.status, row.asked)
		}
		location := w.Header().Get("Location")
		if there := w.Code == http.StatusTemporaryRedirect; there != (location == url) || there && (w.Body.Len() > 0 || w.Header().Get("Docker-Content-Digest") != row.d.String()) {
			t.Errorf("%s: %v, %d bytes", row.name, w.Header(), w.Body.Len())
		}
	}
	if strings.Contains(lines.String(), "Signature") || !strings.Contains(lines.String(), "status=307") {
		t.Errorf("the log says %s", &lines)
	}
}
