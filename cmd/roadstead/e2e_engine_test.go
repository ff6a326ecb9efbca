package main_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An engine is a Docker engine that builds images and runs containers. It lives in a network namespace of
// its own, where every port of a compose file is free and what is published is seen by nobody else.
type engine struct {
	*process
	t      *testing.T
	dir    string
	netns  string // the file of the namespace
	client *http.Client
	env    []string
}

// outside is where in an engine's network the rest of the world is: an address that is no private one, so
// that nothing has to be allowed to ask there.
const (
	outside    = "198.51.100.5"
	outsideTLS = outside + ":8443" // where a server there listens that containers reach on 443
)

func startEngine(t *testing.T) *engine {
	t.Helper()
	needRoot(t)
	ip := need(t, "ip")
	e := &engine{t: t, dir: shortDir(t)}
	name := fmt.Sprintf("roadstead-engine-%d", os.Getpid())
	e.netns = "/run/netns/" + name
	run(t, nil, ip, "netns", "add", name)
	t.Cleanup(func() { run(t, nil, ip, "netns", "del", name) })
	run(t, nil, ip, "-n", name, "link", "set", "lo", "up")
	run(t, nil, ip, "-n", name, "addr", "add", outside+"/32", "dev", "lo")
	// What listens on 443 there does so on another port: a container's is published on 443 of every address.
	run(t, nil, need(t, "nsenter"), "--net="+e.netns, need(t, "iptables"), "-t", "nat", "-A", "PREROUTING", "-d", outside, "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination", outsideTLS)
	e.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DialContext: e.dial, MaxIdleConnsPerHost: 16}}
	t.Cleanup(e.client.CloseIdleConnections)

	socket := "unix://" + e.dir + "/d.sock"
	plugins := filepath.Join(e.dir, ".docker", "cli-plugins")
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(need(t, "docker-compose-v2"), filepath.Join(plugins, "docker-compose")); err != nil {
		t.Fatal(err)
	}
	e.env = environment(e.dir, "DOCKER_HOST="+socket)
	// It takes the file system that suits the disk: overlay2 nearly everywhere, and else vfs, which copies.
	config := writeJSON(t, filepath.Join(e.dir, "daemon.json"), map[string]any{"shutdown-timeout": 2})
	e.process = start(t, e.dir, "dockerd", need(t, "nsenter"), "--net="+e.netns, "env", "PATH="+e.runc()+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
		need(t, "dockerd"), "--config-file", config, "--host", socket, "--data-root", e.dir+"/root", "--exec-root", e.dir+"/exec", "--pidfile", e.dir+"/pid")
	eventually(t, 60*time.Second, "an answer from dockerd", func() bool {
		if e.ended(0) {
			t.Fatalf("dockerd ended: %v\n%s", e.err, tail(e.log, 4<<10))
		}
		_, err := try(e.env, need(t, "docker"), "version")
		return err == nil
	})
	t.Cleanup(func() {
		if all := strings.Fields(string(e.docker("ps", "--all", "--quiet"))); len(all) > 0 {
			e.docker(append([]string{"rm", "--force", "--volumes"}, all...)...)
		}
	})
	return e
}

// docker runs the engine's client, which is in its network too.
func (e *engine) docker(args ...string) []byte {
	e.t.Helper()
	return e.run(need(e.t, "docker"), args...)
}

// run runs a program in the engine's network.
func (e *engine) run(program string, args ...string) []byte {
	e.t.Helper()
	out, err := e.try(program, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

func (e *engine) try(program string, args ...string) ([]byte, error) {
	// An image takes minutes where nothing of it has been compiled before.
	return tryFor(10*time.Minute, e.env, need(e.t, "nsenter"), append([]string{"--net=" + e.netns, program}, args...)...)
}

// dial connects within the engine's network. A connection belongs to the namespace in which its socket
// was made, wherever it is used.
func (e *engine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread, which is somewhere else from now on, ends with the goroutine.
		runtime.LockOSThread()
		var ns *os.File
		if ns, err = os.Open(e.netns); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = new(net.Dialer).DialContext(ctx, network, address) // one address: on this thread
		}
	}()
	<-done
	return conn, err
}

