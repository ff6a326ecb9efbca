// The tests in files named e2e_… see roadstead as its users do: a process of its own, between a
// real registry and the clients that people have. They share no code with it, which is why they
// are a package apart, and reach nothing but 127.0.0.1.
package main_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"roadstead/storage/processtest"
)

// e2e starts a test of this kind: beside the others, unless only short tests are wanted.
func e2e(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("an end-to-end test, and -short is set")
	}
	t.Parallel()
}

// lack ends a test that this machine cannot run. Where everything has to be there, in continuous
// integration, that is a failure: a test that nobody runs proves nothing.
func lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true: "+format, args...)
	}
	t.Skipf(format, args...)
}

// need returns the path of a program, from .tools/bin of the module or from PATH.
func need(t testing.TB, program string) string {
	t.Helper()
	path := filepath.Join(moduleRoot(), ".tools", "bin", program)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path, err := exec.LookPath(program)
	if err != nil {
		// Debian's daemons are where only root's PATH looks.
		if path = filepath.Join("/usr/sbin", program); isFile(path) {
			return path
		}
		lack(t, "%s is not installed; .ci/tools installs it", program)
	}
	return path
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "only root may do what this test does")
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// begun is the folder that the tests were begun in, which go test has be that of the package.
var begun, _ = os.Getwd()

var moduleRoot = sync.OnceValue(func() string {
	_, file, _, _ := runtime.Caller(0)
	if !filepath.IsAbs(file) { // built with -trimpath
		return filepath.Dir(filepath.Dir(begun))
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
})

// roadsteadBinary is roadstead, built once for all tests of a run and with the race detector when they
// have it. ROADSTEAD_BINARY names one that is to be tested instead.
func roadsteadBinary(t testing.TB) string {
	t.Helper()
	return built(t, raceBuild)
}

// roadsteadCommand is the same without the race detector, for commands that are run by the hundred, do
// one thing after the other and end: it would have each of them take a third of a second to start.
func roadsteadCommand(t testing.TB) string {
	t.Helper()
	return built(t, false)
}

func built(t testing.TB, race bool) string {
	t.Helper()
	program := buildPlain
	if race {
		program = buildRace
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	// As it is released, so that what is compiled for one is there for the other.
	buildPlain = sync.OnceValues(func() (string, error) { return build("roadstead", "-trimpath") })
	buildRace  = sync.OnceValues(func() (string, error) {
		// As .ci/check does.
		return build("roadstead-race", "-race", "-gcflags=modernc.org/...=-race=false -l", "-gcflags=golang.org/x/crypto/argon2=-race=false -l")
	})
)

func build(name string, flags ...string) (string, error) {
	if path := os.Getenv("ROADSTEAD_BINARY"); path != "" {
		return path, nil
	}
	args := append([]string{"build", "-buildvcs=false"}, flags...)
	return goBuild(moduleRoot(), name, append(args, "./cmd/roadstead"))
}

// goBuild builds into .cache of the module, by way of another name: two runs of the tests may do
// this at the same time.
func goBuild(dir, name string, args []string) (string, error) {
	path := filepath.Join(moduleRoot(), ".cache", "e2e", name)
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	cmd := exec.Command("go", append(args[:1:1], append([]string{"-o", fresh}, args[1:]...)...)...)
	cmd.Dir = dir
	if !slices.Contains(args, "-race") {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // which the race detector needs, and nothing else here
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, os.Rename(fresh, path)
}

// A process is a daemon that a test has started and that ends with the test.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // the file that has what it said
	done chan struct{} // closed when it has ended
	err  error         // of Wait; set before done is closed
}

// start runs a program until the test ends, or until somebody stops it. Its output is appended
// to dir/name.log and the end of it shown when the test fails.
func start(t testing.TB, dir, name, program string, args ...string) *process {
	t.Helper()
	p := &process{
		name: name,
		cmd:  exec.Command(program, args...),
		log:  filepath.Join(dir, name+".log"),
		done: make(chan struct{}),
	}
	p.cmd.Dir = dir
	p.cmd.Env = environment(dir)
	again := isFile(p.log)
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A group of its own keeps a Ctrl-C at the tests from ending it before they have; the
	// signal at our death keeps it from outliving a test binary that timed out.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := processtest.Start(p.cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() && !again {
			t.Logf("the end of what %s said:\n%s", name, tail(p.log, 4<<10))
		}
	})
	return p
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// freeze stops the process as SIGSTOP does, and waits until it has: each of its threads goes on
// until the kernel finds it.
func (p *process) freeze(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGSTOP)
	tasks := fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)
	eventually(t, 5*time.Second, "every thread of "+p.name+" stopped", func() bool {
		threads, err := os.ReadDir(tasks)
		for _, thread := range threads {
			status, _ := os.ReadFile(filepath.Join(tasks, thread.Name(), "stat"))
			_, state, _ := strings.Cut(string(status), ") ")
			if !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// stop ends the process: kindly at first, and by force if it has not heard after ten seconds.
// It may be called again.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	if !p.ended(given(10 * time.Second)) {
		t.Errorf("%s did not end within 10 s of SIGTERM", p.name)
		p.kill()
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *process) ended(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// tail returns the last n bytes of a file.
func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}

// environment is what a program gets: nothing of the user's but PATH, and a home of its own, so
// that no credential or setting of a developer's has a say in a test.
func environment(home string, more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"HOME=" + home,
		"XDG_RUNTIME_DIR=" + home,
		"TMPDIR=" + cmp.Or(os.Getenv("TMPDIR"), os.TempDir()),
		"NO_PROXY=*",
		"OTEL_TRACES_EXPORTER=none", // the registry would send traces somewhere
		"GORACE=atexit_sleep_ms=0",  // else each end takes a second
	}, more...)
}

// run runs a client to its end and returns what it wrote to stdout. It fails the test when the
// client fails.
func run(t testing.TB, env []string, program string, args ...string) []byte {
	t.Helper()
	out, err := try(env, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs a client to its end. A client that hangs is ended after two minutes.
func try(env []string, program string, args ...string) ([]byte, error) {
	return tryFor(2*time.Minute, env, program, args...)
}

func tryFor(limit time.Duration, env []string, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(program), strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// freeAddress returns a loopback address that nothing listens on. Its port is below those that
// the kernel gives to outgoing connections, which come and go by the thousand here: a server
// that is started again finds its port free.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+nextPort.Add(1)%20000)
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		return addr
	}
	t.Fatal("no free port between 12000 and 32000")
	return ""
}

var nextPort = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(20000)) // two runs at once begin elsewhere
	return &n
}()

// given is the time for something that takes so long on a machine that has a processor for it. Where each
// waits for others, as here beside the tests of other packages, it takes as many times as long as it waits;
// and what never happens does not happen then either. The kernel says in which share of the last ten
// seconds anybody had to wait (Documentation/accounting/psi.rst).
func given(d time.Duration) time.Duration {
	var waited float64
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err == nil {
		_, err = fmt.Sscanf(string(text), "some avg10=%f", &waited)
	}
	if err != nil {
		return d
	}
	return time.Duration(float64(d) / max(0.25, 1-waited/100))
}

// eventually waits for something that happens by itself, and is [given] the time for it. It looks the less
// often the longer that takes: to look costs what the thing itself needs to happen, and nobody minds a
// twentieth more.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); {
		waited := time.Since(start)
		if waited > within && waited > given(within) {
			t.Fatalf("%s: not within %v", what, waited)
		}
		time.Sleep(min(max(waited/20, 10*time.Millisecond), 250*time.Millisecond))
	}
}
