package main

import (
	"bufio"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rooms are the packages there are and which of ours each may import. A door that is not here
// is a wall: whoever needs one adds it, and says in the commit why.
var rooms = map[string][]string{
	"registry":              {},
	"registry/server":       {"registry"},
	"registry/signature":    {"registry"}, // pure: whoever verifies brings the bytes
	"registry/upstream":     {"registry"},
	"registry/registrytest": {"registry"},
	"storage/postgrestest":  {"storage/processtest"},
	"storage/processtest":   {},
	"storage/catalogtest":   {"storage/catalog"},
	"registry/accesstest":   {"registry/access"},
	// Other nodes are registries in front of an upstream, as a cache is, and are asked over HTTP.
	"registry/peer":    {"registry"},
	"registry/hosted":  {"registry", "storage", "storage/accord", "storage/catalog"},
	"registry/access":  {"registry", "storage/catalog"},
	"registry/estate":  {"registry", "registry/access", "registry/hosted", "cache", "rewrite/clients", "storage/catalog", "rewrite", "rewrite/registries", "registry/signature"},
	"registry/archive": {"registry"},
	// The REST API is a face of the estate, which decides: what is behind that it need not see.
	"registry/api":     {"registry", "registry/access", "registry/estate", "rewrite/clients", "storage/catalog"},
	"registry/console": {"registry", "registry/access", "registry/estate", "registry/hosted", "registry/server", "registry/upstream", "cache", "rewrite/clients", "storage/catalog"},
	"registry/admin":   {"registry", "registry/server", "registry/upstream", "registry/peer", "registry/hosted", "registry/access", "cache", "storage", "storage/catalog"},
	"cache":            {"registry", "registry/signature", "storage", "storage/accord", "storage/catalog"},
	"rewrite":          {"registry"},
	"rewrite/clients":  {"registry", "rewrite"},
	"storage":          {"storage/witness"},
	"storage/s3":       {},
	"storage/s3test":   {"storage/processtest"},
	"storage/catalog":  {"registry", "storage/witness"},
	"storage/witness":  {},
	// What a node makes of its registries.yaml; rewrite knows what a single rule does.
	"rewrite/registries": {"registry", "rewrite"},
	// What the layout and the catalog say is kept the same for whoever removes things from both.
	"storage/accord": {"registry", "storage", "storage/catalog"},
	"cmd/roadstead":  {"registry", "registry/server", "registry/upstream", "registry/peer", "registry/hosted", "registry/access", "registry/estate", "registry/api", "registry/admin", "registry/console", "cache", "rewrite", "rewrite/clients", "storage", "storage/s3", "storage/accord", "storage/catalog", "rewrite/registries", "registry/archive", "registry/signature"},
}

// testDoors are those that only a room's tests may go through.
var testDoors = map[string][]string{
	"rewrite/clients":  {"rewrite/registries"},            // what is written there is linted
	"registry/console": {"rewrite", "registry/signature"}, // whose tests place images, and sign some
	"registry/estate":  {"storage"},                       // its tests push to a real hosted registry
	"storage":          {"storage/s3"},                    // a bucket passes the suite of every store
	// Two nodes over one bucket.
	"registry/hosted": {"storage/s3"},
	"cache":           {"storage/s3"},
}

// forTests are the rooms that only tests may enter, any test.
var forTests = []string{"registry/registrytest", "storage/s3test", "storage/postgrestest", "storage/processtest", "storage/catalogtest", "registry/accesstest"}

// words are packages of the standard library that a room must not know, because knowing them
// would be another room's work: storage never says HTTP, the cache never says request,
// rewrite does no I/O, and SQL lives in the catalog. Tests are free.
var words = map[string][]string{
	"net/http":     {"registry/server", "registry/upstream", "registry/peer", "registry/registrytest", "registry/access", "registry/api", "registry/admin", "registry/console", "storage/s3", "storage/s3test", "cmd/roadstead"},
	"net":          {"registry/server", "registry/upstream", "registry/peer", "registry/registrytest", "registry/access", "registry/admin", "storage/s3", "storage/s3test", "cmd/roadstead"},
	"database/sql": {"storage/catalog"},
	"os":           {"cache", "registry/server", "registry/access", "registry/hosted", "registry/upstream", "registry/registrytest", "storage", "storage/catalog", "storage/s3", "storage/s3test", "storage/witness", "cmd/roadstead"},
	"os/exec":      {"registry/upstream", "storage/s3test", "storage/processtest", "cmd/roadstead"},
	"unsafe":       {},
}

// dependency is a module of somebody else.
type dependency struct {
	module string
	rooms  []string // which of ours may import it; none: only tests
	tests  bool     // tests of any room may import it too
	why    string   // how it earned its place
}

var dependencies = []dependency{
	{"github.com/alecthomas/kong", []string{"cmd/roadstead"}, false,
		"The subcommands and their flags are one struct, and their help is written from it."},
	{"github.com/bmatcuk/doublestar/v4", []string{"registry"}, false,
		"Allow, deny, pin and tag rules need '**' across path components, which path.Match does not have."},
	{"github.com/chromedp/cdproto", nil, true,
		"The messages of the DevTools protocol that chromedp has no words of its own for."},
	{"github.com/chromedp/chromedp", nil, true,
		"Tests look at pages and click on them in a real Chromium, without Node.js."},
	{"github.com/coreos/go-oidc/v3", []string{"registry/access"}, false,
		"Discovery, key rotation and the checks of ID tokens, as many have looked at them."},
	{"github.com/coreos/go-systemd/v22", []string{"cmd/roadstead"}, false,
		"What systemd hands over and is told, as it is spelt in environments and datagrams."},
	{"github.com/distribution/distribution/v3", []string{"storage", "storage/s3"}, true,
		"The storage drivers, and with them the layout, that make a directory readable by the stock registry and by Harbor."},
	{"github.com/distribution/reference", []string{"rewrite"}, true,
		"What the name of an image means is what Docker, containerd and the kubelet take it to mean: this is their code."},
	{"github.com/getkin/kin-openapi", nil, true,
		"Tests hold every request and answer of the REST API to its OpenAPI document, by what others read it with."},
	{"github.com/go-chi/chi/v5", []string{"registry/server", "registry/api", "registry/admin"}, false,
		"Its placeholders never match a slash, so /v2/* is one route and a pure function parses the path; names in the REST API come with theirs escaped."},
	{"github.com/go-jose/go-jose/v4", []string{"registry/access"}, true,
		"Tokens are signed and read by what many have looked at; OIDC rests on it too."},
	{"github.com/jackc/pgx/v5", []string{"storage/catalog"}, true,
		"The driver of PostgreSQL that is maintained: it prepares for each connection, and hears what other nodes change."},
	{"github.com/klauspost/compress", []string{"registry/archive"}, true,
		"RKE2's archives of images are compressed by zstd, which the standard library lacks."},
	{"github.com/minio/minio-go/v7", []string{"storage/s3"}, true,
		"The requests and signatures of S3, with conditional creation and without the AWS SDK that distribution's own driver rests on."},
	{"github.com/opencontainers/go-digest", []string{"registry", "registry/server", "registry/archive", "registry/hosted", "registry/upstream", "registry/peer", "registry/registrytest", "storage", "storage/catalog", "cache", "cmd/roadstead"}, true,
		"The digest type that everybody in this field passes around."},
	{"github.com/opencontainers/image-spec", []string{"registry", "registry/hosted", "registry/upstream", "registry/registrytest", "storage/catalog"}, true,
		"The descriptor and the media types, in the words of their specification."},
	{"github.com/pelletier/go-toml/v2", nil, true,
		"Tests read what nodes write as hosts.toml with the parser that containerd has."},
	{"github.com/pressly/goose/v3", []string{"storage/catalog"}, false,
		"Numbered migrations of the catalog, for SQLite and for PostgreSQL."},
	{"github.com/prometheus/client_golang", []string{"registry/admin"}, true,
		"The exposition format, escaping and content negotiation of metrics."},
	{"github.com/vbauerster/mpb/v8", []string{"cmd/roadstead"}, false,
		"Hours of scrubbing and adopting need a bar that says how many are left."},
	{"gopkg.in/yaml.v3", []string{"cmd/roadstead", "registry/api", "rewrite", "rewrite/registries"}, true,
		"The configuration is YAML, and its nodes know their lines; so is registries.yaml, and the document of the REST API, which is served as JSON too."},
	{"github.com/hashicorp/golang-lru/v2", []string{"cache", "registry/access"}, false,
		"The list behind the bounded memory of manifests, whose bound is in bytes, and of tokens and logins."},
	{"go.opentelemetry.io/otel", []string{"cmd/roadstead"}, true,
		"Traces in the words of OpenTelemetry, for whoever has a collector: the rooms know a small interface only."},
	{"go.opentelemetry.io/otel/exporters/otlp/otlptrace", []string{"cmd/roadstead"}, false,
		"It makes the messages of OTLP out of spans; how they are sent is ours, because its own way brings gRPC."},
	{"go.opentelemetry.io/otel/sdk", []string{"cmd/roadstead"}, false,
		"Sampling, batches, limits and resources, as the standard environment variables set them."},
	{"go.opentelemetry.io/otel/trace", []string{"cmd/roadstead"}, false,
		"The interfaces of spans, which are a module of their own."},
	{"go.opentelemetry.io/proto/otlp", []string{"cmd/roadstead"}, false,
		"The messages of OTLP, which tests read as a collector does."},
	{"google.golang.org/protobuf", []string{"cmd/roadstead"}, false,
		"Writes these messages; the Prometheus client has it in the program already."},
	{"golang.org/x/crypto", []string{"registry/access"}, false,
		"argon2id, which the standard library lacks."},
	{"golang.org/x/net", []string{"registry/upstream", "registry/registrytest"}, true,
		"The public suffix list decides which token service belongs to a registry's own domain."},
	{"golang.org/x/oauth2", []string{"registry/access"}, true,
		"The authorization code flow with PKCE, which go-oidc rests on."},
	{"golang.org/x/sys", []string{"storage", "storage/witness", "registry/server"}, true,
		"The directory lock, the free space of a filesystem, and socket options that package syscall lacks."},
	{"golang.org/x/term", []string{"cmd/roadstead"}, false,
		"A progress bar is for a terminal only; a log file gets plain lines."},
	{"google.golang.org/grpc", nil, true,
		"Tests speak to containerd's CRI plugin, which is how a kubelet pulls."},
	{"k8s.io/cri-api", nil, true,
		"The messages that a kubelet sends to it."},
	{"modernc.org/sqlite", []string{"storage/catalog"}, false,
		"An embedded database without cgo, so that the binary stays static."},
}

// top is what the top of the module holds, apart from dot-files.
var top = []string{
	"cmd", "registry", "cache", "rewrite", "storage", "deploy",
	"go.mod", "go.sum", "docker-compose.yml", "README.md", "LICENSE", "Makefile",
}

// source is a Go file and what it imports.
type source struct {
	room    string // folder below the module
	file    string
	test    bool
	imports []string
}

func TestEveryRoomKeepsToItsDoors(t *testing.T) {
	for _, s := range sources(t) {
		doors, known := rooms[s.room]
		if !known {
			t.Errorf("%s: %s is not a room; give it a row in rooms", s.file, s.room)
			continue
		}
		for _, imported := range s.imports {
			ours, yes := strings.CutPrefix(imported, "roadstead/")
			switch {
			case !yes:
			case ours == s.room: // an external test of its own room
			case strings.HasPrefix(ours, "cmd/"):
				t.Errorf("%s imports %s, which nobody may", s.file, ours)
			case slices.Contains(forTests, ours):
				if !s.test {
					t.Errorf("%s imports %s, which is for tests", s.file, ours)
				}
			case s.test && slices.Contains(testDoors[s.room], ours):
			case !slices.Contains(doors, ours):
				t.Errorf("%s imports %s; %s may import only %q of ours", s.file, ours, s.room, doors)
			}
		}
	}
}

func TestEveryRoomKeepsToItsWords(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if who, limited := words[imported]; limited && !s.test && !slices.Contains(who, s.room) {
				t.Errorf("%s imports %s, which is the word of %q only", s.file, imported, who)
			}
		}
	}
}

