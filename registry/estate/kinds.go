package estate

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"roadstead/storage/catalog"
)

// Kinds of registries, in Harbor's words. To us all are OCI registries; they differ in where they are
// reached and in how repositories of one component are called.
const (
	DockerHub      = "docker-hub"
	DockerRegistry = "docker-registry"
)

// kind is what is known of a kind of registries.
type kind struct {
	name string
	url  string // where all of them are; "": each has its own
}

var kinds = []kind{
	{DockerHub, "https://hub.docker.com"},
	{DockerRegistry, ""},
	{"quay", "https://quay.io"},
	{"github-ghcr", "https://ghcr.io"},
	{"google-gcr", "https://gcr.io"},
	{"harbor", ""},
	{"aws-ecr", ""},
	{"azure-acr", ""},
	{"ali-acr", ""},
	{"jfrog-artifactory", ""},
	{"gitlab", ""},
}

// Kinds are the names of all kinds.
func Kinds() []string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return all
}

// KnownURL is where the registries of a kind are; "" for those that are anywhere.
func KnownURL(name string) string {
	for _, k := range kinds {
		if k.name == name {
			return k.url
		}
	}
	return ""
}

// KindOf is the kind of the registry at a URL.
func KindOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return DockerRegistry
	}
	if hub(u.Hostname()) {
		return DockerHub
	}
	for _, k := range kinds {
		known, err := url.Parse(k.url)
		if err == nil && k.url != "" && known.Host == u.Host {
			return k.name
		}
	}
	return DockerRegistry
}

// hub reports whether a host is one of Docker Hub's, whose registry is at yet another.
func hub(host string) bool {
	return slices.Contains([]string{"hub.docker.com", "docker.io", "www.docker.com", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}, strings.ToLower(host))
}

// HostOf is how images of the registry at a URL are called: "docker.io" wherever Docker Hub is.
func HostOf(base string) string {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return ""
	case hub(u.Hostname()):
		return "docker.io"
	}
	return u.Host
}

// BaseURL is where the registry API of a registry is.
func BaseURL(r catalog.Registry) string {
	if u, err := url.Parse(r.URL); err == nil && hub(u.Hostname()) {
		return "https://registry-1.docker.io"
	}
	return strings.TrimRight(r.URL, "/")
}

// SecretOf is the name under which the password of a registry is sealed.
func SecretOf(id int64) string { return fmt.Sprintf("registry/%d", id) }
