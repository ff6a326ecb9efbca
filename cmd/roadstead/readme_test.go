package main

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"

	"roadstead/registry"
	"roadstead/registry/registrytest"
	"roadstead/rewrite"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each key that the parser knows is in a table of the README, and nothing else is.
func TestTheReadmeHasEveryKey(t *testing.T) {
	want := map[string]bool{}
	for _, f := range fileFields {
		want[f.key] = true
	}
	nested := func(section string, keys []string) {
		delete(want, section)
		for _, key := range keys {
			want[section+"."+key] = true
		}
	}
	nested("tls", keysOf(tlsFields))
	nested("storage", keysOf(storageFields))
	delete(want, "storage.s3") // which is nothing by itself
	nested("storage.s3", keysOf(s3Fields))
	delete(want, "storage.hot")
	nested("storage.hot", keysOf(hotFields))
	nested("cluster", keysOf(clusterFields))
	nested("log", keysOf(logFields))
	nested("uploads", keysOf(uploadsFields))
	nested("collect", keysOf(collectFields))
	nested("audit", keysOf(auditFields))
	nested("warm", keysOf(planFields))
	nested("oidc", keysOf(oidcFields))
	for _, key := range keysOf(projectFields) {
		want[key] = true
	}
	nested("retain", keysOf(retainFields))
	nested("verify", keysOf(verifyFields))
	delete(want, "verify.identities") // which is there to be refused

	_, section, _ := strings.Cut(readme(t), "## Configuration")
	section, _, _ = strings.Cut(section, "\n## ")
	got := map[string]bool{}
	for line := range strings.Lines(section) {
		first, isRow := strings.CutPrefix(line, "| ")
		if !isRow {
			continue
		}
		first, _, _ = strings.Cut(first, " |")
		for _, match := range regexp.MustCompile("`([a-z0-9_.]+)`").FindAllStringSubmatch(first, -1) {
			got[match[1]] = true
		}
	}
	for key := range want {
		if !got[key] {
			t.Errorf("%s is not in the README", key)
		}
	}
	for key := range got {
		if !want[key] {
			t.Errorf("the README has %s, which is no key", key)
		}
	}
}

func keysOf[T any](fields []field[T]) []string {
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	return keys
}

// Each complete file in the README passes the checker.
func TestTheReadmesConfigurationIsGood(t *testing.T) {
	_, section, _ := strings.Cut(readme(t), "## OIDC")
	t.Chdir(t.TempDir())
	write(t, "cosign.pub", cosignKey)
	write(t, "ca.pem", string(registrytest.NewAuthority(t).PEM()))
	write(t, "password", "a secret as long as that of nodes has to be\n")
	checked := 0
	for _, match := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(section, -1) {
		text := regexp.MustCompile(`/run/secrets/[a-z-]+`).ReplaceAllString(match[1], "password")
		_, faults := parse(t, text)
		for _, f := range faults {
			t.Error(f)
		}
		checked++
	}
	if checked != 5 {
		t.Errorf("%d configurations found, want that of OIDC, that of signatures, that of the keys, that of a bucket and that of several nodes", checked)
	}
}

