package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// outside is whoever has started the process.
type outside struct {
	announce   func(user, password string) // told what the first user is called; nil: nobody is
	supervisor *supervisor                 // nil: none
}

// supervisor is systemd, or what speaks as it does: it may have opened the sockets that this process
// answers at, so that nobody is refused while it is started again (sd_listen_fds(3)), and it is told
// how the process fares (sd_notify(3)). All methods may be called on nil, which is nobody.
type supervisor struct {
	log     *slog.Logger
	sockets map[string]net.Listener // by the settings that they are for; those that nobody has taken yet
	socket  string                  // where it is told; "": nowhere
	every   time.Duration           // how often it wants a sign of life at least; zero: never
	ending  atomic.Bool             // it has been told so, and nothing takes that back
}

// activatable are the settings that a socket may be called by with FileDescriptorName=.
var activatable = []string{"listen", "admin", "cluster.listen"}

// supervised reads from the environment who supervises this process, and takes that out of it: it is
// not meant for the programs that are started from here, which have descriptors of their own.
func supervised(log *slog.Logger) (*supervisor, error) {
	s := &supervisor{log: log, sockets: map[string]net.Listener{}, socket: os.Getenv("NOTIFY_SOCKET")}
	every, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w; WATCHDOG_USEC is what systemd sets for WatchdogSec=", err)
	}
	s.every = every
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil {
		return nil, err
	}
	files := activation.Files(true)
	for _, f := range files {
		if err := s.adopt(f, len(files)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// adopt keeps one of so many sockets until somebody takes it.
func (s *supervisor) adopt(f *os.File, of int) error {
	defer f.Close()
	name := f.Name()
	// Without a name there is a number, or what systemd puts in place of one.
	if of == 1 && (strings.HasPrefix(name, "LISTEN_FD_") || name == "unknown") {
		name = "listen"
	}
	if !slices.Contains(activatable, name) {
		return fmt.Errorf("a socket called %q was passed, and it is not known what for: write FileDescriptorName= in its unit, with one of %s", name, strings.Join(activatable, ", "))
	}
	if s.sockets[name] != nil {
		return fmt.Errorf("two sockets called %q were passed: one is what is listened on, so keep one ListenStream= with that FileDescriptorName=", name)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("the socket called %q cannot be listened on: %w; it has to be of ListenStream= with Accept=no", name, err)
	}
	if _, ok := l.(*net.TCPListener); !ok {
		l.Close()
		return fmt.Errorf("the socket called %q is %s, and not one of TCP: write a port, or address:port, as its ListenStream=", name, l.Addr())
	}
	s.sockets[name] = l
	return nil
}

// listen is the socket that was passed for a setting, or else [listen].
func (s *supervisor) listen(setting, address string) (net.Listener, error) {
	if s == nil || s.sockets[setting] == nil {
		return listen(setting, address)
	}
	l := s.sockets[setting]
	delete(s.sockets, setting)
	if !sameSocket(address, l.Addr()) {
		s.log.Warn("a socket was passed that is not what the configuration says, and is listened on all the same; make them the same: other commands look for the server where the configuration says",
			"setting", setting, "configuration", address, "socket", l.Addr().String())
	}
	return l, nil
}

// sameSocket reports whether an address of the configuration is that of a listener, as far as that can be
// told without asking for names.
func sameSocket(address string, is net.Addr) bool {
	host, port, err := net.SplitHostPort(address)
	at, parseErr := netip.ParseAddrPort(is.String())
	if err != nil || parseErr != nil {
		return false
	}
	if number, err := net.LookupPort("tcp", port); err != nil || number != int(at.Port()) {
		return false
	}
	ip, err := netip.ParseAddr(cmp.Or(host, "::"))
	switch {
	case host == "localhost":
		return at.Addr().Unmap().IsLoopback()
	case err != nil:
		return !at.Addr().IsUnspecified()
	case ip.IsUnspecified():
		return at.Addr().IsUnspecified()
	}
	return ip.Unmap() == at.Addr().Unmap()
}

// unused is an error if sockets were passed that nobody has taken: clients would wait at them for ever.
func (s *supervisor) unused() error {
	if s == nil {
		return nil
	}
	var all []error
	for name, l := range s.sockets {
		all = append(all, fmt.Errorf("the socket %s was passed for %q, which is off in the configuration; set it there, or stop and disable the unit of the socket", l.Addr(), name))
	}
	return errors.Join(all...)
}

// told reports whether anybody hears what is told.
func (s *supervisor) told() bool { return s != nil && s.socket != "" }

// hearing is how long the supervisor has to take what it is told. One that hangs, or is started anew itself,
// must not have the server hang, whose signals are seen to by whoever tells it.
const hearing = time.Second

// tell sends assignments in one datagram.
func (s *supervisor) tell(assignments ...string) {
	if !s.told() {
		return
	}
	// A socket for each: there are a few in a minute, and it may have been bound anew in between.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err == nil {
		if err = c.SetWriteDeadline(time.Now().Add(hearing)); err == nil {
			_, err = c.Write([]byte(strings.Join(assignments, "\n")))
		}
		c.Close()
	}
	if err != nil {
		s.log.Warn("the supervisor could not be told", "state", assignments[0], "err", err)
	}
}

// ready says that requests are answered, by the configuration in force.
func (s *supervisor) ready(status string) {
	if s.told() && !s.ending.Load() {
		s.tell(daemon.SdNotifyReady, statusLine(status))
	}
}

// reloading says that the configuration is read again, which ready ends. The time is what tells the
// signal that it answers from one before (Type=notify-reload in systemd.service(5)).
func (s *supervisor) reloading() {
	if s.told() && !s.ending.Load() {
		s.tell(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
	}
}

// closing is how long the end takes beside the drain: farewells, the batches that go into the catalog,
// and the close of that.
const closing = 30 * time.Second

// stopping says that the process ends by itself, and that it takes as long as the drain, whatever
// TimeoutStopSec= is.
func (s *supervisor) stopping(drain time.Duration) {
	if s.told() && !s.ending.Swap(true) {
		s.tell(daemon.SdNotifyStopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (drain+closing).Microseconds()), statusLine("stopping: what is under way ends"))
	}
}

// looksEvery is how often the state is looked at where no sign of life is wanted.
const looksEvery = 30 * time.Second

// watch gives signs of life until ctx ends, as long as well returns in time. What it returns is shown
// as the state, in which nothing is wrong when it is nil.
func (s *supervisor) watch(ctx context.Context, serving string, well func(context.Context) error) {
	every := looksEvery
	if s.every > 0 {
		every = s.every / 2 // as sd_watchdog_enabled(3) recommends
	}
	shown := serving
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		soon, cancel := context.WithTimeout(ctx, every)
		err := well(soon)
		late := soon.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		switch {
		case late:
			s.log.Error("no sign of life for the supervisor, because a part of this server does not answer", "within", every)
		case s.every > 0:
			s.tell(daemon.SdNotifyWatchdog)
		}
		status := serving
		if err != nil {
			status = "degraded: " + err.Error()
		}
		if status != shown && !s.ending.Load() {
			s.tell(statusLine(status))
			shown = status
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// statusLine is text on the one line that there is for it.
func statusLine(text string) string {
	return "STATUS=" + strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
