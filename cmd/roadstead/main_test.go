package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry/accesstest"
)

// command runs a command line in this process.
func command(args ...string) (stdout, stderr string, status int) {
	accesstest.Cheap()
	var out, err bytes.Buffer
	status = run(args, streams{&out, &err})
	return out.String(), err.String(), status
}

func TestTheCommandLineTeaches(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, row := range []struct {
		name   string
		args   []string
		status int
		stdout []string // what it must contain
		stderr string
	}{
		{"nothing", nil, 0, []string{"Usage: roadstead <command>", "serve", "check", "adopt", "scrub", "evict", "healthcheck", "version"}, ""},
		{"help", []string{"--help"}, 0, []string{"docker pull localhost:5000/docker.io/library/busybox"}, ""},
		{"help as a command", []string{"help"}, 0, []string{"docker pull localhost:5000/docker.io/library/busybox"}, ""},
		{"help of a command", []string{"help", "adopt"}, 0, []string{"Harbor", "<dir>"}, ""},
		{"help of a command of a command", []string{"help", "robot", "add"}, 0, []string{"Default: pull"}, ""},
		{"help of what is no command", []string{"help", "serv"}, 2, nil, `roadstead: unexpected argument serv, did you mean one of "serve", "user"?`},
		{"help of migrate", []string{"migrate", "--help"}, 0, []string{"systemctl stop roadstead.socket roadstead\n"}, ""},
		{"help of serve", []string{"serve", "--help"}, 0, []string{"SIGHUP", "--config", "--listen", "--data"}, ""},
		{"help of check", []string{"check", "--help"}, 0, []string{"file:line", "--config"}, ""},
		{"help of adopt", []string{"adopt", "--help"}, 0, []string{"Harbor", "<dir>"}, ""},
		{"help of scrub", []string{"scrub", "--help"}, 0, []string{"quarantine", "--data"}, ""},
		{"help of evict", []string{"evict", "--help"}, 0, []string{"max_size"}, ""},
		{"unknown command", []string{"serv"}, 2, nil, `roadstead: unexpected argument serv, did you mean one of "serve", "user"?`},
		{"unknown flag", []string{"check", "--confg", "x"}, 2, nil, `roadstead: unknown flag --confg, did you mean "--config"?`},
		{"no such file", []string{"check", "--config", "absent.yaml"}, 1, nil,
			"roadstead: no configuration file at absent.yaml: name another with --config, or leave --config out to look for roadstead.yaml and /etc/roadstead/roadstead.yaml\n"},
		{"address that is none", []string{"serve", "--listen", "5000"}, 1, nil,
			`roadstead: --listen "5000" is not an address to listen on; write ":5000"`},
		{"nothing to scrub", []string{"scrub", "--data", "absent"}, 1, nil, "so there is nothing to scrub; name the directory that \"docker\" is in with --data"},
		{"nothing to adopt", []string{"adopt", "absent"}, 1, nil, "so there is nothing to adopt; name the directory that \"docker\" is in"},
		{"explain without a url and a certificate", []string{"explain", "quay.io/a/b"}, 0, []string{"http://<this-server>/v2/quay.io/a/b/manifests/latest"}, ""},
		{"adopt with a flag for the directory", []string{"adopt", "--data", "old"}, 2, nil, "name the directory as an argument, without --data: roadstead adopt old"},
		{"nothing to evict from", []string{"evict"}, 1, nil, "there is no catalog in "},
	} {
		t.Run(row.name, func(t *testing.T) {
			stdout, stderr, status := command(row.args...)
			if status != row.status {
				t.Errorf("exit status %d, want %d", status, row.status)
			}
			for _, want := range row.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, stdout)
				}
			}
			if !strings.Contains(stderr, row.stderr) || row.stderr == "" && stderr != "" {
				t.Errorf("stderr is\n%s\nwant %s", stderr, row.stderr)
			}
		})
	}
}