// on is a server in the engine's network that speaks plain HTTP at an address.
func (e *engine) on(address string) *node {
	return &node{t: e.t, addr: address, url: "http://" + address, http: e.client}
}

// An inspection is what an engine knows of a container.
type inspection struct {
	State struct {
		Pid    int
		Status string
		Health struct {
			Status string
			Log    []struct{ Output string }
		}
	}
	RestartCount int
	Config       struct{ User string }
	HostConfig   struct {
		ReadonlyRootfs bool
		CapDrop        []string
		SecurityOpt    []string
		Memory         int64
		Privileged     bool
		RestartPolicy  struct{ Name string }
	}
	Mounts []struct {
		Type, Name, Destination string
		RW                      bool
	}
}

func (e *engine) inspect(container string) inspection {
	e.t.Helper()
	var all []inspection
	if err := json.Unmarshal(e.docker("inspect", "--type", "container", container), &all); err != nil || len(all) != 1 {
		e.t.Fatalf("inspect %s: %v", container, err)
	}
	return all[0]
}

// logs tells what each container is and has said.
func (e *engine) logs() {
	e.t.Helper()
	docker := need(e.t, "docker")
	out, _ := e.try(docker, "ps", "--all", "--format", "{{.Names}}\t{{.Status}}")
	for line := range strings.Lines(string(out)) {
		name, status, _ := strings.Cut(strings.TrimSpace(line), "\t")
		said, _ := e.try("sh", "-c", `exec "$0" logs --tail 40 "$1" 2>&1`, docker, name)
		e.t.Logf("%s: %s\n%s", name, status, said)
	}
}

// healthy waits for what the container's health check says.
func (e *engine) healthy(container string) {
	e.t.Helper()
	var last inspection
	defer func() {
		if last.State.Health.Status != "healthy" {
			out, _ := e.try(need(e.t, "docker"), "logs", "--tail", "40", container)
			e.t.Logf("%s is %+v\n%s", container, last.State, out)
		}
	}()
	eventually(e.t, 90*time.Second, container+" healthy", func() bool {
		time.Sleep(time.Second) // its client costs more than to wait
		last = e.inspect(container)
		return last.State.Health.Status == "healthy"
	})
}

// crash is kill -9 of a container's process, of which the engine learns as it would of any crash.
func (e *engine) crash(container string) {
	e.t.Helper()
	if pid := e.inspect(container).State.Pid; pid > 1 {
		_ = unix.Kill(pid, unix.SIGKILL)
		return
	}
	e.t.Fatalf("%s does not run", container)
}

// confined says what a container's process may do that it need not.
func (e *engine) confined(container, user string) error {
	i := e.inspect(container)
	h := i.HostConfig
	var errs []error
	if !h.ReadonlyRootfs || h.Privileged || strings.Join(h.CapDrop, " ") != "ALL" || strings.Join(h.SecurityOpt, " ") != "no-new-privileges:true" || h.Memory == 0 || i.Config.User != user || h.RestartPolicy.Name != "unless-stopped" {
		errs = append(errs, fmt.Errorf("the engine has been told %+v, user %q", h, i.Config.User))
	}
	// And what the kernel makes of it.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.State.Pid))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	uid, _, _ := strings.Cut(user, ":")
	want := map[string]string{"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000", "Uid": uid}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		if w, asked := want[key]; asked {
			if got := strings.Fields(value); len(got) == 0 || got[0] != w {
				errs = append(errs, fmt.Errorf("%s is %q, want %s", key, got, w))
			}
			delete(want, key)
		}
	}
	if len(want) > 0 {
		errs = append(errs, fmt.Errorf("the kernel says nothing of %v", want))
	}
	return errors.Join(errs...)
}

// machineMark is what containers are known by that have this machine's programs.
const machineMark = "ROADSTEAD_TEST_MACHINE"

