package main_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A dockerd is a Docker engine with an empty store. It runs no containers here, so it needs
// neither networks nor a file system of its own.
type dockerd struct {
	*process
	docker string
	dir    string
	socket string
}

func startDocker(t *testing.T, mirrors ...string) *dockerd {
	t.Helper()
	needRoot(t)
	program := need(t, "dockerd")
	dir := shortDir(t)
	d := &dockerd{docker: need(t, "docker"), dir: dir, socket: "unix://" + dir + "/d.sock"}
	config := writeJSON(t, filepath.Join(dir, "daemon.json"), map[string]any{
		"registry-mirrors": mirrors, "iptables": false, "ip6tables": false, "bridge": "none", "storage-driver": "vfs",
	})
	d.process = start(t, dir, "dockerd", program, "--config-file", config, "--host", d.socket,
		"--data-root", dir+"/root", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid")
	eventually(t, 30*time.Second, "an answer from dockerd", func() bool {
		if d.ended(0) {
			t.Fatalf("dockerd ended: %v\n%s", d.err, tail(d.log, 4<<10))
		}
		_, err := try(environment(dir), d.docker, "--host", d.socket, "version")
		return err == nil
	})
	return d
}

// pull pulls an image by a name as one types it, and compares what the engine says of it.
func (d *dockerd) pull(t *testing.T, name string, img *image) {
	t.Helper()
	env := environment(d.dir)
	run(t, env, d.docker, "--host", d.socket, "pull", "--quiet", name)
	out := string(run(t, env, d.docker, "--host", d.socket, "image", "inspect", "--format", "{{.Id}} {{.RepoDigests}}", name))
	if want := string(img.here().config); !strings.HasPrefix(out, want) {
		t.Errorf("docker pulled the image %s, want %s", out, want)
	}
	if !strings.Contains(out, string(img.top().digest)) {
		t.Errorf("docker knows the image as %s, want %s", out, img.top().digest)
	}
}

// freshDocker pulls by the node's address: an engine takes mirrors only for Docker Hub. It does
// not ask who a loopback address is, so the certificate needs no introduction.
func freshDocker(t *testing.T, n *node) puller {
	d := startDocker(t)
	n.keep(t, d.dir)
	return func(t *testing.T, ref reference, img *image) {
		t.Helper()
		d.pull(t, ref.at(n), img)
	}
}
