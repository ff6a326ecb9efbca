package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// manifests adds the images of YAML documents or of JSON, which is YAML but for its tabs.
func (l *listing) manifests(text []byte) error {
	if start := bytes.TrimSpace(text); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		text = bytes.ReplaceAll(text, []byte("\t"), []byte(" ")) // there are none within strings
	}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("this is no list of images, one on a line, and no YAML either: %w", err)
		}
		for _, root := range doc.Content {
			if err := l.document(root); err != nil {
				return err
			}
		}
	}
}

// document adds the images of one document: a manifest, or a list of names.
func (l *listing) document(root *yaml.Node) error {
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil // a chart's empty template
	case root.Kind == yaml.ScalarNode:
		return errNoManifest(root.Line, root.Value)
	case root.Kind == yaml.SequenceNode:
		for _, item := range root.Content {
			if item.Kind == yaml.ScalarNode {
				l.add(item.Value, item.Line)
				continue
			}
			l.walk(item, "", map[*yaml.Node]bool{})
		}
		return nil
	}
	l.walk(root, "", map[*yaml.Node]bool{})
	return nil
}

// walk adds the images of a node that stands under a key. What is an image:
//
//   - "image: NAME", wherever it stands, in pods, in their templates and in custom resources;
//   - "image: {registry, repository, tag, digest}", as many custom resources have it, if it has a tag
//     or a digest;
//   - "image: {reference: NAME}", which is a volume of a pod;
//   - the value of a variable RELATED_IMAGE_…, by which operators are told what they will run.
//
// What ConfigMaps and Secrets hold is data, and "image" of a volume rbd is none of a container.
// Where it may be something else, only what can be the name of an image is one.
func (l *listing) walk(n *yaml.Node, under string, seen map[*yaml.Node]bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || seen[n] {
		return // an anchor is walked once, however often it is meant
	}
	seen[n] = true
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			l.walk(item, under, seen)
		}
	case yaml.MappingNode:
		if kind := entry(n, "kind"); under == "" && (kind == "ConfigMap" || kind == "Secret") {
			return
		}
		if strings.HasPrefix(entry(n, "name"), "RELATED_IMAGE_") {
			l.maybe(entry(n, "value"), n.Line)
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, n.Content[i+1]
			if key == "image" && under != "rbd" {
				l.image(value, isContainers(under))
			}
			if under == "" && key == "items" {
				key = "" // of a List
			}
			l.walk(value, key, seen)
		}
	}
}

// isContainers reports whether what stands under a key are containers, of which an image is one.
func isContainers(key string) bool {
	return key == "containers" || key == "initContainers" || key == "ephemeralContainers"
}

// image adds the value of a key "image". surely says that it can be nothing else.
func (l *listing) image(n *yaml.Node, surely bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value != "":
		if surely {
			l.add(n.Value, n.Line)
			return
		}
		l.maybe(n.Value, n.Line)
	case n.Kind == yaml.MappingNode:
		name, tag, digest := entry(n, "repository"), entry(n, "tag"), entry(n, "digest")
		if host := entry(n, "registry"); host != "" && name != "" {
			name = host + "/" + name
		}
		if tag != "" {
			name += ":" + tag
		}
		if digest != "" {
			name += "@" + digest
		}
		if entry(n, "repository") != "" && (tag != "" || digest != "") {
			l.maybe(name, n.Line)
		}
		l.maybe(entry(n, "reference"), n.Line)
	}
}

// maybe adds the image of a name, if it can be one.
func (l *listing) maybe(name string, line int) {
	if _, err := ParseImage(name); name != "" && err == nil {
		l.add(name, line)
	}
}

// entry is the text under a key of a mapping, "" if there is none.
func entry(n *yaml.Node, key string) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i+1].Kind == yaml.ScalarNode && n.Content[i+1].Tag != "!!null" {
			return n.Content[i+1].Value
		}
	}
	return ""
}
