package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// systemd opens the port and starts the program at the first connection, which is answered.
func TestSocketActivation(t *testing.T) {
	e2e(t)
	activate := need(t, "systemd-socket-activate")
	n := newNode(t, nodeConfig{projects: map[string]any{}})
	activated := func(name string) *process {
		return start(t, n.home, "activated-"+name, activate, "--listen="+n.addr, "--fdname="+name, roadsteadCommand(t), "serve", "--config", n.config)
	}
	n.process = activated("listen")
	waitForHTTP(t, n.process, n.http, n.url+"/v2/")
	n.stop(t)

	p := activated("web")
	eventually(t, 20*time.Second, "the end of a program that does not know its socket", func() bool {
		if c, err := net.Dial("tcp", n.addr); err == nil {
			c.Close()
		}
		return p.ended(50 * time.Millisecond)
	})
	if said := tail(p.log, 4<<10); p.err == nil || !strings.Contains(said, `"web" was passed`) || !strings.Contains(said, "FileDescriptorName=") {
		t.Errorf("it ended with %v and said\n%s", p.err, said)
	}
}

// Little of the machine is exposed to the service, as systemd itself counts: 0 is nothing, 10 all.
func TestTheUnitExposesLittle(t *testing.T) {
	e2e(t)
	unit := filepath.Join(moduleRoot(), "deploy", "systemd", "roadstead.service")
	run(t, environment(t.TempDir()), need(t, "systemd-analyze"), "security", "--no-pager", "--offline=true", "--threshold=15", unit)
}

// A machine is this one as it would be with systemd as its first process: in namespaces of its own, on an
// overlay of which nothing is left, and with no network but a loopback interface.
type machine struct {
	*process
	init  string // the process that is its first
	share string // a directory of the test, and /mnt there
	http  *http.Client
}

// booting turns namespaces into a machine. Its first argument is where it is to be built, its second the
// directory that it shares.
const booting = `set -e
cd "$1"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs .
cd "$1"
mkdir upper work root
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay root
cd root
rm -f usr/sbin/policy-rc.d
# None of this machine's own units are to be started, nor is anything set up that is not of the namespaces.
for folder in run dev etc/systemd/system usr/lib/systemd/system/sysinit.target.wants; do mount -t tmpfs -o mode=755 tmpfs $folder; done
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/shm dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount --bind "$2" mnt
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
ip link set lo up
# A process in a mere chroot may make no user namespaces, which PrivateUsers= does, and credentials get to a
# service by mounts that are shared.
pivot_root . media
exec chroot . sh -c 'umount -l /media && mount --make-rshared / && exec env -i container=roadstead-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --show-status=0'
`

// boot starts a machine that ends with the test.
func boot(t *testing.T) *machine {
	t.Helper()
	needRoot(t)
	for _, program := range []string{"dpkg", "deb-systemd-helper", "systemctl", "unshare", "nsenter", "ip"} {
		need(t, program)
	}
	group := filepath.Join(cgroups(t), fmt.Sprintf("roadstead-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		lack(t, "a control group of its own: %v", err)
	}
	t.Cleanup(func() { removeGroup(t, group) })
	dir := shortDir(t)
	m := &machine{share: filepath.Join(dir, "share")}
	for _, folder := range []string{m.share, filepath.Join(dir, "root")} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const enter = `echo $$ >"$1/cgroup.procs" && exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh -c "$2" sh "$3" "$4"`
	m.process = start(t, dir, "machine", "/bin/sh", "-c", enter, "sh", group, booting, filepath.Join(dir, "root"), m.share)
	t.Cleanup(m.kill) // unshare does not end when it is told to
	eventually(t, 60*time.Second, "a machine that has booted", func() bool {
		if m.ended(0) {
			t.Fatalf("the machine has ended: %v\n%s", m.err, tail(m.log, 4<<10))
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.cmd.Process.Pid))
		if m.init = strings.TrimSpace(string(children)); m.init == "" || strings.Contains(m.init, " ") {
			return false
		}
		if name, _ := os.ReadFile("/proc/" + m.init + "/comm"); string(name) != "systemd\n" {
			return false
		}
		state, _ := m.try("systemctl", "is-system-running")
		return strings.HasPrefix(string(state), "running") || strings.HasPrefix(string(state), "degraded")
	})
	m.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: m.dial}}
	t.Cleanup(func() {
		if t.Failed() {
			journal, _ := m.try("journalctl", "--no-pager", "--lines=60")
			t.Logf("the machine's journal:\n%s", journal)
		}
	})
	return m
}

