package upstream

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"roadstead/registry"
)

// Offline, every question is answered at once, and nobody hears of it.
func TestOffline(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var heard atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			heard.Add(1)
			c.Close()
		}
	}()
	u, err := New(Config{Endpoints: []string{"http://" + l.Addr().String()}, AllowPrivate: true, Proxy: "direct", Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	ctx, repo := t.Context(), registry.Repo{Name: "library/busybox"}
	d := registry.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	began := time.Now()
	for name, ask := range map[string]func() error{
		"resolve":   func() error { _, err := u.Resolve(ctx, repo, "latest"); return err },
		"tagged":    func() error { _, err := u.Tagged(ctx, repo, "latest"); return err },
		"manifest":  func() error { _, err := u.Manifest(ctx, repo, d); return err },
		"blob":      func() error { _, err := u.Blob(ctx, repo, d); return err },
		"stat":      func() error { _, err := u.StatBlob(ctx, repo, d); return err },
		"tags":      func() error { _, err := u.Tags(ctx, repo, "", -1); return err },
		"referrers": func() error { _, err := u.Referrers(ctx, repo, d, ""); return err },
	} {
		if err := ask(); !errors.Is(err, registry.Unavailable) || !errors.Is(err, errOffline) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := u.Ping(ctx); err == nil {
		t.Error("a ping was answered")
	}
	if _, err := u.dialer.dial(ctx, "tcp", l.Addr().String()); !errors.Is(err, errOffline) {
		t.Errorf("dial: %v", err)
	}
	if took := time.Since(began); took > time.Second || heard.Load() != 0 {
		t.Errorf("it took %s, and %d connections were made", took, heard.Load())
	}
}
