package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// Serve is the command of that name.
type Serve struct {
	onDirectory
	Listen *string `placeholder:"HOST:PORT" help:"The registry's address, instead of \"listen\" of the configuration (:5000)."`
	Admin  *string `placeholder:"HOST:PORT" help:"The address of metrics and health, instead of \"admin\" of the configuration (127.0.0.1:5001). Empty: off."`
}

// Help is the long help.
func (s *Serve) Help() string {
	return `Without a configuration it serves plain HTTP on :5000, keeps content in ./data, and proxies the well-known registries. Pull by project:

    docker pull localhost:5000/docker.io/library/busybox
    docker pull localhost:5000/quay.io/prometheus/prometheus

SIGHUP reads the configuration again: projects, routes, credentials, limits of age, the certificate and the log level change at once, and nothing that is under way is cut. A faulty file is refused as a whole. SIGTERM lets what is under way end ("drain"); a second one ends it.

Under systemd it says when it serves, reloads and stops, and gives its watchdog a sign of life. Sockets that systemd has opened are listened on instead of "listen", "admin" and "cluster.listen", by those names (FileDescriptorName=).`
}

// Run serves until it is told to stop.
func (s *Serve) Run(std streams) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	out := &lines{out: std.err}
	defer out.Flush()
	log := newLog(out, cfg.Log, level)

	// The collector runs when the heap has doubled, and with a heap of three megabytes it does
	// so a hundred times a second under load, for a tenth of all processor time. This counts as
	// heap and is never touched, so that it takes no memory; the heap may grow by as much before
	// the collector comes. It does not multiply a heap that is large, as a higher GOGC would.
	ballast := make([]byte, 8<<20)
	defer runtime.KeepAlive(ballast)

	// Signals are taken before anything is started, so that none of them finds a half of it.
	hangups, stops := make(chan os.Signal, 1), make(chan os.Signal, 2)
	signal.Notify(hangups, syscall.SIGHUP)
	signal.Notify(stops, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(hangups)
	defer signal.Stop(stops)

	supervisor, err := supervised(log)
	if err != nil {
		return err
	}
	h, err := opened(stops, func(ctx context.Context) (*House, error) {
		return openHouse(ctx, cfg, log, outside{announcing(std.err, cfg), supervisor})
	})
	if err != nil {
		return err
	}
	h.level, h.load = level, s.load
	err = h.Run(hangups, stops)
	if errors.Is(err, errAtOnce) {
		return err // what is open is closed by the end of the process
	}
	return errors.Join(err, h.Close())
}

// opened opens a house, which may take until what it needs is there, unless a signal comes before that.
func opened(stops <-chan os.Signal, open func(context.Context) (*House, error)) (h *House, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h, err = open(ctx)
	}()
	select {
	case <-done:
	case s := <-stops:
		cancel(fmt.Errorf("stopped by %s", s))
		if <-done; err == nil {
			err = errors.Join(context.Cause(ctx), h.Close())
		}
	}
	return h, err
}

// announcing tells whoever looks at the first start what the first user is called. It is no record
// of the log, which others keep and read, and is never said again.
func announcing(w io.Writer, cfg Config) func(user, password string) {
	return func(user, password string) {
		where := "--data " + cfg.Storage.Directory
		if cfg.Storage.Catalog != "" { // accounts are not in the directory
			where = "--config " + cfg.File
		}
		fmt.Fprintf(w, "The first user is %s with the password %s, which is not shown again. Change it with: roadstead user password %s %s\n", user, password, user, where)
	}
}

// load returns the configuration with the flags over it.
func (s *Serve) load() (Config, error) {
	cfg, err := s.onDirectory.load()
	if err != nil {
		return Config{}, err
	}
	for _, flag := range []struct {
		name  string
		value *string // nil: not given
		into  *string
	}{{"--listen", s.Listen, &cfg.Listen}, {"--admin", s.Admin, &cfg.Admin}} {
		if flag.value == nil {
			continue
		}
		off := *flag.value == "" && flag.name == "--admin"
		if instead := badAddress(*flag.value); instead != "" && !off {
			return Config{}, fmt.Errorf("%s %q is not an address to listen on; %s", flag.name, *flag.value, instead)
		}
		*flag.into = *flag.value
	}
	return cfg, nil
}

// newLog returns the log of a server. level is where its level can be changed later.
func newLog(w io.Writer, l Log, level *slog.LevelVar) *slog.Logger {
	level.Set(l.Level)
	options := &slog.HandlerOptions{Level: level}
	if l.JSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// listen opens a port, or says what to do about it. setting is what holds the address in the
// configuration and, with two dashes, on the command line.
func listen(setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	other := fmt.Sprintf("give another address with --%s or %q in the configuration", setting, setting)
	if strings.Contains(setting, ".") {
		other = fmt.Sprintf("give another address as %s in the configuration", setting)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s: the port is taken by another process, which \"ss -ltnp\" shows; stop that one, or %s", setting, address, other)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s: only root may listen on ports below 1024; %s", setting, address, other)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s %s: this machine does not have that address; %s", setting, address, other)
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w; %s", setting, address, err, other)
	}
	return l, nil
}
