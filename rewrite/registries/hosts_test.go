package registries

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// hostsFile is a hosts.toml as containerd decodes it.
type hostsFile struct {
	Server       string
	Capabilities []string
	CA           []string
	Client       [][]string
	SkipVerify   bool `toml:"skip_verify"`
	Host         map[string]struct {
		Capabilities []string
		OverridePath bool `toml:"override_path"`
		CA           []string
		SkipVerify   bool `toml:"skip_verify"`
		Rewrite      map[string]string
	}
}

func decode(t testing.TB, f *File) map[string]hostsFile {
	t.Helper()
	all := map[string]hostsFile{}
	for _, h := range f.HostsTOML() {
		var into hostsFile
		if err := toml.Unmarshal([]byte(h.Text), &into); err != nil {
			t.Fatalf("%s: %v\n%s", h.Directory, err, h.Text)
		}
		all[h.Directory] = into
	}
	return all
}

func parse(t testing.TB, text string) *File {
	t.Helper()
	f, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestHostsTOML(t *testing.T) {
	f := parse(t, `
mirrors:
  docker.io:
    endpoint: [ cache.example.com, "https://cache.example.com/v2/docker.io", "http://h/docker.io/", docker.io ]
    rewrite: { "^library/(.*)": "docker.io/library/$1" }
  "*":
    endpoint: [ "https://cache.example.com/v2" ]
  localhost:5000:
    endpoint: [ "127.0.0.1:5001" ]
  empty.example.com:
  quay.io:
configs:
  cache.example.com:
    tls: { ca_file: /ca.pem, cert_file: /c, key_file: /k }
  quay.io:
    auth: { username: a, password: b }
  plain.example.com:
`)
	all := decode(t, f)
	hub := all["docker.io"]
	if hub.Server != "https://registry-1.docker.io/v2" || len(hub.Host) != 3 {
		t.Errorf("docker.io: %+v", hub)
	}
	for endpoint, override := range map[string]bool{"https://cache.example.com/v2": false, "https://cache.example.com/v2/docker.io": true, "http://h/docker.io/": true} {
		h, ok := hub.Host[endpoint]
		if !ok || h.OverridePath != override || h.Rewrite["^library/(.*)"] != "docker.io/library/$1" {
			t.Errorf("endpoint %s: %+v, %v", endpoint, h, ok)
		}
	}
	if ca := hub.Host["https://cache.example.com/v2"].CA; !slices.Equal(ca, []string{"/ca.pem"}) {
		t.Errorf("the CA is %q", ca)
	}
	if d := all["_default"]; d.Server != "" || len(d.Host) != 1 {
		t.Errorf("_default: %+v", d)
	}
	if l := all["localhost_5000_"]; l.Server != "http://localhost:5000/v2" || l.Host["http://127.0.0.1:5001/v2"].OverridePath {
		t.Errorf("localhost_5000_: %+v", l)
	}
	var got []string
	for _, h := range f.HostsTOML() {
		got = append(got, h.Directory)
	}
	if want := []string{"_default", "cache.example.com", "docker.io", "localhost_5000_", "quay.io"}; !slices.Equal(got, want) {
		t.Errorf("directories are %q, want %q", got, want)
	}
	f.NoDefault = true
	if server := decode(t, f)["docker.io"].Server; server != "" {
		t.Errorf("with the default endpoint disabled, server is %q", server)
	}
}

// What is said to be unreadable is what a TOML parser cannot read, and what is said to be read is what
// it reads.
func TestBasicStringsAreTOMLs(t *testing.T) {
	parts := []string{`\`, `"`, `.`, `(.*)`, `\\`, `\b`, `\n`, `\u0041`, `\u00`, `\U0001F600`, `\d`, "\t", "\x01", "é", "$1", `\"`, "a", "\x7f", `\ud800`, "'", "="}
	readable := 0
	for i := range 4000 {
		r := rand.New(rand.NewPCG(7, uint64(i)))
		var b strings.Builder
		for range 1 + r.IntN(4) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		raw := b.String()
		got, err := basic(raw)
		var into map[string]string
		theirs := toml.Unmarshal([]byte(fmt.Sprintf("\"k\" = \"%s\"\n", raw)), &into)
		if (err == nil) != (theirs == nil) || err == nil && into["k"] != got {
			t.Errorf("%q is %q, %v; TOML reads %q, %v", raw, got, err, into["k"], theirs)
		}
		if err == nil {
			readable++
		}
	}
	if readable < 400 || readable > 3600 {
		t.Errorf("%d of 4000 strings can be read, so one side is hardly tried", readable)
	}
}

// What lint says to write instead is readable in every hosts.toml that comes of the corpus.
func TestGoodFilesMakeReadableHosts(t *testing.T) {
	for _, name := range []string{"good", "anchors", "ambiguous", "results", "patterns", "endpoints", "hosts", "configs"} {
		text, err := os.ReadFile("testdata/lint/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if len(decode(t, parse(t, string(text)))) == 0 {
			t.Errorf("nothing comes of %s.yaml", name)
		}
	}
}
