package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// lint runs the command beside a configuration in a directory of its own.
func lint(t *testing.T, in string, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr strings.Builder
	before := stdin
	stdin = strings.NewReader(in)
	defer func() { stdin = before }()
	status = run(append([]string{"lint"}, args...), streams{&stdout, &stderr})
	return status, stdout.String(), stderr.String()
}

func TestLint(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "roadstead.yaml", "url: https://cache.example.com\nprojects:\n  production:\n    hosted: true\n")
	write(t, "good.yaml", "mirrors:\n  docker.io:\n    endpoint: [ \"https://cache.example.com\" ]\n    rewrite:\n      \"(^.+$)\": \"docker.io/$1\"\n")
	bad := "mirrors:\n  docker.io:\n    endpoint: [ \"https://cache.example.com\" ]\n    rewrite:\n      \"(^.+$)\": \"hub/$1\"\n"
	write(t, "note.yaml", "mirrors:\n  docker.io:\n    endpoint: [ \"https://other.example.com/v2/hub\" ]\n")

	if status, out, errs := lint(t, "", "good.yaml", "note.yaml"); status != 0 || errs != "" || !strings.HasPrefix(out, "note.yaml:3: note: endpoint ") || strings.Count(out, "\n") != 1 {
		t.Errorf("good files: %d, %q, %q", status, out, errs)
	}
	status, out, errs := lint(t, bad, "-")
	if want := "-:5: the rule \"(^.+$)\": \"hub/$1\" makes \"hub/library/busybox\" of \"library/busybox\", and \"hub\" is no project here "; status != 1 || !strings.HasPrefix(out, want) ||
		!strings.HasSuffix(out, "; write \"(^.+$)\": \"docker.io/$1\"\n") || errs != "roadstead: 1 of 1 findings break pulls\n" {
		t.Errorf("a project that is not here: %d, %q, %q", status, out, errs)
	}
	if status, out, _ := lint(t, bad, "--no-projects", "-"); status != 0 || out != "" {
		t.Errorf("without projects: %d, %q", status, out)
	}
	if status, out, _ := lint(t, strings.ReplaceAll(bad, "cache.example.com", "lb.example.com"), "-"); status != 0 || out != "" {
		t.Errorf("at another host: %d, %q", status, out)
	}
	if status, out, _ := lint(t, strings.ReplaceAll(bad, "cache.example.com", "lb.example.com"), "--server=lb.example.com", "-"); status != 1 || !strings.Contains(out, "is no project here") {
		t.Errorf("at a host that is said to be this: %d, %q", status, out)
	}
	if status, out, _ := lint(t, "a: [\n", "-"); status != 1 || !strings.Contains(out, "this is no YAML") {
		t.Errorf("no YAML: %d, %q", status, out)
	}
	status, out, _ = lint(t, bad, "--json", "-")
	var all []fileFinding
	if err := json.Unmarshal([]byte(out), &all); err != nil || status != 1 || len(all) != 1 || all[0].Line != 5 || all[0].Rule != "project" || !all[0].Breaks {
		t.Errorf("JSON: %d, %v, %s", status, err, out)
	}
	if status, _, _ := lint(t, ""); status != exitUsage {
		t.Errorf("without a file the status is %d, want %d", status, exitUsage)
	}
}

// Without a configuration nobody knows what the projects should be.
func TestLintWithoutAConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	file := "mirrors:\n  docker.io:\n    endpoint: [ \"https://cache.example.com\" ]\n    rewrite:\n      \"(^.+$)\": \"hub/$1\"\n"
	if status, out, errs := lint(t, file, "-"); status != 0 || out != "" || errs != "" {
		t.Errorf("%d, %q, %q", status, out, errs)
	}
}

// What the README has people write is what lint has nothing against.
func TestTheReadmesRegistriesPassLint(t *testing.T) {
	_, section, _ := strings.Cut(readme(t), "## RKE2 and K3s")
	section, _, _ = strings.Cut(section, "\n## ")
	t.Chdir(t.TempDir())
	write(t, "roadstead.yaml", "url: https://mirror.example.com\n")
	blocks := strings.Split(section, "```yaml\n")[1:]
	if len(blocks) < 2 {
		t.Fatalf("there are %d files in the section", len(blocks))
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if status, out, errs := lint(t, text, "-"); status != 0 || out != "" || errs != "" {
			t.Errorf("%s%d, %s%s", text, status, out, errs)
		}
	}
}
