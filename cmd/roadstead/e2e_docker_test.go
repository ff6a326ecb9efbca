package main_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
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

func startDocker(t *testing.T) *dockerd { return startDockerBy(t, map[string]any{}) }

// startDockerBy starts one with a configuration that says more.
func startDockerBy(t *testing.T, settings map[string]any) *dockerd {
	t.Helper()
	needRoot(t)
	program := need(t, "dockerd")
	dir := shortDir(t)
	d := &dockerd{docker: need(t, "docker"), dir: dir, socket: "unix://" + dir + "/d.sock"}
	maps.Copy(settings, map[string]any{"iptables": false, "ip6tables": false, "bridge": "none", "storage-driver": "vfs"})
	config := writeJSON(t, filepath.Join(dir, "daemon.json"), settings)
	d.process = start(t, dir, "dockerd", program, "--config-file", config, "--host", d.socket,
		"--data-root", dir+"/root", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid")
	eventually(t, 30*time.Second, "an answer from dockerd", func() bool {
		if d.ended(0) {
			t.Fatalf("dockerd ended: %v\n%s", d.err, tail(d.log, 4<<10))
		}
		if !listens(dir + "/d.sock") {
			return false
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

// build has the engine's BuildKit make an image of another: what it copies a file onto is pulled for
// that. The command of Debian leaves BuildKit to a plugin, so the engine is asked itself.
func (d *dockerd) build(t *testing.T, from string) {
	t.Helper()
	var files bytes.Buffer
	archive := tar.NewWriter(&files)
	text := "FROM " + from + "\nCOPY Dockerfile /here\n"
	err := errors.Join(archive.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(text))}), writeText(archive, text), archive.Close())
	if err != nil {
		t.Fatal(err)
	}
	engine := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(d.socket, "unix://"))
	}}}
	defer engine.CloseIdleConnections()
	res, err := engine.Post("http://engine/v1.40/build?version=2&t=built", "application/x-tar", &files)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || bytes.Contains(said, []byte(`"error"`)) {
		t.Fatalf("build from %s: %s, %v\n%s", from, res.Status, err, said)
	}
}

func writeText(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
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
