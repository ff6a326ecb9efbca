package console

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"roadstead/registry/estate"
)

// What is written here goes into files of others, and all of it comes from grammars that have no
// character that means anything there: names of projects, and hosts.

// Whoever signs in is a robot of the system: one that may pull from all that a cluster needs.
const (
	robotName   = "robot$cluster"
	robotSecret = "the-secret-of-the-robot"
)

// site is what the snippets are about.
type site struct {
	at      *url.URL
	all     []estate.Project
	mirrors []mirror
}

func (s site) private() bool {
	return slices.ContainsFunc(s.all, func(p estate.Project) bool { return !p.Public })
}

func (s site) secure() bool { return s.at.Scheme == "https" }

func rke2Snippets(s site) []snippet {
	var b strings.Builder
	b.WriteString("mirrors:\n")
	for _, m := range s.mirrors {
		fmt.Fprintf(&b, "  %q:\n    endpoint: [ %q ]\n    rewrite:\n", m.Host, s.at.String())
		for _, p := range m.Parts {
			fmt.Fprintf(&b, "      %q: \"%s/$1\"\n", p.pattern(), p.Project)
		}
	}
	list := []snippet{{"/etc/rancher/rke2/registries.yaml", "hint.rke2", b.String()}}
	if !s.private() && !s.secure() {
		return list
	}
	// A comment for what only some need: an authority that is named and not there fails every pull.
	b.Reset()
	mark := ""
	if !s.private() {
		mark = "# "
	}
	fmt.Fprintf(&b, "%sconfigs:\n%s  %q:\n", mark, mark, s.at.Host)
	if s.private() {
		fmt.Fprintf(&b, "    auth:\n      username: %q\n      password: %q\n", robotName, robotSecret)
	}
	if s.secure() {
		b.WriteString("#     tls:\n#       ca_file: /etc/ssl/certs/roadstead-ca.pem\n")
	}
	return append(list, snippet{"/etc/rancher/rke2/registries.yaml", "hint.rke2.configs", b.String()})
}

func containerdSnippets(s site) []snippet {
	config := "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n"
	list := []snippet{{"/etc/containerd/config.toml", "hint.containerd", config}}
	for _, m := range s.mirrors {
		if m.whole() == "" {
			continue // it has no rules for parts of a registry
		}
		text := fmt.Sprintf("server = \"https://%s\"\n\n[host.\"%s/v2/%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n", m.Host, s.at, m.whole())
		if m.Host == "docker.io" {
			text = strings.Replace(text, "https://docker.io", "https://registry-1.docker.io", 1)
		}
		if s.secure() {
			text += "  # ca = \"/etc/ssl/certs/roadstead-ca.pem\"\n"
		}
		list = append(list, snippet{"/etc/containerd/certs.d/" + m.Host + "/hosts.toml", "", text})
	}
	if s.private() {
		list = append(list, snippet{"", "hint.containerd.auth", fmt.Sprintf("kubectl create secret docker-registry roadstead --docker-server=%s --docker-username='%s' --docker-password='%s'\n", s.at.Host, robotName, robotSecret)})
	}
	return list
}

// Docker knows mirrors of Docker Hub only, and asks them without a project: that is the default one.
func dockerSnippets(s site) []snippet {
	text := fmt.Sprintf("{\n  \"registry-mirrors\": [ %q ]\n}\n", s.at.String())
	if !s.secure() {
		text = fmt.Sprintf("{\n  \"registry-mirrors\": [ %q ],\n  \"insecure-registries\": [ %q ]\n}\n", s.at.String(), s.at.Host)
	}
	list := []snippet{{"/etc/docker/daemon.json", "hint.docker", text}}
	var b strings.Builder
	for _, p := range s.all {
		name := "NAME:TAG"
		if slices.Contains(p.Names, "docker.io") {
			name = "library/busybox"
		}
		fmt.Fprintf(&b, "docker pull %s/%s/%s\n", s.at.Host, p.Name, name)
	}
	list = append(list, snippet{"", "hint.docker.direct", b.String()})
	return append(append(list, s.login("docker")...), s.authority("/etc/docker/certs.d/")...)
}

func podmanSnippets(s site) []snippet {
	var all []string
	for _, m := range s.mirrors {
		for _, p := range m.Parts {
			from := strings.TrimSuffix(m.Host+"/"+p.Prefix, "/")
			text := fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", from, from, s.at.Host+"/"+p.Project)
			if !s.secure() {
				text += "insecure = true\n"
			}
			all = append(all, text)
		}
	}
	list := []snippet{{"/etc/containers/registries.conf.d/roadstead.conf", "hint.podman", strings.Join(all, "\n")}}
	return append(append(list, s.login("podman")...), s.authority("/etc/containers/certs.d/")...)
}

func buildkitSnippets(s site) []snippet {
	var b strings.Builder
	for _, m := range s.mirrors {
		if m.whole() != "" { // it has no rules for parts of a registry
			fmt.Fprintf(&b, "[registry.%q]\n  mirrors = [ %q ]\n", m.Host, s.at.Host+"/"+m.whole())
		}
	}
	if !s.secure() {
		fmt.Fprintf(&b, "[registry.%q]\n  http = true\n", s.at.Host)
	}
	list := append([]snippet{{"/etc/buildkit/buildkitd.toml", "hint.buildkit", b.String()}}, s.login("docker")...)
	if s.secure() {
		list = append(list, snippet{"/etc/buildkit/buildkitd.toml", "hint.ca", fmt.Sprintf("[registry.%q]\n  ca = [ \"/etc/ssl/certs/roadstead-ca.pem\" ]\n", s.at.Host)})
	}
	return list
}

// login is how a client of people signs in, where not everything is for everybody.
func (s site) login(client string) []snippet {
	if !s.private() {
		return nil
	}
	return []snippet{{"", "hint.login", fmt.Sprintf("%s login %s -u '%s'\n", client, s.at.Host, robotName)}}
}

// authority is where clients look for the authorities of a registry.
func (s site) authority(dir string) []snippet {
	if !s.secure() {
		return nil
	}
	dir += s.at.Host
	return []snippet{{"", "hint.ca", fmt.Sprintf("mkdir -p %s\ncp roadstead-ca.pem %s/ca.crt\n", dir, dir)}}
}