func TestCheckSaysEveryFaultOrWhatTheFileMeans(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	stdout, stderr, status := command("check")
	if status != 0 || stderr != "" || !strings.HasPrefix(stdout, "The built-in configuration (no file was found) is good.") {
		t.Errorf("without a file: status %d\n%s%s", status, stdout, stderr)
	}

	write(t, filepath.Join(dir, "roadstead.yaml"), `
storage: { max_size: 80% }
projects:
  docker.io: { username: somebody, password: hunter2, proxy: "http://u:hunter2@proxy.example:3128", ttl: 90m }
  mirror: { endpoints: "https://10.0.0.1", allow_private: true, insecure: true, pin: [ "a:*" ], prefix: hub }
  production: { hosted: true, quota: 100GiB, immutable: [ "**:v*" ], retain: { newest: 10, pulled: 30d, schedule: never } }
  public: { hosted: true, public: true }
  quay.io: { username: robot, password: hunter2, public: true }
url: https://mirror.example.com
uploads: { max: 10GiB, max_node: 1TiB, idle: 90m }
collect: { every: 0s }
audit: { keep: 365d }
project_creation: everyone
oidc: { issuer: "https://id.example.com", client_id: roadstead, client_secret: hunter2, admin_group: ops, groups: [ { group: dev, project: production, role: developer } ] }
`)
	want := `roadstead.yaml is good.

registry  :5000, http
url       https://mirror.example.com
admin     127.0.0.1:5001
storage   data, at most 80% of the disk
uploads   at most 10 GiB each, at most 1 TiB all together, thrown away when they rest for 1h30m
collect   what was pushed and nothing has referred to for 1d, only by the command gc
audit     what was done is known for 365d
sign-in   https://id.example.com, as roadstead, 1 groups with a role, group ops administrates
projects  are created by every user
default   docker.io

PROJECT            UPSTREAM                                     NS                 TTL    KEEP  NOTES
docker.io          https://registry-1.docker.io                 docker.io          1h30m  7d    private, as user somebody, by a proxy
gcr.io             https://gcr.io                               gcr.io             1m     7d    
ghcr.io            https://ghcr.io                              ghcr.io            1m     7d    
k8s.gcr.io         https://k8s.gcr.io, https://registry.k8s.io  k8s.gcr.io         1m     7d    
mcr.microsoft.com  https://mcr.microsoft.com                    mcr.microsoft.com  1m     7d    
mirror             https://10.0.0.1                             mirror             1m     7d    prefix hub, TLS NOT VERIFIED, may be on a private address, 1 pinned, hides a Docker Hub organisation mirror
nvcr.io            https://nvcr.io                              nvcr.io            1m     7d    
production         (hosted)                                                                     private, at most 100 GiB, 1 immutable, keeps the 10 newest tags, keeps tags pulled within 30d, retires the others only by the command retain
public             (hosted)                                                                     public
public.ecr.aws     https://public.ecr.aws                       public.ecr.aws     1m     7d    
quay.io            https://quay.io                              quay.io            1m     7d    as user robot
registry.k8s.io    https://registry.k8s.io                      registry.k8s.io    1m     7d    
`
	stdout, stderr, status = command("check")
	if stdout != want || stderr != "" || status != 0 {
		t.Errorf("status %d, stderr %q\ngot\n%s\nwant\n%s", status, stderr, stdout, want)
	}

	write(t, filepath.Join(dir, "one.pub"), publicKey(t))
	write(t, filepath.Join(dir, "list.txt"), "rancher/mirrored-pause:3.6\nquay.io/team/app:1\nelsewhere.example/a:1\n")
	write(t, filepath.Join(dir, "policies.yaml"), `
storage: { s3: { bucket: b, region: r } }
builtin_projects: false
allow_private_networks: [ 10.0.0.0/8, 192.168.0.0/16 ]
hosts: { quay.mirror.example: quay.io }
warm:
  nightly: { images: [ busybox ], file: list.txt, platforms: [ linux/amd64, linux/arm64 ], schedule: "0 0 3 * * *" }
  byhand: { images: [ busybox, alpine ], platforms: all, schedule: never }
projects:
  docker.io: { cooldown: 3d, redirect: false, negative_ttl: 1m, keep_gone: true }
  quay.io: { cooldown: 1d, cooldown_new: true, verify: { keys: [ one.pub ] }, redirect: 64MiB, deny_with_upstream: true }
  ghcr.io: { verify: { mode: warn, keys: [ one.pub, one.pub ] }, hub: true, username: u, password_secret: robot, auth_hosts: [ auth.example.com ] }
  production: { hosted: true, redirect: true }
`)
	want = `warm      nightly: 1 image and 3 images of list.txt, linux/amd64 and linux/arm64, into docker.io and quay.io, 1 for which no project of this file stands, by the schedule 0 0 3 * * * (UTC)
warm      byhand: 2 images, all platforms, into docker.io, never by itself

PROJECT     UPSTREAM                      NS         TTL  KEEP  NOTES
docker.io   https://registry-1.docker.io  docker.io  1m   7d    never redirects, asks again after 1m for what was unknown, moved tags wait 3d, keeps tags that upstream has no more
ghcr.io     https://ghcr.io               ghcr.io    1m   7d    private, as user u, password in the secret robot, credentials go to auth.example.com too, names of one part are below library/, warns without a signature (2 keys)
production  (hosted)                                            private, redirects to the bucket
quay.io     https://quay.io               quay.io    1m   7d    redirects to the bucket from 64 MiB on, tags wait 1d, enforces signatures (1 key), denies what upstream denies
`
	stdout, stderr, status = command("check", "--config", "policies.yaml")
	if !strings.HasSuffix(stdout, "\nhost      quay.mirror.example is project quay.io\nprivate   upstreams may be in 10.0.0.0/8, 192.168.0.0/16\n"+want) || stderr != "" || status != 0 {
		t.Errorf("status %d, stderr %q\ngot\n%s\nwant at the end\n%s", status, stderr, stdout, want)
	}

	write(t, filepath.Join(dir, "faulty.yaml"), "memory: 1\nmemry: 2\ndrain: 3\n")
	stdout, stderr, status = command("check", "--config", "faulty.yaml")
	want = `faulty.yaml:1: memory: "1" is not a size; write 1MiB or 1GiB
faulty.yaml:2: "memry" is not a key of the configuration; did you mean "memory"?
faulty.yaml:3: drain: 3 has no unit; write 3s, 3m or 3h
roadstead: 3 faults in faulty.yaml
`
	if stderr != want || stdout != "" || status != 1 {
		t.Errorf("status %d, stdout %q\ngot\n%s\nwant\n%s", status, stdout, stderr, want)
	}
	if _, stderr, status := command("serve", "--config", "faulty.yaml"); stderr != want || status != 1 {
		t.Errorf("serve says %d:\n%s", status, stderr)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Errorf("check left something behind: %v, %v", entries, err)
	}
}

