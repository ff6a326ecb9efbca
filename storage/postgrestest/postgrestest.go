// Package postgrestest runs PostgreSQL servers for tests: real ones, each in a directory of its own
// and on nothing but a Unix socket, as a user without rights. And it stands between a server and
// whoever asks it, as a network does that stalls, is slow or is cut ([Proxy]).
package postgrestest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"roadstead/storage/processtest"
)

// The user that owns everything in a server, and its password.
const (
	User     = "roadstead"
	Password = "correct horse, battery/staple"
)

// errMissing says that there is no PostgreSQL on this machine.
var errMissing = errors.New("PostgreSQL is not installed: run .ci/tools")

// Server is a running server. It ends with the process that started it, however that ends.
type Server struct {
	dir      string // of everything, the socket among it
	programs string // the folder of initdb and postgres
	settings []string
	owner    *syscall.SysProcAttr

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{} // closed when it has

	databases atomic.Int64
}

// Start makes a server and starts it. settings are such as "fsync=on", over those that make tests
// quick. Close ends it.
func Start(settings ...string) (*Server, error) {
	programs, err := find()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir, which only its owner can enter. The path of a socket has to be short.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, programs: programs, settings: append([]string{
		"listen_addresses=", "unix_socket_directories=" + dir, "fsync=off", "full_page_writes=off",
		"max_connections=200", "shared_buffers=64MB", "log_min_messages=fatal", "logging_collector=off",
	}, settings...)}
	if err := errors.Join(s.init(), s.Start()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// find returns the folder of the programs: the one in PATH, or the newest that Debian has.
func find() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path)
		return filepath.Dir(path), err
	}
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(all) == 0 {
		return "", errMissing
	}
	return filepath.Dir(slices.MaxFunc(all, func(a, b string) int { return release(a) - release(b) })), nil
}

func release(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// init makes the directory of the data: a copy of one that initdb has made, which takes it a second.
func (s *Server) init() error {
	s.owner = &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // whom PostgreSQL refuses to run as
		uid, gid, err := unprivileged()
		if err != nil {
			return err
		}
		s.owner.Credential = &syscall.Credential{Uid: uid, Gid: gid}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			return err
		}
	}
	made, err := s.template()
	if err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", made, s.data()).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", made, err, out)
	}
	return nil
}

// template returns the directory that others are copies of. Its name says what it was made with and
// for whom; the tests of all packages have the same, where .ci/tools keeps programs.
func (s *Server) template() (string, error) {
	args := []string{"-U", User, "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions"}
	program := filepath.Join(s.programs, "initdb")
	info, err := os.Stat(program)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %q %v %d %d %v", program, args, Password, info.ModTime(), info.Size(), os.Getuid(), s.owner.Credential)
	folder, kept := os.UserCacheDir()
	folder = filepath.Join(folder, "roadstead-tools", "postgres")
	made := filepath.Join(folder, hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(made); err == nil && kept == nil {
		return made, nil
	}

	// Where the server's user may write, and then by way of another name: two runs of tests may do
	// this at the same time, and either of what they make is as good as the other.
	fresh := filepath.Join(s.dir, "made")
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(Password), 0o644); err != nil {
		return "", err
	}
	init := exec.Command(program, append(args, "-D", fresh, "--pwfile", password)...)
	init.SysProcAttr = s.owner
	init.Dir = s.dir
	if out, err := init.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, out)
	}
	aside := made + "." + filepath.Base(s.dir)
	if kept != nil || os.MkdirAll(folder, 0o755) != nil {
		return fresh, nil // nowhere to keep it
	}
	if out, err := exec.Command("cp", "-a", fresh, aside).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy %s: %w: %s", fresh, err, out)
	}
	if err := os.Rename(aside, made); err != nil {
		os.RemoveAll(aside)
		return fresh, nil // somebody else was quicker
	}
	return made, os.RemoveAll(fresh)
}

func unprivileged() (uid, gid uint32, err error) {
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		return 0, 0, err
	}
	u, err := strconv.ParseUint(who.Uid, 10, 32)
	g, e := strconv.ParseUint(who.Gid, 10, 32)
	return uint32(u), uint32(g), errors.Join(err, e)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Socket is the path of the socket that it listens on.
func (s *Server) Socket() string { return filepath.Join(s.dir, ".s.PGSQL.5432") }

// URL names a database of the server as catalog.Open has it, with its password.
func (s *Server) URL(database string) string {
	return s.url(database, url.UserPassword(User, Password))
}

// Place is URL without the password, as the configuration of a node has it.
func (s *Server) Place(database string) string { return s.url(database, url.User(User)) }

func (s *Server) url(database string, who *url.Userinfo) string {
	u := url.URL{Scheme: "postgres", User: who, Path: "/" + database, RawQuery: url.Values{"host": {s.dir}}.Encode()}
	return u.String()
}

