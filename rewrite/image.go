package rewrite

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"

	"roadstead/registry"
)

// Image is an image as people and pod specifications name it, completed as clients complete it:
// "busybox" is docker.io, library/busybox, latest.
type Image struct {
	Host   string          // the registry, with its port if it needs one, in lower case unless capital letters make it one; "docker.io" for all names of Docker Hub
	Name   string          // the repository there, without rewriting: "library/busybox"
	Tag    string          // "" when there is a digest, which then decides
	Digest registry.Digest // "" when there is none
}

// ParseImage reads the name of an image by the rules of Docker, which containerd, the kubelet and
// podman share: a first component with a dot, a colon or the name localhost is a registry, and without
// tag and digest it is the tag latest.
func ParseImage(text string) (Image, error) {
	named, err := reference.ParseDockerRef(strings.TrimSpace(text))
	if err != nil {
		return Image{}, fmt.Errorf("%q is not the name of an image, such as docker.io/library/busybox:1.36 or quay.io/team/app@sha256:…: %w", registry.Clip(text), err)
	}
	i := Image{Host: reference.Domain(named), Name: reference.Path(named)}
	if i.Host == "" { // the package reads "a_b.c/d" so
		first, _, _ := strings.Cut(i.Name, "/")
		return Image{}, fmt.Errorf("%q is not the name of an image: %q is no host of a registry", registry.Clip(text), registry.Clip(first))
	}
	if host := canonical(i.Host); isHost(host) {
		i.Host = host
	}
	if i.Host == dockerHub && !strings.Contains(i.Name, "/") {
		// It was called by another name of Docker Hub, of which the package does not know.
		i.Name = "library/" + i.Name
		if _, err := reference.WithName(i.Host + "/" + i.Name); err != nil {
			return Image{}, fmt.Errorf("%q: %w", registry.Clip(text), err)
		}
	}
	if tagged, ok := named.(reference.Tagged); ok {
		i.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		if i.Digest, err = registry.ParseDigest(digested.Digest().String()); err != nil {
			return Image{}, fmt.Errorf("%q: %w", registry.Clip(text), err)
		}
	}
	return i, nil
}

// isHost reports whether the first component of a name is a registry as it stands there. A capital letter
// makes it one, or a port, so "A/b" and "a:443/b" are at registries that "a" does not name.
func isHost(first string) bool { return first == "localhost" || strings.ContainsAny(first, ".:") }

// Reference is what a registry is asked for: the digest, or else the tag.
func (i Image) Reference() string {
	if i.Digest != "" {
		return string(i.Digest)
	}
	return i.Tag
}

// String is the image's full name, "docker.io/library/busybox:latest".
func (i Image) String() string {
	name := i.Host + "/" + i.Name
	if i.Tag != "" {
		name += ":" + i.Tag
	}
	if i.Digest != "" {
		name += "@" + string(i.Digest)
	}
	return name
}

// Place finds where an image is here, if its name is that of the original registry, as in a pod
// specification or in a list of images: in the project that stands for that registry. self are the
// hosts by which this server is known; an image of one of them names its project itself.
//
// Unlike [Table.Route] it never takes the first component of a name at another registry for a
// project. Errors are NameUnknown or NameInvalid as a [registry.Fault].
func (t *Table) Place(i Image, self ...string) (registry.Repo, error) {
	for _, host := range self {
		if fold(host) == fold(i.Host) {
			return t.Route(host, "", i.Name)
		}
	}
	p := t.namespaces[canonical(i.Host)]
	if p == nil {
		return registry.Repo{}, unknown("no project here stands for the registry %q of %s; configure one, or write the image as it is called here, <this server>/<project>/<repository>", registry.Clip(i.Host), registry.Clip(i.String()))
	}
	return p.repo(i.Name)
}