func TestVersion(t *testing.T) {
	stdout, _, status := command("version")
	if status != 0 || !strings.HasPrefix(stdout, "roadstead ") || !strings.Contains(stdout, ", go1.") {
		t.Errorf("status %d, %q", status, stdout)
	}
	stdout, _, status = command("version", "--json")
	var b build
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || status != 0 || b.Version == "" || !strings.Contains(b.Platform, "/") {
		t.Errorf("status %d, %q: %v", status, stdout, err)
	}
}

func TestHealthcheckAsksReadyz(t *testing.T) {
	t.Chdir(t.TempDir())
	ready, body := true, `{"status":"not ready","reasons":["it is stopping","storage: no"]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL)
		}
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, body)
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()

	if stdout, stderr, status := command("healthcheck", "--address", address); status != 0 || stdout != "ready\n" {
		t.Errorf("ready: status %d, %q %q", status, stdout, stderr)
	}
	_, port, _ := net.SplitHostPort(address)
	write(t, "roadstead.yaml", "admin: \"0.0.0.0:"+port+"\"\n")
	if stdout, stderr, status := command("healthcheck"); status != 0 || stdout != "ready\n" {
		t.Errorf("ready by configuration: status %d, %q %q", status, stdout, stderr)
	}
	ready = false
	if _, stderr, status := command("healthcheck", "--address", address); status != 1 || stderr != "roadstead: not ready (503 Service Unavailable): it is stopping; storage: no\n" {
		t.Errorf("not ready: status %d, %q", status, stderr)
	}
	body = "<html>"
	if _, stderr, status := command("healthcheck", "--address", address); status != 1 || !strings.Contains(stderr, `what answers there is not roadstead's "admin" address`) {
		t.Errorf("somebody else: status %d, %q", status, stderr)
	}
	server.Close()
	if _, stderr, status := command("healthcheck", "--address", address); status != 1 || !strings.Contains(stderr, `is "roadstead serve" running`) {
		t.Errorf("not there: status %d, %q", status, stderr)
	}
	write(t, "roadstead.yaml", "admin: \"\"\n")
	if _, stderr, status := command("healthcheck"); status != 1 || !strings.Contains(stderr, `"admin" is off`) {
		t.Errorf("off: status %d, %q", status, stderr)
	}
}
