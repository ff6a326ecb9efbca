package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"roadstead/registry/registrytest"
)

// supervising is the end of the socket at which a supervisor is told.
func supervising(t *testing.T) (path string, told func(want string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // that of the test may be longer than a socket's name can be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	// told returns the next message that is not a sign of life, or the next of any kind if one is wanted.
	return path, func(want string) string {
		t.Helper()
		buffer := make([]byte, 4096)
		for {
			if err := socket.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := socket.Read(buffer)
			if err != nil {
				t.Fatalf("nothing was told, instead of %q: %v", want, err)
			}
			message := string(buffer[:n])
			if message == "WATCHDOG=1" && want != message {
				continue
			}
			if !strings.HasPrefix(message, want) {
				t.Fatalf("%q was told, instead of %q", message, want)
			}
			return message
		}
	}
}

func TestTheSupervisorIsTold(t *testing.T) {
	path, told := supervising(t)
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "400000")
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	projects := map[string]map[string]any{"up.example": proxied(up)}
	config := configuration(t, projects, map[string]any{"drain": "50s"})
	p := serve(t, config)
	address := strings.TrimPrefix(p.url, "http://")
	if got, want := told("READY=1"), "READY=1\nSTATUS=serving on "+address; got != want {
		t.Errorf("%q was told, want %q", got, want)
	}
	told("WATCHDOG=1")

	p.signal(syscall.SIGHUP)
	at := told("RELOADING=1")
	if !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9]\d+$`).MatchString(at) {
		t.Errorf("%q was told of the time", at)
	}
	told("READY=1\nSTATUS=serving on " + address)

	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, string(text)+"lisen: x\n")
	p.signal(syscall.SIGHUP)
	if again := told("RELOADING=1"); again == at {
		t.Errorf("%q was told twice", at)
	}
	if got := told("READY=1"); !strings.HasSuffix(got, ", by the old configuration: 1 fault in "+config) {
		t.Errorf("%q was told of a fault", got)
	}

	hold := make(chan struct{})
	up.Fail("/v2/app/manifests/", 1, registrytest.Hold(hold))
	status := make(chan int, 1)
	go func() {
		code, _ := p.get("/v2/up.example/app/manifests/v1")
		status <- code
	}()
	arrives(t, up, "/v2/app/manifests/")
	p.signal(syscall.SIGTERM)
	if got, want := told("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=80000000\nSTATUS=stopping: what is under way ends"; got != want {
		t.Errorf("%q was told, want %q", got, want)
	}
	p.signal(syscall.SIGHUP)
	p.wait("configuration not reloaded, because this server is stopping")
	told("WATCHDOG=1") // and nothing else before it
	close(hold)
	if code := <-status; code != http.StatusOK {
		t.Errorf("the request under way got %d", code)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A supervisor that takes nothing is not waited for.
func TestASupervisorThatDoesNotListen(t *testing.T) {
	path, _ := supervising(t)
	var said bytes.Buffer
	s := &supervisor{log: slog.New(slog.NewTextHandler(&said, nil)), socket: path}
	for range 100_000 { // more than the kernel keeps for it
		if s.ready("serving"); said.Len() > 0 {
			break
		}
	}
	if !strings.Contains(said.String(), "the supervisor could not be told") || !strings.Contains(said.String(), "i/o timeout") {
		t.Errorf("it was said: %s", &said)
	}
}

// A sign of life is given when all have answered, and only then.
func TestTheWatchdogHearsOfHangs(t *testing.T) {
	path, told := supervising(t)
	s := &supervisor{log: slog.New(slog.DiscardHandler), socket: path, every: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	asked, ended := 0, make(chan struct{})
	defer func() { cancel(); <-ended }()
	alive := make(chan int, 1)
	go func() {
		defer close(ended)
		s.watch(ctx, "serving", func(ctx context.Context) error {
			asked++
			switch {
			case asked <= 3:
				<-ctx.Done()
				return ctx.Err()
			case asked == 4:
				alive <- asked
				return fmt.Errorf("catalog: %w\nand more", io.ErrUnexpectedEOF)
			}
			return nil
		})
	}()
	told("STATUS=degraded: context deadline exceeded")
	told("WATCHDOG=1")
	select {
	case <-alive:
	default:
		t.Error("a sign of life was given while a part hung")
	}
	told("STATUS=degraded: catalog: unexpected EOF; and more")
	told("WATCHDOG=1")
	told("STATUS=serving")
}

func TestSocketsThatArePassed(t *testing.T) {
	tcp := func(t *testing.T) *os.File {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	udp := func(t *testing.T) *os.File {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	unixSocket := func(t *testing.T) *os.File {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("@roadstead-%d", os.Getpid()), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, row := range []struct {
		name  string
		names []string
		file  func(*testing.T) *os.File
		want  string // of the error; "": none
		taken []string
	}{
		{"each setting", []string{"listen", "admin", "cluster.listen"}, tcp, "", []string{"admin", "cluster.listen", "listen"}},
		{"one without a name", []string{"LISTEN_FD_3"}, tcp, "", []string{"listen"}},
		{"one that systemd calls unknown", []string{"unknown"}, tcp, "", []string{"listen"}},
		{"two without a name", []string{"LISTEN_FD_3", "LISTEN_FD_4"}, tcp, `"LISTEN_FD_3" was passed, and it is not known what for: write FileDescriptorName=`, nil},
		{"one of another name", []string{"roadstead.socket"}, tcp, "with one of listen, admin, cluster.listen", nil},
		{"one name twice", []string{"listen", "listen"}, tcp, "keep one ListenStream=", nil},
		{"datagrams", []string{"listen"}, udp, "ListenStream= with Accept=no", nil},
		{"a Unix socket", []string{"listen"}, unixSocket, "write a port", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := &supervisor{log: slog.New(slog.DiscardHandler), sockets: map[string]net.Listener{}}
			var err error
			for _, name := range row.names {
				f := row.file(t)
				named := os.NewFile(uintptr(mustDup(t, f)), name)
				f.Close()
				if err == nil {
					err = s.adopt(named, len(row.names))
				}
				named.Close()
			}
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("error %v, want %q", err, row.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if unused := s.unused(); unused == nil || !strings.Contains(unused.Error(), "off in the configuration") {
				t.Errorf("sockets that nobody takes: %v", unused)
			}
			for _, setting := range row.taken {
				l, err := s.listen(setting, "127.0.0.1:1")
				if err != nil {
					t.Fatal(err)
				}
				l.Close()
			}
			if err := s.unused(); err != nil {
				t.Error(err)
			}
		})
	}
}

func mustDup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Sockets that were passed to the process that started this one are not this one's, and neither is what
// was passed to this one its children's.
func TestSocketsOfAnotherProcess(t *testing.T) {
	for name, value := range map[string]string{
		"LISTEN_PID": strconv.Itoa(os.Getppid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "listen",
		"WATCHDOG_PID": strconv.Itoa(os.Getppid()), "WATCHDOG_USEC": "1000000", "NOTIFY_SOCKET": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	s, err := supervised(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.sockets) > 0 || s.every != 0 {
		t.Errorf("it took over %v, and gives signs of life each %v", s.sockets, s.every)
	}
	for _, pair := range os.Environ() {
		if strings.HasPrefix(pair, "LISTEN_") || strings.HasPrefix(pair, "WATCHDOG_") || strings.HasPrefix(pair, "NOTIFY_") {
			t.Errorf("its children are told %s", pair)
		}
	}
}

func TestWhichSocketTheConfigurationMeans(t *testing.T) {
	for _, row := range []struct {
		configuration, socket string
		same                  bool
	}{
		{":5000", "[::]:5000", true},
		{"0.0.0.0:5000", "[::]:5000", true},
		{":443", "[::]:5000", false},
		{"127.0.0.1:5000", "[::]:5000", false},
		{"localhost:5000", "127.0.0.1:5000", true},
		{"localhost:5000", "[::]:5000", false},
		{"[::1]:5000", "[::1]:5000", true},
		{":5000", "127.0.0.1:5000", false},
		{"10.0.0.1:5000", "10.0.0.2:5000", false},
		{"mirror.example.com:5000", "10.0.0.2:5000", true},
	} {
		address, err := net.ResolveTCPAddr("tcp", row.socket)
		if err != nil {
			t.Fatal(err)
		}
		if got := sameSocket(row.configuration, address); got != row.same {
			t.Errorf("%s is %s: %v", row.configuration, row.socket, got)
		}
	}
}

// The unit waits for longer than a drain takes.
func TestTheUnitWaitsForTheDrain(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(moduleRoot(t), "deploy", "systemd", "roadstead.service"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+s)$`).FindSubmatch(unit)
	if match == nil {
		t.Fatal("TimeoutStopSec= is not there")
	}
	if wait, err := time.ParseDuration(string(match[1])); err != nil || wait < defaults().Drain+closing {
		t.Errorf("TimeoutStopSec=%s, %v, and a drain takes %s and up to %s", match[1], err, defaults().Drain, closing)
	}
}