func TestEveryDependencyHasFewImportersAndAReason(t *testing.T) {
	required := requirements(t)
	used := map[string]bool{}
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if first, _, _ := strings.Cut(imported, "/"); first == "roadstead" || !strings.Contains(first, ".") {
				continue
			}
			module := longestPrefix(slices.Collect(maps.Keys(required)), imported)
			used[module] = true
			i := slices.IndexFunc(dependencies, func(d dependency) bool { return d.module == module })
			if i < 0 {
				t.Errorf("%s imports %s of module %q; give it a row with its reason in dependencies", s.file, imported, module)
				continue
			}
			if d := dependencies[i]; !slices.Contains(d.rooms, s.room) && !(s.test && d.tests) {
				t.Errorf("%s imports %s, which only %q may", s.file, imported, d.rooms)
			}
		}
	}
	for module, direct := range required {
		if direct && !slices.ContainsFunc(dependencies, func(d dependency) bool { return d.module == module }) {
			t.Errorf("go.mod requires %s, which has no row with its reason in dependencies", module)
		}
	}
	for _, d := range dependencies {
		if !used[d.module] {
			t.Errorf("nothing imports %s; remove its row from dependencies", d.module)
		}
		if !strings.HasSuffix(d.why, ".") || strings.Count(d.why, " ") < 3 {
			t.Errorf("%s has no reason: %q", d.module, d.why)
		}
	}
}