// runc makes a folder with a runc that gives some containers this machine's programs, its Go and what Go
// has downloaded and compiled. No image can be pulled here: those that the Dockerfile and the compose
// files name are made by [engine.standIn] of next to nothing, and this is what they run. What is built
// from scratch has no such mark, and gets nothing.
func (e *engine) runc() string {
	e.t.Helper()
	real := need(e.t, "runc")
	root := strings.TrimSpace(string(run(e.t, environment(os.Getenv("HOME")), "go", "env", "GOROOT")))
	mounts := []map[string]any{
		{"destination": "/usr", "type": "bind", "source": "/usr", "options": []string{"rbind", "ro"}},
		{"destination": "/machine/go", "type": "bind", "source": root, "options": []string{"rbind", "ro"}},
		{"destination": "/machine/minio", "type": "bind", "source": e.folderOf("minio"), "options": []string{"rbind", "ro"}},
	}
	for inside, variable := range map[string]string{"/go/pkg/mod": "GOMODCACHE", "/root/.cache/go-build": "GOCACHE"} {
		out, err := exec.Command("go", "env", variable).Output()
		if err != nil {
			e.t.Fatal(err)
		}
		mounts = append(mounts, map[string]any{"destination": inside, "type": "bind", "source": strings.TrimSpace(string(out)), "options": []string{"rbind", "rw"}})
	}
	text, err := json.Marshal(mounts)
	if err != nil {
		e.t.Fatal(err)
	}
	dir := filepath.Join(e.dir, "bin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		e.t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
bundle= before=
for arg; do
	case $before in --bundle | -b) bundle=$arg ;; esac
	before=$arg
done
if [ -n "$bundle" ] && grep -q '"%s=' "$bundle/config.json"; then
	sed -i 's|"mounts":\[|&%s,|' "$bundle/config.json"
fi
exec %s "$@"
`, machineMark, strings.Trim(string(text), "[]"), real)
	if err := os.WriteFile(filepath.Join(dir, "runc"), []byte(script), 0o700); err != nil {
		e.t.Fatal(err)
	}
	return dir
}

// folderOf is the folder of one of .ci/tools' programs, whatever links lead to it.
func (e *engine) folderOf(program string) string {
	e.t.Helper()
	path, err := filepath.EvalSymlinks(need(e.t, program))
	if err != nil {
		e.t.Fatal(err)
	}
	return filepath.Dir(path)
}

// An entry is a file or a folder of an image.
type entry struct {
	path  string // a folder if it ends in a slash
	text  string // of a file
	link  string // of a link
	mode  int64  // zero: 0755
	owner int
}

// standIn makes an image under the name of one that cannot be pulled. changes are instructions of a
// Dockerfile.
func (e *engine) standIn(name string, entries []entry, changes ...string) {
	e.t.Helper()
	all := append([]entry{
		{path: "bin", link: "usr/bin"}, {path: "sbin", link: "usr/sbin"}, {path: "lib", link: "usr/lib"}, {path: "lib64", link: "usr/lib64"},
		{path: "usr/"}, {path: "root/"}, {path: "etc/"}, {path: "machine/"}, {path: "machine/bin/"}, {path: "tmp/", mode: 0o1777},
		{path: "machine/bin/wget", link: "/usr/bin/busybox"},
		{path: "etc/passwd", text: "root:x:0:0::/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", mode: 0o644},
	}, entries...)
	path := filepath.Join(e.t.TempDir(), "image.tar")
	f, err := os.Create(path)
	if err != nil {
		e.t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, n := range all {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: n.path, Mode: n.mode, Uid: n.owner, Gid: n.owner, Size: int64(len(n.text))}
		switch {
		case n.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, n.link
		case strings.HasSuffix(n.path, "/"):
			h.Typeflag = tar.TypeDir
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := errors.Join(w.WriteHeader(h), writeText(w, n.text)); err != nil {
			e.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		e.t.Fatal(err)
	}
	args := []string{"import", "--change", "ENV " + machineMark + "=1 PATH=/machine/bin:/machine/go/bin:/machine/minio:" + postgresPrograms(e.t) + ":/usr/sbin:/usr/bin"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	e.docker(append(args, path, name)...)
}

// postgresPrograms is where Debian has PostgreSQL's programs, one folder a version.
func postgresPrograms(t *testing.T) string {
	t.Helper()
	newest, number := "", 0
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, dir := range all {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > number {
			newest, number = dir, n
		}
	}
	if newest == "" {
		lack(t, "no PostgreSQL is installed; .ci/tools installs it")
	}
	return newest
}