// What a node asks for with the README's registries.yaml is what its author meant, by the
// rewrites of containerd and of RKE2's bootstrap, or by ns.
func TestTheReadmesRegistriesLeadToTheirProjects(t *testing.T) {
	table, err := newTable(good(t, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(readme(t), "## RKE2 and K3s")
	section, _, _ = strings.Cut(section, "\n## ")
	mirrors := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(section, -1) {
		var registries struct {
			Mirrors map[string]struct {
				Endpoint []string
				Rewrite  map[string]string
			}
		}
		if err := yaml.Unmarshal([]byte(block[1]), &registries); err != nil {
			t.Fatal(err)
		}
		for host, mirror := range registries.Mirrors {
			mirrors++
			if host == "*" {
				host = "ghcr.io"
			}
			var rules []rewrite.Rule
			for pattern, replace := range mirror.Rewrite {
				rules = append(rules, rewrite.Rule{Pattern: pattern, Replace: replace})
			}
			root, err := url.Parse(mirror.Endpoint[0])
			if err != nil {
				t.Fatal(err)
			}
			asked, _ := rewrite.Containerd(rules, "team/app")
			names := []string{strings.TrimPrefix(asked, "/v2/"), rewrite.Wharfie(rules, host, "team/app")}
			want := registry.Repo{Project: host, Name: "team/app"}
			for _, name := range names {
				name = strings.TrimPrefix(path.Join(root.Path, name), "/")
				if got, err := table.Route("mirror.example.com", host, strings.TrimPrefix(name, "v2/")); err != nil || got != want {
					t.Errorf("mirror %s: asked for %q, which is %v, %v", host, name, got, err)
				}
			}
		}
	}
	if mirrors != 11 {
		t.Errorf("%d mirrors found, want the 8 of the first file and 3 of the second", mirrors)
	}
}

func TestTheReadmeHasEveryMetric(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	p := serve(t, configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil))
	if status, body := p.get("/v2/up.example/app/manifests/v1"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, metrics := p.get("admin/metrics")
	text, exported := readme(t), map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^# TYPE (roadstead_\w+)`).FindAllStringSubmatch(metrics, -1) {
		exported[match[1]] = true
		if !strings.Contains(text, "`"+match[1]+"`") {
			t.Errorf("%s is not in the README", match[1])
		}
	}
	if len(exported) < 20 {
		t.Errorf("only %d metrics are exported:\n%s", len(exported), metrics)
	}
}

// Each command is in the table, and each of its own commands in its row.
func TestTheReadmeHasEveryCommand(t *testing.T) {
	text, found := readme(t), 0
	var look func(before string)
	look = func(before string) {
		help, _, _ := command(append(strings.Fields(before), "--help")...)
		_, list, _ := strings.Cut(help, "Commands:\n")
		for _, match := range regexp.MustCompile(`(?m)^  `+before+`([a-z]+) `).FindAllStringSubmatch(list, -1) {
			name := before + match[1]
			if below, _, _ := command(append(strings.Fields(name), "--help")...); strings.Contains(below, "Commands:\n") {
				look(name + " ")
				continue
			}
			found++
			row := regexp.MustCompile("(?m)^[|] `roadstead " + before + `([a-z]+\\[|])*` + match[1] + "(\\\\[|]| |`)")
			if !row.MatchString(text) {
				t.Errorf("roadstead %s is not in the README", name)
			}
		}
	}
	look("")
	if found < 30 {
		t.Errorf("only %d commands were found", found)
	}
}

// What the README has people type about projects and accounts is understood.
func TestTheReadmesCommandsWork(t *testing.T) {
	config := configuration(t, map[string]map[string]any{"up.example": proxied(registrytest.New(t))}, nil)
	serve(t, config)
	_, section, _ := strings.Cut(readme(t), "## Hosted projects")
	section, _, _ = strings.Cut(section, "## OIDC")
	stdin = strings.NewReader("hunter2")
	defer func() { stdin = os.Stdin }()
	ran := 0
	for _, line := range regexp.MustCompile("(?m)(?:^|`)roadstead ([^`\n<>]*)").FindAllStringSubmatch(section, -1) {
		if strings.Contains(line[1], "NAME") {
			continue
		}
		worked(t, append(strings.Fields(strings.ReplaceAll(line[1], "'", "")), "--config", config)...)
		ran++
	}
	if ran < 8 {
		t.Errorf("only %d commands were found", ran)
	}
}

// Each command of ours in a block of the README, and of the operations guide, is one that there is, with flags
// that it has. What TestTheReadmesCommandsWork and TestTheGuide do not run is held to that.
func TestTheReadmesCommandsAreUnderstood(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join(moduleRoot(t), "deploy", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	parsed := 0
	for _, block := range regexp.MustCompile("(?sm)^```(?:sh|console)\n(.*?)^```").FindAllStringSubmatch(readme(t)+"\n"+string(guide), -1) {
		text := strings.ReplaceAll(block[1], "\\\n", " ")
		for _, found := range regexp.MustCompile(`(?m)(?:^|[|;&] *|\$ )roadstead ([^#\n|>;&]*)`).FindAllStringSubmatch(text, -1) {
			args := strings.Fields(regexp.MustCompile(` 2$`).ReplaceAllString(strings.NewReplacer("'", "", `"`, "").Replace(found[1]), ""))
			parser, err := kong.New(&commands{}, kong.Exit(func(int) {}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(args); err != nil {
				t.Errorf("roadstead %s: %v", strings.Join(args, " "), err)
			}
			parsed++
		}
	}
	if parsed < 35 {
		t.Errorf("only %d commands were found", parsed)
	}
}

// Each link of a document leads to a file of ours and a heading in it, and each file of ours in a block of
// commands is there.
func TestDocumentsLeadToWhatIsThere(t *testing.T) {
	root := moduleRoot(t)
	read := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	links, files := 0, 0
	for _, document := range []string{"README.md", "deploy/README.md", "deploy/helm/roadstead/README.md", "deploy/rke2/README.md"} {
		file := filepath.Join(root, document)
		text := read(file)
		for _, link := range regexp.MustCompile(`\]\(([^) ]+)\)`).FindAllStringSubmatch(text, -1) {
			to, heading, _ := strings.Cut(link[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			links++
			target := file
			if to != "" {
				target = filepath.Join(filepath.Dir(file), filepath.FromSlash(to))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s leads to %s: %v", document, link[1], err)
				continue
			}
			if heading != "" && !headings(read(target))[heading] {
				t.Errorf("%s leads to %s, which has no such heading", document, link[1])
			}
		}
		for _, block := range regexp.MustCompile("(?sm)^```(?:sh|console)\n(.*?)^```").FindAllStringSubmatch(text, -1) {
			for _, word := range regexp.MustCompile(`(?m)(?:^|[ =])((?:deploy|cmd)/[A-Za-z0-9./_-]+)`).FindAllStringSubmatch(block[1], -1) {
				files++
				if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(word[1]))); err != nil {
					t.Errorf("%s has a command with %s: %v", document, word[1], err)
				}
			}
			if strings.Contains(block[1], "cd deploy") {
				t.Errorf("%s: what is in that folder is not looked for here:\n%s", document, block[1])
			}
		}
	}
	if links < 50 || files < 5 {
		t.Errorf("only %d links and %d files were found", links, files)
	}
}

// headings are those of a document, as links name them: in lower case, with hyphens for spaces and without
// other signs.
func headings(text string) map[string]bool {
	all := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^#+ +(.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(line[1]), "")
		all[strings.ReplaceAll(name, " ", "-")] = true
	}
	return all
}