// What is read to its end is bounded where it is read, whoever has promised that it is small.
func TestD5_WhatIsReadWholeIsBounded(t *testing.T) {
	reads := 0
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		text, err := os.ReadFile(filepath.Join(moduleRoot(t), s.file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "io.ReadAll(") {
				continue
			}
			reads++
			if !strings.Contains(line, "io.ReadAll(io.LimitReader(") && !strings.Contains(line, "io.ReadAll(http.MaxBytesReader(") {
				t.Errorf("%s reads something whole, however long it is: %s", s.file, strings.TrimSpace(line))
			}
		}
	}
	if reads == 0 {
		t.Error("nothing is read whole anywhere, so this test has not understood the sources")
	}
}

func TestTheTopOfTheModule(t *testing.T) {
	entries, err := os.ReadDir(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	ignored := ignored(t)
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, ".") && !slices.Contains(top, name) && !slices.Contains(ignored, name) {
			t.Errorf("%s does not belong at the top of the module", name)
		}
	}
}

// sources reads the imports of every Go file, whatever its build constraints.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	root, outside := moduleRoot(t), ignored(t)
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != root && (strings.HasPrefix(name, ".") || name == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() && filepath.Dir(file) == root && slices.Contains(outside, name):
			return filepath.SkipDir
		case entry.IsDir() && file != root && isModule(file):
			return filepath.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		s := source{room: path.Dir(filepath.ToSlash(relative)), file: relative, test: strings.HasSuffix(name, "_test.go")}
		// A room for tests is a test, although its files do not say so.
		s.test = s.test || slices.Contains(forTests, s.room)
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d Go files found in %s", len(all), root)
	}
	return all
}

// isModule says whether a folder is a module of its own, which has its own doors.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// requirements reads go.mod: module → whether we import it ourselves.
func requirements(t *testing.T) map[string]bool {
	t.Helper()
	f, err := os.Open(filepath.Join(moduleRoot(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	required := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(strings.TrimPrefix(lines.Text(), "require "))
		if len(words) >= 2 && strings.Contains(words[0], ".") && strings.HasPrefix(words[1], "v") {
			required[words[0]] = !strings.HasSuffix(lines.Text(), "// indirect")
		}
	}
	if len(required) == 0 {
		t.Fatal("go.mod requires nothing, so this test has not understood it")
	}
	return required
}

// ignored are the names at the top that .gitignore names.
func ignored(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, atTop := strings.CutPrefix(strings.TrimSpace(line), "/"); atTop {
			names = append(names, strings.TrimSuffix(name, "/"))
		}
	}
	return names
}

func longestPrefix(prefixes []string, s string) string {
	longest := ""
	for _, p := range prefixes {
		if (s == p || strings.HasPrefix(s, p+"/")) && len(p) > len(longest) {
			longest = p
		}
	}
	return longest
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}
