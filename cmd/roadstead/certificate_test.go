package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"roadstead/registry/registrytest"
)

// certificate writes a certificate for 127.0.0.1 and the given names, and its key, into dir.
// Those that were there are replaced.
func certificate(t *testing.T, dir string, names ...string) (cert, key string) {
	t.Helper()
	certPEM, keyPEM := registrytest.NewAuthority(t).Issue(registrytest.Leaf{Names: names})
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(certPEM))
	write(t, key, string(keyPEM))
	return cert, key
}

func TestACertificateFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, "one.example")
	c := &Certificate{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if err := c.Reload(TLS{cert, key}); err != nil {
		t.Fatal(err)
	}
	name := func() string {
		t.Helper()
		got, err := c.Config().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range got.Leaf.DNSNames {
			return name
		}
		return ""
	}
	if got := name(); got != "one.example" {
		t.Fatalf("at first it is for %q", got)
	}
	first, _ := c.Config().GetCertificate(nil)
	if c.Refresh(); first != c.current.Load() {
		t.Error("files that have not changed were read again")
	}

	certificate(t, dir, "two.example")
	later := time.Now().Add(time.Minute)
	for _, path := range []string{cert, key} {
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	if c.Refresh(); name() != "two.example" {
		t.Errorf("after a renewal it is for %q", name())
	}

	write(t, key, "half written")
	later = later.Add(time.Minute)
	if err := os.Chtimes(key, later, later); err != nil {
		t.Fatal(err)
	}
	if c.Refresh(); name() != "two.example" {
		t.Errorf("with a broken key it is for %q", name())
	}
	certificate(t, dir, "three.example")
	if c.Refresh(); name() != "three.example" {
		t.Errorf("after the key was mended it is for %q", name())
	}
}