// Start starts the server again after Kill or Stop, and waits until it answers.
func (s *Server) Start() error {
	args := []string{"-D", s.data()}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(filepath.Join(s.programs, "postgres"), args...)
	process.Dir, process.Stdout, process.Stderr = s.dir, log, log
	attr := *s.owner
	attr.Pdeathsig = syscall.SIGQUIT // an immediate end
	process.SysProcAttr = &attr
	if err := processtest.Start(process); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		process.Wait()
		close(ended)
	}()
	s.mu.Lock()
	s.process, s.ended = process, ended
	s.mu.Unlock()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := s.psql("postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the server has ended: %s", text)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

// psql runs a statement with the client that is not under test.
func (s *Server) psql(database, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := exec.CommandContext(ctx, filepath.Join(s.programs, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1",
		"-h", s.dir, "-U", User, "-d", database, "-c", statement)
	client.Env = append(os.Environ(), "PGPASSWORD="+Password)
	if out, err := client.CombinedOutput(); err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	return nil
}

// Create makes a database of a name that is new and returns that. It is a copy of another one, or,
// when that is "", empty. Its own order of text is not that of bytes, as with most databases there
// are: "a" comes before "B".
func (s *Server) Create(like string) (string, error) {
	name := fmt.Sprint("catalog", s.databases.Add(1))
	if like == "" {
		like = "template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'"
	}
	return name, s.psql("postgres", "CREATE DATABASE "+name+" TEMPLATE "+like)
}

// Run runs a statement in a database.
func (s *Server) Run(database, statement string) error { return s.psql(database, statement) }

// signal sends a signal to the server and all its processes, or to it alone.
func (s *Server) signal(signal syscall.Signal, all bool) error {
	s.mu.Lock()
	process := s.process.Process.Pid
	s.mu.Unlock()
	if all {
		children, err := children(process)
		if err != nil {
			return err
		}
		for _, child := range children {
			syscall.Kill(child, signal) // it may have ended meanwhile
		}
	}
	return syscall.Kill(process, signal)
}

// children returns the processes that the server has begun: those of its connections are in groups of
// their own.
func children(process int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", process, process))
	if err != nil {
		return nil, err
	}
	var all []int
	for _, child := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(child); err == nil {
			all = append(all, pid)
		}
	}
	return all, nil
}

// Freeze stops all processes of the server where they are, and Thaw lets them go on.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP, true) }

// Thaw is the inverse of Freeze.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT, true) }

// Kill ends the server as kill -9 does, and waits for it and for all its processes: one that is left has
// the memory of the server, which then does not start again. Start starts it again.
func (s *Server) Kill() error {
	if err := s.signal(syscall.SIGSTOP, false); err != nil { // it begins no others
		return err
	}
	s.mu.Lock()
	process := s.process.Process.Pid
	s.mu.Unlock()
	all, err := children(process)
	if err != nil {
		return err
	}
	if err := s.end(syscall.SIGKILL); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		all = slices.DeleteFunc(all, gone)
		if len(all) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes of the server do not end: %v", all)
		}
	}
}

// gone says of a process whether it has ended, be it that nobody has asked how.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(text), ") ") // its name is in brackets
	return err != nil || strings.HasPrefix(state, "Z")
}

// Stop has the server break off what runs and end in order, and waits for it.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

func (s *Server) end(signal syscall.Signal) error {
	if err := s.signal(signal, signal == syscall.SIGKILL); err != nil {
		return err
	}
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	select {
	case <-ended:
		return nil
	case <-time.After(time.Minute):
		return errors.New("the server does not end")
	}
}

// Close ends the server and removes all it had.
func (s *Server) Close() error {
	if s.process != nil {
		s.signal(syscall.SIGCONT, true)
		s.end(syscall.SIGQUIT) // it may have ended
	}
	return os.RemoveAll(s.dir)
}

// Shared is a server that the tests of a package share: it starts for the first of them. The zero
// value is of use. Close is for TestMain.
type Shared struct {
	// Fill writes what each database has from the beginning into that of a URL. nil: nothing.
	Fill func(url string) error

	once   sync.Once
	server *Server
	filled string // the database that others are copies of
	err    error
}

// Server returns the server. Without PostgreSQL the test is skipped, or fails on the machine that
// decides (CI=true).
func (s *Shared) Server(t testing.TB) *Server {
	t.Helper()
	s.once.Do(func() { s.err = s.start() })
	Need(t, s.err)
	return s.server
}

func (s *Shared) start() (err error) {
	if s.server, err = Start(); err != nil || s.Fill == nil {
		return err
	}
	if s.filled, err = s.server.Create(""); err != nil {
		return err
	}
	return s.Fill(s.server.URL(s.filled))
}

// Filled is the database that Fill has written into, for Create.
func (s *Shared) Filled() string { return s.filled }

// Close ends the server, if there is one.
func (s *Shared) Close() {
	if s.server != nil {
		s.server.Close()
	}
}

// Database makes a database of the test's own on the server and returns its URL.
func (s *Shared) Database(t testing.TB) string {
	t.Helper()
	server := s.Server(t)
	name, err := server.Create(s.filled)
	if err != nil {
		t.Fatal(err)
	}
	return server.URL(name)
}

// New starts a server of the test's own, which ends with it.
func New(t testing.TB, settings ...string) *Server {
	t.Helper()
	server, err := Start(settings...)
	Need(t, err)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// Need ends a test that has no server for this error.
func Need(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}
