package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// MaxConfig is the largest image configuration that ParseConfig reads, in bytes. Real ones
	// are some kilobytes, and a page that shows one decodes it into many times its size.
	MaxConfig = 1 << 20

	// mostListed bounds each list of a configuration. No builder makes more than a few hundred
	// history entries, and three bytes of JSON become an entry of a hundred.
	mostListed = 4096
)

// mediaTypeDockerConfig is the configuration of a Docker schema 2 image.
const mediaTypeDockerConfig = "application/vnd.docker.container.image.v1+json"

// Config is what a manifest and its configuration tell people of an artifact. It is read for
// showing and for nothing else: all of it is its author's word and may be hostile text.
type Config struct {
	// Image reports that the configuration is that of a container image. Without it only
	// ArtifactType, Annotations and Layers are set.
	Image        bool
	ArtifactType string            // of what is no image; what its manifest says, or its config's media type
	Annotations  map[string]string // of the manifest
	Layers       []Descriptor      // of the manifest

	OS, Architecture, Variant string
	Created                   time.Time // zero when it is not told, or no time
	Author                    string

	User         string
	WorkingDir   string
	Env          []string // NAME=value
	Entrypoint   []string
	Cmd          []string
	ExposedPorts []string // "80/tcp", sorted
	Labels       map[string]string

	History []Step // oldest first
}

// Step is an entry of an image's history.
type Step struct {
	Created   time.Time
	CreatedBy string
	Author    string
	Comment   string
	Empty     bool // it changed no file and so has no layer

	// Layer is what the step made. nil for an empty one, and for all steps when there are not
	// exactly as many that made something as there are layers: then nobody knows which is whose.
	Layer *Descriptor
}

// IsImageConfig reports whether a media type is that of a container image's configuration.
func IsImageConfig(mediaType string) bool {
	return mediaType == v1.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// configDocument is the part of an image configuration that is read (OCI image specification
// 1.1, config.md). The lists that may be long for their bytes are read one by one.
type configDocument struct {
	OS           string          `json:"os"`
	Architecture string          `json:"architecture"`
	Variant      string          `json:"variant"`
	Created      string          `json:"created"`
	Author       string          `json:"author"`
	History      json.RawMessage `json:"history"`
	Config       struct {
		User         string
		WorkingDir   string
		Env          json.RawMessage
		Entrypoint   json.RawMessage
		Cmd          json.RawMessage
		ExposedPorts map[string]json.RawMessage
		Labels       map[string]string
	} `json:"config"`
}

type historyDocument struct {
	Created    string `json:"created"`
	CreatedBy  string `json:"created_by"`
	Author     string `json:"author"`
	Comment    string `json:"comment"`
	EmptyLayer bool   `json:"empty_layer"`
}

// ParseConfig reads the configuration of an artifact. refs is what ParseManifest made of its
// manifest, and config the content of refs.Config, which is only looked at when that is the
// configuration of an image.
//
// One that cannot be read is an error that matches ManifestInvalid, and then the rest of the
// Config is set all the same.
func ParseConfig(refs References, config []byte) (Config, error) {
	c := Config{Annotations: refs.Annotations, Layers: refs.Layers}
	if refs.Config == nil || !IsImageConfig(refs.Config.MediaType) {
		c.ArtifactType = refs.ArtifactType
		return c, nil
	}
	c.Image = true
	read, err := c.read(config)
	if err != nil {
		return c, fmt.Errorf("configuration %s: %w: %w", refs.Config.Digest, ManifestInvalid, err)
	}
	return read, nil
}

// read returns c with what an image configuration says.
func (c Config) read(config []byte) (Config, error) {
	if len(config) > MaxConfig {
		return c, fmt.Errorf("it is %d bytes long, at most %d are read", len(config), MaxConfig)
	}
	var doc configDocument
	if err := json.Unmarshal(config, &doc); err != nil {
		return c, err
	}
	c.OS, c.Architecture, c.Variant = doc.OS, doc.Architecture, doc.Variant
	c.Created, c.Author = someTime(doc.Created), doc.Author
	c.User, c.WorkingDir = doc.Config.User, doc.Config.WorkingDir
	for _, list := range []struct {
		raw  json.RawMessage
		into *[]string
	}{{doc.Config.Env, &c.Env}, {doc.Config.Entrypoint, &c.Entrypoint}, {doc.Config.Cmd, &c.Cmd}} {
		var err error
		if *list.into, err = listed[string](list.raw); err != nil {
			return c, err
		}
	}
	if len(doc.Config.ExposedPorts) > mostListed || len(doc.Config.Labels) > mostListed {
		return c, errTooMany
	}
	c.ExposedPorts, c.Labels = slices.Sorted(maps.Keys(doc.Config.ExposedPorts)), doc.Config.Labels
	steps, err := listed[historyDocument](doc.History)
	if err != nil {
		return c, fmt.Errorf("history: %w", err)
	}
	c.History = history(steps, c.Layers)
	return c, nil
}

// history gives each step its layer.
func history(docs []historyDocument, layers []Descriptor) []Step {
	var steps []Step
	made := 0
	for _, d := range docs {
		steps = append(steps, Step{
			Created: someTime(d.Created), CreatedBy: d.CreatedBy, Author: d.Author, Comment: d.Comment, Empty: d.EmptyLayer,
		})
		if !d.EmptyLayer {
			made++
		}
	}
	if made != len(layers) {
		return steps
	}
	next := 0
	for i := range steps {
		if !steps[i].Empty {
			steps[i].Layer = &layers[next]
			next++
		}
	}
	return steps
}

var errTooMany = fmt.Errorf("one of its lists has more than %d entries", mostListed)

// listed reads a list of at most mostListed entries. None, or null, is an empty one.
func listed[T any](raw json.RawMessage) ([]T, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, errors.New("something else where a list should be")
	}
	var all []T
	for dec.More() {
		if len(all) == mostListed {
			return nil, errTooMany
		}
		var x T
		if err := dec.Decode(&x); err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}

// someTime reads a time for people. What is none is the zero one: builders write all sorts of
// things there, and a page has more to show than that.
func someTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
