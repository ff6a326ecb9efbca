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

// once leaves out projects that are caches of a registry that another one before is a cache of:
// a client can have one mirror of each.
func once(all []estate.Project) []estate.Project {
	var kept []estate.Project
	for _, p := range all {
		if !slices.ContainsFunc(kept, func(k estate.Project) bool { return k.Host == p.Host }) {
			kept = append(kept, p)
		}
	}
	return kept
}

func rke2Snippets(at *url.URL, all []estate.Project) []snippet {
	var b strings.Builder
	b.WriteString("mirrors:\n")
	for _, p := range once(all) {
		fmt.Fprintf(&b, "  %q:\n    endpoint: [ %q ]\n    rewrite:\n      \"(^.+$)\": \"%s/$1\"\n", p.Host, at.String(), p.Name)
	}
	list := []snippet{{"/etc/rancher/rke2/registries.yaml", "hint.rke2", b.String()}}
	private := slices.ContainsFunc(all, func(p estate.Project) bool { return !p.Public })
	if !private && at.Scheme != "https" {
		return list
	}
	b.Reset()
	fmt.Fprintf(&b, "configs:\n  %q:\n", at.Host)
	if private {
		b.WriteString("    auth:\n      username: \"robot$nodes\"\n      password: \"the-secret-of-the-robot\"\n")
	}
	if at.Scheme == "https" {
		b.WriteString("    tls:\n      ca_file: /etc/ssl/certs/roadstead-ca.pem\n")
	}
	return append(list, snippet{"/etc/rancher/rke2/registries.yaml", "hint.rke2.configs", b.String()})
}

func containerdSnippets(at *url.URL, all []estate.Project) []snippet {
	list := []snippet{{"/etc/containerd/config.toml", "hint.containerd", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n"}}
	for _, p := range once(all) {
		text := fmt.Sprintf("server = \"https://%s\"\n\n[host.\"%s/v2/%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n", p.Host, at, p.Name)
		if p.Host == "docker.io" {
			text = strings.Replace(text, "https://docker.io", "https://registry-1.docker.io", 1)
		}
		if at.Scheme == "https" {
			text += "  # ca = \"/etc/ssl/certs/roadstead-ca.pem\"\n"
		}
		list = append(list, snippet{"/etc/containerd/certs.d/" + p.Host + "/hosts.toml", "", text})
	}
	return list
}

// Docker knows mirrors of Docker Hub only, and asks them without a project: that is the default one.
func dockerSnippets(at *url.URL, all []estate.Project) []snippet {
	text := fmt.Sprintf("{\n  \"registry-mirrors\": [ %q ]\n}\n", at.String())
	if at.Scheme != "https" {
		text = fmt.Sprintf("{\n  \"registry-mirrors\": [ %q ],\n  \"insecure-registries\": [ %q ]\n}\n", at.String(), at.Host)
	}
	list := []snippet{{"/etc/docker/daemon.json", "hint.docker", text}}
	var b strings.Builder
	for _, p := range all {
		name := "NAME:TAG"
		if p.Host == "docker.io" {
			name = "library/busybox"
		}
		fmt.Fprintf(&b, "docker pull %s/%s/%s\n", at.Host, p.Name, name)
	}
	list = append(list, snippet{"", "hint.docker.direct", b.String()})
	if at.Scheme == "https" {
		list = append(list, snippet{"", "hint.ca", fmt.Sprintf("mkdir -p /etc/docker/certs.d/%s\ncp roadstead-ca.pem /etc/docker/certs.d/%s/ca.crt\n", at.Host, at.Host)})
	}
	return list
}

func podmanSnippets(at *url.URL, all []estate.Project) []snippet {
	var b strings.Builder
	for i, p := range once(all) {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "[[registry]]\nprefix = %q\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", p.Host, p.Host, at.Host+"/"+p.Name)
		if at.Scheme != "https" {
			b.WriteString("insecure = true\n")
		}
	}
	list := []snippet{{"/etc/containers/registries.conf.d/roadstead.conf", "hint.podman", b.String()}}
	if at.Scheme == "https" {
		list = append(list, snippet{"", "hint.ca", fmt.Sprintf("mkdir -p /etc/containers/certs.d/%s\ncp roadstead-ca.pem /etc/containers/certs.d/%s/ca.crt\n", at.Host, at.Host)})
	}
	return list
}

func buildkitSnippets(at *url.URL, all []estate.Project) []snippet {
	var b strings.Builder
	for _, p := range once(all) {
		fmt.Fprintf(&b, "[registry.%q]\n  mirrors = [ %q ]\n", p.Host, at.Host+"/"+p.Name)
	}
	if at.Scheme != "https" {
		fmt.Fprintf(&b, "[registry.%q]\n  http = true\n", at.Host)
	}
	list := []snippet{{"/etc/buildkit/buildkitd.toml", "hint.buildkit", b.String()}}
	if at.Scheme == "https" {
		list = append(list, snippet{"/etc/buildkit/buildkitd.toml", "hint.ca", fmt.Sprintf("[registry.%q]\n  ca = [ \"/etc/ssl/certs/roadstead-ca.pem\" ]\n", at.Host)})
	}
	return list
}
