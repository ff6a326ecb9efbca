package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry/peer"
)

// sharedStorage is that of a node in a cluster.
const sharedStorage = `storage: { directory: data, s3: { bucket: images }, catalog: "postgres://roadstead@db.example:5432/roadstead" }
`

const sixteen = "0123456789abcdef"

func TestAClusterIsConfigured(t *testing.T) {
	for text, want := range map[string]Cluster{
		`{ listen: "10.0.0.7:5002", secret: ` + sixteen + ` }`:                                                   {Listen: "10.0.0.7:5002", Address: "https://10.0.0.7:5002", Secret: sixteen},
		`{ listen: "[fd00::7]:5002", secret: ` + sixteen + `, name: node-1.example }`:                            {Listen: "[fd00::7]:5002", Address: "https://[fd00::7]:5002", Secret: sixteen, Name: "node-1.example"},
		`{ listen: ":5002", address: "https://node-1.example:443/", secret: "${SECRET:-` + sixteen + `}" }`:      {Listen: ":5002", Address: "https://node-1.example:443", Secret: sixteen},
		`{ listen: "0.0.0.0:5002", address: "http://node-1:5002", secret_file: ` + secretFile(t, sixteen) + ` }`: {Listen: "0.0.0.0:5002", Address: "http://node-1:5002", Secret: sixteen},
	} {
		c := good(t, sharedStorage+"cluster: "+text)
		if c.Cluster != want {
			t.Errorf("%s: %+v, want %+v", text, c.Cluster, want)
		}
		var out, said bytes.Buffer
		if err := summary(&out, c); err != nil || !strings.Contains(out.String(), "other nodes reach this one at "+want.Address) {
			t.Errorf("%v\n%s", err, &out)
		}
		if err := export(streams{out: &out, err: &said}, c); err != nil || !strings.Contains(out.String(), "address: "+want.Address) {
			t.Errorf("%v\n%s", err, &out)
		}
		if strings.Contains(out.String()+said.String(), sixteen) {
			t.Errorf("the secret is shown:\n%s", &out)
		}
	}
}

func secretFile(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAClusterIsMisconfigured(t *testing.T) {
	const rest = `, secret: ` + sixteen + ` }`
	for text, says := range map[string]string{
		`cluster: { listen: "10.0.0.7:5002"` + rest:                                                         "one bucket and their catalog in one PostgreSQL",
		`storage: { s3: { bucket: b } }` + "\n" + `cluster: { listen: "10.0.0.7:5002"` + rest:               "one bucket and their catalog in one PostgreSQL",
		`storage: { catalog: "postgres://r@db/r" }` + "\n" + `cluster: { listen: "10.0.0.7:5002"` + rest:    "one bucket and their catalog in one PostgreSQL",
		sharedStorage + `cluster: { address: "http://10.0.0.7:5002"` + rest:                                 "cluster.listen: there is no address",
		sharedStorage + `cluster: { listen: ":5002"` + rest:                                                 "cluster.address: from listen alone",
		sharedStorage + `cluster: { listen: "10.0.0.7:0"` + rest:                                            "cluster.address: from listen alone",
		sharedStorage + `cluster: { listen: "10.0.0.7:5000"` + rest:                                         "taken by listen",
		sharedStorage + `cluster: { listen: "10.0.0.7" ` + rest:                                             "add a port",
		sharedStorage + `cluster: { listen: "10.0.0.7:5002", address: "10.0.0.7:5002"` + rest:               "not the URL of a server",
		sharedStorage + `cluster: { listen: "10.0.0.7:5002", address: "http://10.0.0.7:5002/nodes"` + rest:  "has a path",
		sharedStorage + `cluster: { listen: "10.0.0.7:5002" }`:                                              "cluster.secret_file: the nodes need a secret",
		sharedStorage + `cluster: { listen: "10.0.0.7:5002", secret: short }`:                               "cluster.secret: the nodes need a secret",
		sharedStorage + `cluster: { listen: "10.0.0.7:5002", secret_file: ` + secretFile(t, sixteen) + rest: "there is secret_file as well",
		sharedStorage + `cluster: { listen: "10.0.0.7:5002", name: "a;b"` + rest:                            "not the name of a node",
		sharedStorage + `cluster: { listen: "10.0.0.7:5002", nodes: 3` + rest:                               `"nodes" is not a key`,
	} {
		_, faults := parse(t, text)
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), says) {
			t.Errorf("%s: %v, want that it says %q", text, faults, says)
		}
		for _, f := range faults {
			if strings.Contains(f.Error(), sixteen) {
				t.Errorf("the secret is shown: %v", f)
			}
		}
	}
	if c := good(t, sharedStorage); c.Cluster != (Cluster{}) {
		t.Errorf("there is a cluster without a configuration: %+v", c.Cluster)
	}
}

// A node has the same name at each start, and another one than its neighbour on a host of that name.
func TestTheNameOfANode(t *testing.T) {
	c := Cluster{Address: "http://10.0.0.7:5002"}
	dir := t.TempDir()
	var names []string
	for _, dir := range []string{dir, dir, t.TempDir()} {
		n, err := c.self(dir)
		if err != nil || n.URL != c.Address || !nodeName.MatchString(n.ID) {
			t.Fatalf("%+v, %v", n, err)
		}
		names = append(names, n.ID)
	}
	if names[0] != names[1] || names[0] == names[2] {
		t.Errorf("the names are %q", names)
	}
	if err := os.WriteFile(filepath.Join(dir, nodeFile), []byte("no name\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := c.self(dir); err == nil || !strings.Contains(err.Error(), "cluster.name") {
		t.Errorf("%+v, %v", n, err)
	}
	c.Name = "node-1"
	if n, err := c.self(dir); err != nil || n != (peer.Node{ID: "node-1", URL: c.Address}) {
		t.Errorf("%+v, %v", n, err)
	}
}