// The configuration of the package is good as it is, and with everything in it that is left out.
func TestThePackagesConfigurationIsGood(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "deploy", "systemd", "roadstead.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := certificate(t, dir, "mirror.example.com")
	write(t, filepath.Join(dir, "password"), "Aa1-for-a-test\n")
	here := strings.NewReplacer(
		"/etc/roadstead/tls/tls.crt", cert, "/etc/roadstead/tls/tls.key", key,
		"/etc/roadstead/secrets/admin-password", filepath.Join(dir, "password"), "/etc/roadstead/secrets/docker.io", filepath.Join(dir, "password"),
	).Replace(string(text))
	plain := good(t, here)
	if plain.Storage.Directory != "/var/lib/roadstead" || plain.Listen != defaults().Listen || plain.Admin != defaults().Admin || plain.TLS.Certificate != "" {
		t.Errorf("as it is: %+v", plain)
	}
	whole := good(t, regexp.MustCompile(`(?m)^( *)#( *[a-z_.]+:.*)$`).ReplaceAllString(here, "$1$2"))
	names := []string{}
	for _, p := range whole.Projects {
		names = append(names, p.Name)
	}
	if whole.TLS.Certificate != cert || whole.URL == "" || whole.Storage.MaxSize == 0 || whole.Storage.Floor == 0 || !slices.Contains(names, "registry.example.com") || !slices.Contains(names, "production") {
		t.Errorf("with everything: %+v", whole)
	}
}
