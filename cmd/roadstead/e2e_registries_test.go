package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A mirror is a node with images of Docker Hub, which is where names without a project lead, of quay.io,
// and of a part of it, each under the same names: a client that has pulled one has not seen the others.
type mirror struct {
	*wharf
	images map[string]*image
}

// startMirror starts one. With TLS quay.io is private, and everything is asked for by the robot; without,
// by nobody.
func startMirror(t *testing.T, c nodeConfig, names ...string) *mirror {
	t.Helper()
	u := startUpstream(t, upstreamConfig{})
	c.plain = true
	c.projects = map[string]any{
		"docker.io": u.project(map[string]any{"hub": true}),
		"quay.io":   u.project(map[string]any{"public": !c.tls}),
	}
	c.more = map[string]any{"default_project": "docker.io"}
	m := &mirror{wharf: startWharf(t, c), images: map[string]*image{}}
	for i, name := range names {
		m.images[name] = recipe{seed: uint64(320000 + 10*i), docker: true, platforms: []string{"amd64", "arm64"}}.make(t, "1.35")
		for _, repo := range []string{m.ref("docker.io", name).repo, m.ref("quay.io", name).repo} {
			u.push(t, repo, m.images[name])
		}
	}
	if c.tls {
		m.node = m.as(m.robot)
	}
	return m
}

func (m *mirror) ref(project, name string) reference {
	return reference{project: project, repo: map[string]string{"docker.io": "library/", "quay.io": "team/"}[project] + name, tag: "1.35"}
}

// both are an image in either registry.
func (m *mirror) both(name string) []reference {
	return []reference{m.ref("docker.io", name), m.ref("quay.io", name)}
}

