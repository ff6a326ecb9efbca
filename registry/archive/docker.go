package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// Media types of Docker's images.
const (
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar"
)

// saved is an image of a manifest.json.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// made is a manifest of schema 2 with its keys in the order in which containerd writes them, which makes
// one out of such an archive too: then the image has the same digest on a node that loads the archive and
// on one that pulls it.
type made struct {
	SchemaVersion int                   `json:"schemaVersion"`
	MediaType     string                `json:"mediaType"`
	Config        registry.Descriptor   `json:"config"`
	Layers        []registry.Descriptor `json:"layers"`
}

// saved are the images of an archive of "docker save", with a manifest made for each: the same one for
// the same layers and configuration, wherever and whenever.
func (r *reading) saved() ([]Image, error) {
	list := json.NewDecoder(bytes.NewReader(r.docker))
	if t, err := list.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%s: it is no list in JSON: the archive is damaged", dockerFile)
	}
	var all []Image
	// One after the other: what a few bytes say may be a hundred in memory.
	for list.More() {
		var s saved
		if err := list.Decode(&s); err != nil {
			return nil, fmt.Errorf("%s: %w", dockerFile, err)
		}
		image, err := r.image(s)
		if err != nil {
			return nil, fmt.Errorf("%s: image %s: %w", dockerFile, registry.Clip(s.name()), err)
		}
		if len(all)+max(1, len(s.RepoTags)) > mostImages {
			return nil, fmt.Errorf("%s: it has more than %d names of images: split the archive", dockerFile, mostImages)
		}
		for _, image.Name = range s.RepoTags {
			all = append(all, image)
		}
		if len(s.RepoTags) == 0 {
			all = append(all, image)
		}
	}
	if _, err := list.Token(); err != nil {
		return nil, fmt.Errorf("%s: %w", dockerFile, err)
	}
	if _, err := list.Token(); err != io.EOF {
		return nil, fmt.Errorf("%s: there is something behind the list: the archive is damaged", dockerFile)
	}
	return all, nil
}

// image makes an image, without its name.
func (r *reading) image(s saved) (Image, error) {
	m, err := r.manifest(s)
	if err != nil {
		return Image{}, err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return Image{}, err
	}
	if err := r.held.manifest(len(body)); err != nil {
		return Image{}, err
	}
	return Image{Descriptor: registry.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}, Made: body}, nil
}

// name is what messages call it.
func (s saved) name() string {
	if len(s.RepoTags) > 0 {
		return s.RepoTags[0]
	}
	return s.Config
}

// manifest makes the manifest of an image, if all of it is what its configuration says.
func (r *reading) manifest(s saved) (made, error) {
	config, err := r.file(s.Config)
	if err != nil {
		return made{}, err
	}
	if hex := configName.FindStringSubmatch(path.Base(s.Config)); hex != nil && config.digest != registry.Digest("sha256:"+hex[1]) {
		return made{}, fmt.Errorf("the configuration %s has the digest %s: the archive is damaged", registry.Clip(s.Config), config.digest)
	}
	if len(config.diffs) != len(s.Layers) {
		return made{}, fmt.Errorf("its configuration has %d layers and the archive %d", len(config.diffs), len(s.Layers))
	}
	m := made{SchemaVersion: 2, MediaType: registry.MediaTypeDockerManifest, Layers: []registry.Descriptor{}}
	m.Config = registry.Descriptor{MediaType: dockerConfig, Digest: config.digest, Size: config.size}
	for i, name := range s.Layers {
		layer, err := r.file(name)
		if err != nil {
			return made{}, err
		}
		kind, is := dockerLayer, layer.digest
		if layer.compression != "" {
			kind, is = dockerLayer+"."+layer.compression, layer.diff
		}
		// One that is compressed and has a digest of its own has been compared with that.
		if is != "" && is != config.diffs[i] {
			return made{}, fmt.Errorf("the layer %s is %s and should be %s: the archive is damaged", registry.Clip(name), is, config.diffs[i])
		}
		m.Layers = append(m.Layers, registry.Descriptor{MediaType: kind, Digest: layer.digest, Size: layer.size})
	}
	return m, nil
}

// configName is how Docker calls configurations: by their digest.
var configName = regexp.MustCompile(`^([0-9a-f]{64})(?:\.json)?$`)

// mostLinks is how many names lead from one to the next.
const mostLinks = 10

// file finds a file by a name that may be a link.
func (r *reading) file(name string) (file, error) {
	at := clean(name)
	for range mostLinks {
		if f, ok := r.files[at]; ok {
			return f, nil
		}
		next, ok := r.links[at]
		if !ok {
			break
		}
		at = next
	}
	return file{}, fmt.Errorf("there is no file %s in the archive", registry.Clip(name))
}