// cgroups is where control groups of the second version are.
func cgroups(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	lack(t, "no control groups of version 2 are mounted, in which systemd could run")
	return ""
}

// removeGroup removes a control group and those in it, once nobody is in them any more.
func removeGroup(t *testing.T, group string) {
	eventually(t, 10*time.Second, "control groups that nobody is in", func() bool {
		var all []string
		filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		for i := len(all) - 1; i >= 0; i-- {
			if err := unix.Rmdir(all[i]); err != nil && !errors.Is(err, unix.ENOENT) {
				return false
			}
		}
		return true
	})
}

// try runs a program there.
func (m *machine) try(args ...string) ([]byte, error) {
	enter := []string{"--target", m.init, "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	return try(nil, "/usr/bin/nsenter", append(enter, args...)...)
}

// run runs a program there that has to succeed.
func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// dial connects to an address there.
func (m *machine) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and for ever: the thread is not here any more, and ends with the goroutine
		space, openErr := os.Open("/proc/" + m.init + "/ns/net")
		if err = openErr; err != nil {
			return
		}
		defer space.Close()
		if err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err == nil {
			var d net.Dialer
			c, err = d.DialContext(ctx, network, address)
		}
	}()
	<-done
	return c, err
}

// stream asks for something over one new connection after the other, until it is told to stop. All of
// them have to be answered. It returns how many there were.
func (m *machine) stream(t *testing.T, url string) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	answered := 0
	var asking sync.WaitGroup
	asking.Go(func() {
		for ; ctx.Err() == nil; answered++ {
			res, err := m.http.Get(url)
			if err != nil {
				t.Errorf("connection %d: %v", answered, err)
				return
			}
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("connection %d: %s, %v", answered, res.Status, err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() int {
		cancel()
		asking.Wait()
		return answered
	}
}

// is fails the test if the units are not in a state, in the words of systemctl's "is-active" and
// "is-enabled".
func (m *machine) is(t *testing.T, what, state string) {
	t.Helper()
	for _, unit := range []string{"roadstead.service", "roadstead.socket"} {
		out, _ := m.try("systemctl", "is-"+what, unit)
		if got := strings.TrimSpace(string(out)); got != state {
			t.Errorf("%s is %s, want %s", unit, got, state)
		}
	}
}

// property is one that systemd knows of the service.
func (m *machine) property(t *testing.T, name string) string {
	t.Helper()
	return m.run(t, "systemctl", "show", "--value", "--property="+name, "roadstead.service")
}

// debPackage builds the package as a release does.
func debPackage(t *testing.T, dir, version string) string {
	t.Helper()
	cmd := exec.Command(need(t, "nfpm"), "package", "-f", "deploy/nfpm.yaml", "-p", "deb", "-t", dir)
	cmd.Dir = moduleRoot()
	cmd.Env = environment(dir, "VERSION="+version, "ARCH="+runtime.GOARCH, "BINARY="+roadsteadCommand(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return fmt.Sprintf("roadstead_%s-1_%s.deb", version, runtime.GOARCH)
}

// The package does under a real systemd what Debian's own do, and an upgrade refuses nobody.
func TestTheDebianPackage(t *testing.T) {
	e2e(t)
	m := boot(t)
	u := startUpstream(t, upstreamConfig{})
	const size = 24 << 20
	large, d := blob(t, 970_000, size)
	small := recipe{seed: 970_100}.make(t, "1.0")
	u.push(t, "library/small", small)
	u.push(t, "library/large", large)
	u.stop(t)
	// The same registry where the machine can reach it, and only there.
	start(t, m.share, "upstream", "/usr/bin/nsenter", "--target", m.init, "--net", "--", need(t, "registry"), "serve",
		filepath.Join(filepath.Dir(u.log), "config.yml"))
	dpkg := func(args ...string) string {
		t.Helper()
		return m.run(t, append([]string{"dpkg", "--force-unsafe-io"}, args...)...)
	}
	first, second := debPackage(t, m.share, "1.0.0"), debPackage(t, m.share, "1.1.0~rc1")

	// Installed, it serves, and is started at the next boot.
	if out := dpkg("-i", "/mnt/"+first); !strings.Contains(out, "admin, is in /etc/roadstead/secrets/admin-password") {
		t.Errorf("nobody is told of the password:\n%s", out)
	}
	m.is(t, "active", "active")
	m.is(t, "enabled", "enabled")
	if got := m.property(t, "StatusText"); got != "serving on [::]:5000" {
		t.Errorf("its state is %q", got)
	}
	n := &node{process: m.process, t: t, addr: "127.0.0.1:5000", url: "http://127.0.0.1:5000", admin: "http://127.0.0.1:5001", http: m.http}
	n.who = account{"admin", m.run(t, "cat", "/etc/roadstead/secrets/admin-password")}
	if a := n.ask(http.MethodGet, "/api/v2.0/users/current"); a.status != http.StatusOK {
		t.Errorf("the first user: %v", a)
	}
	n.who = account{}
	if said := m.run(t, "sh", "-c", "systemd-analyze verify --man=no --recursive-errors=no roadstead.service roadstead.socket 2>&1"); strings.Contains(said, "roadstead") {
		t.Errorf("systemd says of the units:\n%s", said)
	}
	if journal := m.run(t, "journalctl", "--no-pager", "--unit=roadstead.service"); strings.Contains(journal, "with the password") || strings.Contains(journal, "level=WARN") {
		t.Errorf("it complains, or tells a secret:\n%s", journal)
	}
	if who := m.run(t, "stat", "--format=%U %G %a", "/var/lib/roadstead", "/etc/roadstead/secrets", "/etc/roadstead/roadstead.yaml"); who != "roadstead roadstead 750\nroot roadstead 750\nroot roadstead 640" {
		t.Errorf("what is whose:\n%s", who)
	}

	// A reload puts a configuration in force before it returns, or says what is wrong with it.
	m.run(t, "sh", "-c", `cat >>/etc/roadstead/roadstead.yaml`+" <<'EOF'\n"+
		"projects: { docker.io: { endpoints: [ \""+u.url+"\" ], allow_private: true } }\nEOF")
	m.run(t, "systemctl", "reload", "roadstead")
	if err := n.pull("docker.io/library/small", "1.0", small); err != nil {
		t.Errorf("after a reload: %v", err)
	}
	m.run(t, "sh", "-c", "cp /etc/roadstead/roadstead.yaml /root && echo 'lisen: x' >>/etc/roadstead/roadstead.yaml")
	if out, err := m.try("systemctl", "reload", "roadstead"); err == nil {
		t.Errorf("a faulty configuration is reloaded:\n%s", out)
	}
	if got := m.property(t, "StatusText"); !strings.Contains(got, "by the old configuration: 1 fault") {
		t.Errorf("with a faulty configuration its state is %q", got)
	}
	m.run(t, "cp", "/root/roadstead.yaml", "/etc/roadstead/roadstead.yaml")

	m.drains(t, n, d, size)

	// An upgrade refuses nobody.
	before, stop := m.property(t, "MainPID"), m.stream(t, n.url+manifestPath("docker.io/library/small", "1.0"))
	dpkg("-i", "/mnt/"+second)
	if answered := stop(); answered == 0 {
		t.Error("nobody connected during the upgrade")
	}
	m.is(t, "active", "active")
	if after := m.property(t, "MainPID"); after == before {
		t.Error("it was not restarted by the upgrade")
	}
	if version := m.run(t, "dpkg-query", "--show", "--showformat=${Version}", "roadstead"); version != "1.1.0~rc1-1" {
		t.Errorf("its version is %s after the upgrade", version)
	}

	// Removed, it is not there, and what it had is; installed again, it goes on.
	dpkg("--remove", "roadstead")
	m.is(t, "active", "inactive")
	if c, err := m.dial(t.Context(), "tcp", n.addr); err == nil {
		c.Close()
		t.Error("somebody answers at its port when it has been removed")
	}
	m.run(t, "test", "-e", "/var/lib/roadstead/catalog.db", "-a", "-e", "/etc/roadstead/roadstead.yaml")
	// Credentials are read as root, and are told to the server alone.
	m.run(t, "sh", "-c", "umask 077 && mkdir -p /etc/credstore && echo Aa1-of-a-credential >/etc/credstore/roadstead.admin-password && "+
		"sed -i 's|^admin_password_file:.*|admin_password_file: /run/credentials/roadstead.service/roadstead.admin-password|; s|directory: /var/lib/roadstead|&/other|' /etc/roadstead/roadstead.yaml")
	dpkg("-i", "/mnt/"+second)
	m.is(t, "active", "active")
	m.is(t, "enabled", "enabled")
	n.who = account{"admin", "Aa1-of-a-credential"}
	if a := n.ask(http.MethodGet, "/api/v2.0/users/current"); a.status != http.StatusOK {
		t.Errorf("with the password of a credential: %v", a)
	}
	n.who = account{}
	m.run(t, "systemctl", "reload", "roadstead") // which checks the configuration with them

	// What somebody has disabled stays so; a purge forgets all but the content, and all can begin anew.
	m.run(t, "systemctl", "disable", "--now", "roadstead.socket", "roadstead.service")
	dpkg("-i", "/mnt/"+second)
	m.is(t, "active", "inactive")
	m.is(t, "enabled", "disabled")
	if out := dpkg("--purge", "roadstead"); !strings.Contains(out, "left in /var/lib/roadstead") {
		t.Errorf("nobody is told what is left:\n%s", out)
	}
	m.run(t, "sh", "-c", "test ! -e /etc/roadstead && test -e /var/lib/roadstead/catalog.db")
	dpkg("-i", "/mnt/"+second)
	m.is(t, "active", "active")
	m.is(t, "enabled", "enabled")
}

// drains restarts the service while something is being pulled slowly, which comes whole, and while others
// connect, who wait.
func (m *machine) drains(t *testing.T, n *node, d digest.Digest, size int64) {
	t.Helper()
	before := m.property(t, "MainPID")
	res, err := m.http.Get(n.url + "/v2/docker.io/library/large/blobs/" + d.String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, 1000); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", res.Status, err)
	}
	restarted := make(chan error, 1)
	go func() {
		_, err := m.try("systemctl", "restart", "roadstead")
		restarted <- err
	}()
	eventually(t, 20*time.Second, "a drain", func() bool { return m.property(t, "SubState") == "stop-sigterm" })
	answered := make(chan answer, 1)
	go func() { answered <- n.ask(http.MethodGet, "/v2/") }()
	stop := m.stream(t, n.url+"/v2/")
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size-1000 {
		t.Errorf("of what was pulled when it was restarted came %d bytes, %v", n+1000, err)
	}
	if err := <-restarted; err != nil {
		t.Error(err)
	}
	if a := <-answered; a.status != http.StatusOK {
		t.Errorf("who connected during the drain got %v", a)
	}
	stop()
	if after := m.property(t, "MainPID"); after == before {
		t.Error("it was not restarted")
	}
}