// generate has the files of a client written, and returns the directory that they are below.
func (m *mirror) generate(t *testing.T, client string, args ...string) string {
	t.Helper()
	dir := shortDir(t)
	args = append(args, "--for", client, "--url", m.url, "--output", dir)
	if m.ca != "" {
		secret := filepath.Join(shortDir(t), "secret")
		if err := os.WriteFile(secret, []byte(m.robot.secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--ca", m.ca, "--username", m.robot.name, "--password-file", secret)
	}
	if _, err := m.command("registries", args...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is generated is what real clients pull by, with and without TLS and credentials, on one port: by
// ns, by rewrites and paths, and at the root.
func TestClientsPullByGeneratedConfiguration(t *testing.T) {
	e2e(t)
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "tls"}[secure], func(t *testing.T) {
			t.Parallel()
			m := startMirror(t, nodeConfig{tls: secure}, "busybox", "each", "wildcard", "k3s", "kubelet", "buildkit")
			t.Run("containerd", m.pullContainerd)
			t.Run("RKE2", m.pullRKE2)
			t.Run("docker", m.pullDocker)
			t.Run("podman", m.pullPodman)
		})
	}
}

// pullContainerd pulls as ctr and as a kubelet do, each by other images: what is in the store is not
// asked for again.
func (m *mirror) pullContainerd(t *testing.T) {
	c := startContainerd(t)
	install := func(dir string) {
		t.Helper()
		if err := os.RemoveAll(c.dir + "/hosts"); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(c.dir+"/hosts", os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	// The credentials are in the files.
	install(m.generate(t, "containerd") + "/etc/containerd/certs.d")
	for _, ref := range m.both("each") {
		c.pull(t, ref, m.images["each"])
	}
	c.pullForKubelet(t, m.ref("quay.io", "kubelet"), m.images["kubelet"])
	install(m.generate(t, "containerd", "--wildcard") + "/etc/containerd/certs.d")
	for _, ref := range m.both("wildcard") {
		c.pullForKubelet(t, ref, m.images["wildcard"])
	}
	// What K3s makes of its own file names no credentials: those are in the daemon's configuration.
	file := m.generate(t, "rke2", "--wildcard") + "/etc/rancher/rke2/registries.yaml"
	install(renderAsK3s(t, readRegistries(t, file)))
	if m.who.name != "" {
		c.user = m.who.name + ":" + m.who.secret
	}
	c.pull(t, m.ref("quay.io", "k3s"), m.images["k3s"])
}

// pullRKE2 pulls as the bootstrap of RKE2 does, and asks what its containerd would: after a rewrite, or
// by ns alone.
func (m *mirror) pullRKE2(t *testing.T) {
	for _, args := range [][]string{nil, {"--wildcard"}} {
		file := m.generate(t, "rke2", args...) + "/etc/rancher/rke2/registries.yaml"
		all := readRegistries(t, file)
		for _, ref := range m.both("busybox") {
			wharfiePullBy(t, file, ref, m.images["busybox"])
			rules, ok := all.Mirrors[ref.project]
			if !ok {
				rules = all.Mirrors["*"]
			}
			name := ref.repo
			for pattern, replace := range rules.Rewrite {
				name = regexp.MustCompile(pattern).ReplaceAllString(name, replace)
			}
			if rewritten := args == nil; rewritten != (name == ref.project+"/"+ref.repo) {
				t.Errorf("%s is asked for as %s", ref, name)
			}
			pullAsForked(t, m.node, name, ref.project, ref.tag, m.images["busybox"])
		}
	}
}

// pullDocker pulls at the root, and has its BuildKit do so too, which says ns there.
func (m *mirror) pullDocker(t *testing.T) {
	text, err := os.ReadFile(m.generate(t, "docker") + "/etc/docker/daemon.json")
	if err != nil {
		t.Fatal(err)
	}
	var settings map[string]any
	if err := json.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	d := startDockerBy(t, settings)
	d.pull(t, "each:1.35", m.images["each"])
	if m.ca != "" {
		return // BuildKit in this engine speaks plain HTTP to whatever is on the loopback
	}
	d.build(t, "buildkit:1.35")
	m.logs(t, "BuildKit asking for the image that it has built from", len(m.images["buildkit"].here().layers), "repo=docker.io/library/buildkit ", "kind=blob", "status=200")
}

// pullPodman pulls by registries.conf, which skopeo obeys as well, and then with a mirror at the root.
func (m *mirror) pullPodman(t *testing.T) {
	needRoot(t)
	file := m.generate(t, "podman") + "/etc/containers/registries.conf.d/roadstead.conf"
	dir := shortDir(t)
	m.keep(t, dir)
	if m.ca != "" {
		certs := filepath.Join(dir, ".config/containers/certs.d", m.addr)
		text, err := os.ReadFile(m.ca)
		if err := errors.Join(err, os.MkdirAll(certs, 0o700), os.WriteFile(filepath.Join(certs, "ca.crt"), text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	podman := podmanCommand{program: need(t, "podman"), dir: dir, env: []string{"CONTAINERS_REGISTRIES_CONF=" + file}}
	for _, ref := range m.both("busybox") {
		id := strings.TrimSpace(string(podman.run(t, "pull", "--quiet", ref.String())))
		podman.compare(t, id, m.images["busybox"])
	}
	skopeo := func(ref reference, img *image) {
		t.Helper()
		out := filepath.Join(shortDir(t), "image")
		run(t, environment(dir), need(t, "skopeo"), "--registries-conf", file, "--insecure-policy", "copy", "--all", "--preserve-digests", "docker://"+ref.String(), "dir:"+out)
		compareFile(t, filepath.Join(out, "manifest.json"), img.top().bytes)
	}
	for _, ref := range m.both("busybox") {
		skopeo(ref, m.images["busybox"])
	}
	root := fmt.Sprintf("[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = %q\ninsecure = %v\n", m.addr, m.ca == "")
	if err := os.WriteFile(file, []byte(root), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := m.ref("docker.io", "each")
	podman.compare(t, strings.TrimSpace(string(podman.run(t, "pull", "--quiet", ref.String()))), m.images["each"])
	skopeo(ref, m.images["each"])
}

// mirrorsFile is a registries.yaml.
type mirrorsFile struct {
	Mirrors map[string]struct {
		Endpoint []string
		Rewrite  map[string]string
	}
	Configs map[string]struct {
		TLS struct {
			CA string `yaml:"ca_file"`
		}
	}
}

func readRegistries(t *testing.T, file string) (r mirrorsFile) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// renderAsK3s writes the hosts.toml that K3s and RKE2 make of a registries.yaml, in the order of their
// template, and returns the folder (RKE2.md §1).
func renderAsK3s(t *testing.T, r mirrorsFile) string {
	t.Helper()
	root := shortDir(t)
	for host, mirror := range r.Mirrors {
		dir := filepath.Join(root, map[bool]string{true: "_default", false: strings.ReplaceAll(host, ":", "_") + "_"}[host == "*"])
		if host != "*" && !strings.Contains(host, ":") {
			dir = filepath.Join(root, host)
		}
		text := ""
		for _, endpoint := range mirror.Endpoint {
			_, addr, _ := strings.Cut(endpoint, "://")
			text += fmt.Sprintf("[host.\"%s/v2\"]\ncapabilities = [\"pull\", \"resolve\"]\n", endpoint)
			if ca := r.Configs[addr].TLS.CA; ca != "" {
				text += fmt.Sprintf("ca = [%q]\n", ca)
			}
			for i, pattern := range slices.Sorted(maps.Keys(mirror.Rewrite)) {
				if i == 0 {
					text += fmt.Sprintf("  [host.\"%s/v2\".rewrite]\n", endpoint)
				}
				text += fmt.Sprintf("    \"%s\" = \"%s\"\n", pattern, mirror.Rewrite[pattern])
			}
		}
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// pullAsForked sends what the containerd of K3s and RKE2 sends after a rewrite (RKE2.md §1 and
// §2): the new name with the old registry as ns; without a ping, and credentials only to the
// token service that the challenge names.
func pullAsForked(t *testing.T, n *node, repo, ns, tag string, img *image) {
	t.Helper()
	anybody := n.as(account{})
	ns = "?ns=" + ns
	head := manifestPath(repo, tag) + ns
	a := anybody.ask(http.MethodHead, head)
	var bearer []string
	if n.who.name != "" && a.status != http.StatusOK { // of what is public nobody is asked for a name
		if a.status != http.StatusUnauthorized {
			t.Fatalf("HEAD %s as anybody: %v, want 401", head, a)
		}
		token := n.token(t, a.header.Get("WWW-Authenticate"))
		bearer = []string{"Authorization: Bearer " + token}
		a = anybody.ask(http.MethodHead, head, bearer...)
	}
	if a.status != http.StatusOK || a.header.Get("Docker-Content-Digest") != string(img.top().digest) {
		t.Fatalf("HEAD %s: %v, %v; want %s", head, a, a.header, img.top().digest)
	}
	for _, m := range img.manifests {
		if a := anybody.ask(http.MethodGet, manifestPath(repo, string(m.digest))+ns, bearer...); !a.whole() || a.digest() != m.digest {
			t.Errorf("manifest %s: %v", m.digest, a)
		}
	}
	for d := range img.blobs {
		if a := anybody.ask(http.MethodGet, blobPath(repo, d)+ns, bearer...); !a.whole() || a.digest() != d {
			t.Errorf("blob %s: %v", d, a)
		}
	}
}
