package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// bucketHint says in the file how content in a bucket is taken over.
const bucketHint = `# Harbor's content is taken over where it lies. On a disk that is what harbor.yml calls data_volume, and "registry" in it:
#
#   storage: { directory: /data/registry }
#
# In a bucket, with what harbor.yml has below storage_service.s3 in brackets:
#
#   storage:
#     directory: /var/lib/roadstead
#     s3:
#       endpoint: https://s3.example.com      # (regionendpoint) without it: Amazon
#       region: us-east-1                     # (region)
#       bucket: harbor                        # (bucket)
#       prefix: registry                      # (rootdirectory) without the slash; without it: the root
#       access_key: harbor                    # (accesskey)
#       secret_key_file: secrets/bucket       # (secretkey)
`

// configuration is the file that says what a Harbor has. data is where content is, "" when nobody said. With
// filled, what is to be filled in is stood in for, line for line: it is for looking at, not for use.
func (t *takeover) configuration(data string, filled bool) ([]byte, error) {
	var b bytes.Buffer
	t.writeHead(&b)
	c, usual := t.config, defaults()
	m := newMapping()
	if c.URL != "" {
		m.add("url", textNode(c.URL), "How people reach this server: the OIDC provider sends them back there. Without the name of Harbor, change it here and at the provider.")
	}
	m.part("oidc", func(m *mapping) {
		if c.OIDC.Issuer == "" {
			return
		}
		exportOIDC(m, c.OIDC)
		if filled {
			m.text("client_secret", "filled in")
		} else {
			m.text("client_secret_file", filepath.Join(t.secrets, "oidc"))
		}
	})
	m.text("project_creation", c.Creators)
	m.part("storage", func(m *mapping) { m.text("directory", data) })
	m.part("collect", func(m *mapping) { m.duration("every", c.Collect.Every, usual.Collect.Every) })
	m.part("audit", func(m *mapping) { m.duration("keep", c.Audit.Keep, 0) })
	m.add("default_project", textNode(""), "Harbor has none. With docker.io, if that is below, this is a mirror for Docker's registry-mirrors too.")
	m.flag("builtin_projects", false, true)
	m.part("projects", func(m *mapping) {
		for _, p := range t.projects {
			below := newMapping()
			p.write(below, filled)
			m.add(p.Name, &below.node, p.comment())
		}
	})
	if data == "" {
		fmt.Fprintf(&b, "%s\n", bucketHint)
	}
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&m.node); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return b.Bytes(), enc.Close()
}

func (t *takeover) writeHead(w io.Writer) {
	fmt.Fprintf(w, "# What the Harbor at %s has%s, written by \"roadstead config import-harbor\".\n", t.from.base, either(t.from.info.Version != "", " ("+oneLine(t.from.info.Version)+")", ""))
	if len(t.fills) > 0 {
		fmt.Fprint(w, "#\n# Harbor does not give away what is to be filled in:\n")
		for _, f := range t.fills {
			fmt.Fprintf(w, "#   %s: %s\n", f.where, f.what)
		}
	}
	if all := append(t.gaps(), t.lost...); len(all) > 0 {
		fmt.Fprint(w, "#\n# What is not in this file:\n")
		for _, text := range all {
			fmt.Fprintf(w, "#   - %s\n", text)
		}
	}
	fmt.Fprint(w, "#\n# Harbor asks upstream for each pull of a tag. Here that is once a minute: write ttl: 0s below a proxy for each pull.\n\n")
}

// write writes a project.
func (p takenProject) write(m *mapping, filled bool) {
	if p.endpoint != "" {
		m.add("endpoints", &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{blankNode(p.endpoint)}}, "")
	}
	if filled && p.Remote.PasswordFile != "" {
		p.Remote.PasswordFile, p.Remote.PasswordSecret = "", p.Name
	}
	helper := p.Remote.CredentialHelper
	p.Remote.CredentialHelper = ""
	exportProject(m, p.Project)
	if p.username != "" {
		m.add("username", blankNode(p.username), "")
	}
	if helper != "" {
		m.add("credential_helper", textNode(either(filled, "", helper)), "")
	}
}

// blankNode is text with a variable in it.
func blankNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: s, Style: yaml.DoubleQuotedStyle}
}

// comment stands above a project.
func (p takenProject) comment() string {
	var lines []string
	switch {
	case p.Hosted:
	case p.registry.URL == "":
		lines = append(lines, fmt.Sprintf("A cache of Harbor's endpoint %d.", p.registry.ID))
	default:
		lines = append(lines, fmt.Sprintf("A cache of Harbor's endpoint %q (%s, %s).", oneLine(p.registry.Name), oneLine(p.registry.Type), shownURL(p.registry.URL)))
	}
	for _, text := range p.notes {
		lines = append(lines, "Not as at Harbor: "+text+".")
	}
	return strings.Join(lines, "\n")
}

// faults are what the program will refuse in the configuration when everything is filled in.
func (t *takeover) faults(path, data string) ([]Fault, error) {
	text, err := t.configuration(data, true)
	if err != nil {
		return nil, err
	}
	_, faults := parseConfig(path, text, func(name string) (string, bool) {
		if !t.blanks[name] {
			return "", false // passwords of this server can be in the environment too, and nobody has set them here
		}
		return "0", true
	})
	return faults, nil
}

// absent returns an error when a file is there that would be written over.
func absent(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already: name another file, or give --force", path)
	} else if !os.IsNotExist(err) {
		return err
	}
	return nil
}
