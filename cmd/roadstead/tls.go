package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Certificate is the server's certificate. Handshakes take the current one; whoever calls
// Refresh now and then makes it follow its files, so that what renews them needs to tell
// nobody.
type Certificate struct {
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]
	faults  atomic.Int64 // times that changed files could not be read

	// Only for Reload and Refresh, which one goroutine calls.
	files   TLS
	changed [2]time.Time // modification times of what current was read from
}

// refreshEvery is how often the files are looked at. A renewed certificate has weeks of the
// old one left, and two calls of stat are nothing.
const refreshEvery = 10 * time.Second

// Config returns what a listener needs. There must have been a Reload without error.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// Reload reads the files now. After an error the old certificate stays in use.
func (c *Certificate) Reload(files TLS) error {
	changed := modified(files) // before they are read: a change in between is seen next time
	cert, err := readCertificate(files)
	if err != nil {
		return err
	}
	c.current.Store(cert)
	c.files, c.changed = files, changed
	return nil
}

// Refresh reads the files if they have changed.
func (c *Certificate) Refresh() {
	if modified(c.files) == c.changed {
		return
	}
	if err := c.Reload(c.files); err != nil {
		c.faults.Add(1)
		// Two files are not replaced in one moment: the next look will find a pair.
		c.log.Warn("certificate not reloaded", "err", err)
		return
	}
	c.log.Info("certificate reloaded", "certificate", c.files.Certificate, "expires", c.current.Load().Leaf.NotAfter)
}

func readCertificate(files TLS) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", files.Certificate, files.Key, err)
	}
	return &cert, nil
}

func modified(files TLS) (times [2]time.Time) {
	for i, path := range []string{files.Certificate, files.Key} {
		if info, err := os.Stat(path); err == nil {
			times[i] = info.ModTime()
		}
	}
	return times
}
