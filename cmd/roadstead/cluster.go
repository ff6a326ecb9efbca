package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"roadstead/registry"
	"roadstead/registry/peer"
)

// Cluster is how this node and others that have the same catalog and the same bucket find each
// other. Without an address to listen on this is the only one.
type Cluster struct {
	Listen  string // where other nodes ask, and nobody else
	Address string // the URL by which they reach it; with https they speak TLS
	Secret  Secret // what only nodes know
	Name    string // "": made up from the host's, and kept
}

var clusterFields = []field[Cluster]{
	{"listen", func(v value, c *Cluster) { v.setAddress(&c.Listen) }},
	{"address", func(v value, c *Cluster) { v.setOwnURL(&c.Address) }},
	{"secret", func(v value, c *Cluster) { v.setSecret(&c.Secret) }},
	{"secret_file", func(v value, c *Cluster) { v.setSecretFile(&c.Secret) }},
	{"name", func(v value, c *Cluster) {
		text, ok := v.text()
		if ok && !nodeName.MatchString(text) {
			v.fault(fmt.Sprintf("%q is not the name of a node", registry.Clip(text)), "write up to 128 letters, digits, dots and dashes, such as node-1")
			return
		}
		c.Name = text
	}},
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// checkCluster looks at what parts of the configuration say of the cluster. root is all of it.
func (f *file) checkCluster(root value) {
	here := root.at("cluster")
	if here == 0 || root.doc.faulty["/cluster"] {
		return
	}
	v := value{doc: root.doc, node: root.node, path: "/cluster"}
	c := &f.Cluster
	fault := func(key, what, instead string) {
		line := v.at(key)
		if line == 0 {
			line = here
		}
		v.doc.fault(line, strings.TrimSuffix("cluster."+key, ".")+": "+what, instead)
	}
	lacks := func(is, key string) bool { return is == "" && v.doc.lines["/storage/"+key] == 0 } // or it has a fault of its own
	if lacks(f.Storage.Catalog, "catalog") || lacks(f.Storage.S3.Bucket, "s3") {
		fault("", "nodes have their content in one bucket and their catalog in one PostgreSQL", "write storage.s3 and storage.catalog, the same on all nodes, or remove cluster")
		return
	}
	switch {
	case v.doc.faulty["/cluster/listen"]:
	case c.Listen == "":
		fault("listen", "there is no address at which other nodes could ask", `write one that clients do not reach, such as "10.0.0.7:5002"`)
	case sameAddress(c.Listen, f.Listen) || sameAddress(c.Listen, f.Admin):
		fault("listen", c.Listen+" is taken by listen or admin", "write another port")
	case c.Address == "" && !v.doc.faulty["/cluster/address"]:
		host, port, _ := net.SplitHostPort(c.Listen)
		if everywhere(host) || port == "0" {
			fault("address", "from listen alone other nodes cannot know where this one is", `write the URL by which they reach it, such as "https://10.0.0.7:5002"`)
			break
		}
		c.Address = (&url.URL{Scheme: "https", Host: c.Listen}).String()
	}
	switch {
	case v.at("secret") > 0 && v.at("secret_file") > 0:
		fault("secret", "there is secret_file as well", "remove one of them")
	case v.doc.faulty["/cluster/secret"] || v.doc.faulty["/cluster/secret_file"]:
	case len(c.Secret) < peer.LeastSecret:
		key := "secret_file"
		if v.at("secret") > 0 {
			key = "secret"
		}
		fault(key, fmt.Sprintf("the nodes need a secret of %d bytes or more in common", peer.LeastSecret), `make one with "openssl rand -hex 32" and give it to all nodes`)
	}
}

// nodeFile keeps what tells this node from others on hosts of the same name, which containers have
// more often than not.
const nodeFile = "node"

// self is what the other nodes know this one by: the same at each start with the same directory, on a
// host of the same name.
func (c Cluster) self(dir string) (peer.Node, error) {
	if c.Name != "" {
		return peer.Node{ID: c.Name, URL: c.Address}, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return peer.Node{}, fmt.Errorf("the name of this host: %w; write cluster.name", err)
	}
	path := filepath.Join(dir, nodeFile)
	kept, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Should it be lost again, or written in part, the node is another one: nothing is lost.
		kept = []byte(strings.ToLower(rand.Text()[:8]))
		err = os.WriteFile(path, append(bytes.Clone(kept), '\n'), 0o644)
	}
	if err != nil {
		return peer.Node{}, fmt.Errorf("keep the name of this node: %w", err)
	}
	name := strings.Trim(noName.ReplaceAllString(host, "-"), "-._") + "-" + string(bytes.TrimSpace(kept))
	if name = strings.TrimPrefix(name, "-"); !nodeName.MatchString(name) {
		return peer.Node{}, fmt.Errorf("%s holds no part of a name: remove it, or write cluster.name", path)
	}
	return peer.Node{ID: name, URL: c.Address}, nil
}

// noName is what no name of a node has in it.
var noName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// exportCluster writes a cluster without its secret.
func exportCluster(m *mapping, c Cluster) {
	if c.Listen == "" {
		return
	}
	m.add("listen", textNode(c.Listen), "The secret is left out: name a file with it as secret_file.")
	m.text("address", c.Address)
	m.text("name", c.Name)
}
