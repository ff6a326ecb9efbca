//go:build linux

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// contestant is one of the servers that are compared.
type contestant struct {
	name   string
	prefix string // of repository names, where one server has several upstreams
	static bool   // serves files, so that it cannot miss

	// start runs the server on a directory that is empty or that it had before.
	start func(b *testing.B, dir string, u *benchUpstream) *benchProcess
}

const (
	nginxStatic = "nginx static"
	nginxCache  = "nginx proxy_cache"
	stock       = "distribution"
	ours        = "roadstead"
	direct      = "direct"
)

// contestants returns the servers with the given names, in the order of the tables.
func contestants(b *testing.B, names []string) []contestant {
	b.Helper()
	if raceBuild {
		b.Fatal("the race detector would be measured: run without -race")
	}
	all := []contestant{
		{name: direct, start: func(_ *testing.B, _ string, u *benchUpstream) *benchProcess {
			return &benchProcess{addr: u.addr}
		}},
		{name: nginxStatic, prefix: "docker.io/", static: true, start: func(b *testing.B, dir string, _ *benchUpstream) *benchProcess {
			return startNginx(b, dir, staticConfig)
		}},
		{name: nginxCache, prefix: "docker.io/", start: func(b *testing.B, dir string, u *benchUpstream) *benchProcess {
			return startNginx(b, dir, strings.ReplaceAll(cacheConfig, "UPSTREAM", u.addr))
		}},
		{name: stock, start: startDistribution},
		{name: ours, prefix: "docker.io/", start: startOurs},
	}
	return slices.DeleteFunc(all, func(c contestant) bool { return !slices.Contains(names, c.name) })
}

// nginxCommon is nginx as one tunes it for this work: sendfile, connections that live, full
// packets. It writes no access log, so that nobody can call the yardstick too short.
const nginxCommon = `
daemon off;
USER
worker_processes auto;
pid DIR/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
	access_log off;
	server_tokens off;
	sendfile on;
	tcp_nopush on;
	tcp_nodelay on;
	keepalive_timeout 300s;
	keepalive_requests 100000000;
	client_body_temp_path DIR/tmp-body;
	proxy_temp_path DIR/tmp-proxy;
	fastcgi_temp_path DIR/tmp-fastcgi;
	uwsgi_temp_path DIR/tmp-uwsgi;
	scgi_temp_path DIR/tmp-scgi;
`

const staticConfig = nginxCommon + `
	server {
		listen ADDR backlog=4096;
		root DIR/root;
		default_type application/octet-stream;
		location ~ /manifests/ { default_type application/vnd.oci.image.manifest.v1+json; }
	}
}
`

const cacheConfig = nginxCommon + `
	proxy_cache_path DIR/cache levels=1:2 keys_zone=images:16m max_size=100g inactive=7d use_temp_path=off;
	upstream registry {
		server UPSTREAM;
		keepalive 64;
	}
	server {
		listen ADDR backlog=4096;
		location /v2/docker.io/ {
			proxy_pass http://registry/v2/;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache images;
			proxy_cache_key $uri;
			proxy_cache_valid 200 10m;
			proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504 http_429;
			proxy_cache_lock on;
			proxy_cache_lock_timeout 120s;
			proxy_cache_lock_age 120s;
			proxy_max_temp_file_size 4096m;
		}
	}
}
`

func startNginx(b *testing.B, dir, config string) *benchProcess {
	b.Helper()
	addr := freeAddress(b)
	user := ""
	if os.Geteuid() == 0 {
		// The workers would be nobody, who may not read the directory.
		user = "user root;"
	}
	config = strings.NewReplacer("ADDR", addr, "DIR", dir, "USER", user).Replace(config)
	path := filepath.Join(dir, "nginx.conf")
	writeFile(b, path, config)
	return startServer(b, dir, addr, need(b, "nginx"), "-c", path, "-e", "stderr")
}

func startDistribution(b *testing.B, dir string, u *benchUpstream) *benchProcess {
	b.Helper()
	addr := freeAddress(b)
	path := filepath.Join(dir, "config.yml")
	writeFile(b, path, fmt.Sprintf(`
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %s/data}
  cache: {blobdescriptor: inmemory}
http: {addr: %q, secret: benchmark}
proxy: {remoteurl: "http://%s", ttl: 168h}
`, dir, addr, u.addr))
	return startServer(b, dir, addr, need(b, "registry"), "serve", path)
}

// startOurs runs this module's own program with its defaults, log included. Only how long a
// tag is fresh is set: to what nginx is given.
func startOurs(b *testing.B, dir string, u *benchUpstream) *benchProcess {
	b.Helper()
	addr := freeAddress(b)
	path := filepath.Join(dir, "roadstead.yaml")
	writeFile(b, path, fmt.Sprintf(`
listen: %q
admin: %q
storage: {directory: %s/data}
projects:
  docker.io: {endpoints: ["http://%s"], allow_private: true, ttl: 10m}
`, addr, freeAddress(b), dir, u.addr))
	return startServer(b, dir, addr, roadsteadBinary(b), "serve", "--config", path)
}

func writeFile(b *testing.B, path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}
