package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roadstead/registry/registrytest"
)

var update = flag.Bool("update", false, "write what is made of a Harbor into the files that say what should be")

// harborFile reads a file of testdata.
func harborFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "harbor", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		write(t, filepath.Join("testdata", "harbor", name), got)
	}
	if want := harborFile(t, name); got != want {
		t.Errorf("%s should be\n%s\nand is\n%s", name, want, got)
	}
}

// importHarbor runs the command in a folder of its own, which is the working directory then.
func importHarbor(t *testing.T, h *registrytest.Harbor, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	t.Chdir(t.TempDir())
	write(t, "password", h.Password+"\n")
	return command(append([]string{"config", "import-harbor", "--url", h.URL(), "--password-file", "password"}, args...)...)
}

// What is made of a Harbor with endpoints of all types is reviewed, always the same, and for nobody else.
func TestImportHarbor(t *testing.T) {
	h := registrytest.NewHarbor(t, []byte(harborFile(t, "small.json")), nil)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := importHarbor(t, h, "-o", "roadstead.yaml", "--commands", "accounts.sh", "--data", "/data/registry")
	if status != 0 || stdout != "" {
		t.Fatalf("exit status %d\n%s%s", status, stdout, stderr)
	}
	config, script := contents(t, "roadstead.yaml"), contents(t, "accounts.sh")
	for _, name := range []string{"roadstead.yaml", "accounts.sh"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want 0600", name, info.Mode(), err)
		}
	}
	again, _, _ := importHarbor(t, h, "--data", "/data/registry")
	if again != config {
		t.Errorf("the second time it is\n%s", again)
	}
	for _, never := range []string{h.Password, "canary", "AKIA", "*****"} {
		if strings.Contains(config+script+stderr, never) {
			t.Errorf("%q is in what was written:\n%s%s%s", never, config, script, stderr)
		}
	}
	for _, r := range h.Requests() {
		if !strings.HasPrefix(r, "GET /api/v2.0/") {
			t.Errorf("Harbor was sent %s", r)
		}
	}
	t.Chdir(here)
	nowhere := func(s string) string { return strings.ReplaceAll(s, h.URL(), "https://harbor.example.com") }
	golden(t, "small.yaml", nowhere(config))
	golden(t, "small.sh", nowhere(script))
	golden(t, "small.txt", nowhere(stderr))
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The program takes the configuration as soon as what Harbor keeps to itself is filled in, and says until
// then what is missing.
func TestImportHarborIsAcceptedWhenFilledIn(t *testing.T) {
	h := registrytest.NewHarbor(t, []byte(harborFile(t, "small.json")), nil)
	if _, stderr, status := importHarbor(t, h, "-o", "roadstead.yaml"); status != 0 {
		t.Fatal(stderr)
	}
	_, stderr, status := command("check", "--config", "roadstead.yaml")
	for _, want := range []string{"password_file: the file cannot be read", "the environment variable HARBOR_ECR_EU_ACCOUNT is not set", "there is no program docker-credential-ecr-login in PATH"} {
		if status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%d: want %q in\n%s", status, want, stderr)
		}
	}
	text := contents(t, "roadstead.yaml")
	if err := os.Mkdir("secrets", 0o700); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if file, ok := strings.CutPrefix(line, "password_file: "); ok {
			write(t, file, "filled in\n")
		}
		if _, rest, ok := strings.Cut(line, "${"); ok && !strings.HasPrefix(line, "#") {
			variable, _, _ := strings.Cut(rest, "}")
			t.Setenv(variable, "123456789012")
		}
	}
	if err := os.WriteFile("docker-credential-ecr-login", []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	stdout, stderr, status := command("check", "--config", "roadstead.yaml")
	if status != 0 || !strings.Contains(stdout, "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com") || !strings.Contains(stdout, "at most 100 GiB, 1 immutable") {
		t.Errorf("%d\n%s%s", status, stdout, stderr)
	}
}

// A Harbor with several pages of everything.
func TestImportHarborReadsAllPages(t *testing.T) {
	const projects, users, robots = 250, 430, 101
	data := map[string]any{}
	if err := json.Unmarshal([]byte(harborFile(t, "small.json")), &data); err != nil {
		t.Fatal(err)
	}
	many := func(n int, one func(i int) any) (all []any) {
		for i := range n {
			all = append(all, one(i))
		}
		return all
	}
	data["/projects"] = many(projects, func(i int) any {
		return map[string]any{"project_id": i + 1, "name": fmt.Sprintf("team-%03d", i), "registry_id": i % 2 * 3, "metadata": map[string]string{"public": fmt.Sprint(i%3 == 0)}}
	})
	data["/quotas?reference=project"] = many(projects, func(i int) any {
		return map[string]any{"ref": map[string]any{"id": i + 1}, "hard": map[string]any{"storage": (i + 1) << 30}}
	})
	data["/users"] = many(users, func(i int) any { return map[string]any{"user_id": i + 1, "username": fmt.Sprintf("user%03d", i)} })
	data["/projects/1/members"] = many(users, func(i int) any {
		return map[string]any{"entity_name": fmt.Sprintf("user%03d", i), "entity_type": "u", "role_name": "developer"}
	})
	data["/robots?q=Level=project,ProjectID=1"] = many(robots, func(i int) any {
		return map[string]any{"name": fmt.Sprintf("robot$team-000+r%d", i), "level": "project", "expires_at": -1, "permissions": []any{map[string]any{
			"kind": "project", "namespace": "team-000", "access": []any{map[string]string{"resource": "repository", "action": "pull"}}}}}
	})
	text, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	h := registrytest.NewHarbor(t, text, nil)
	_, stderr, status := importHarbor(t, h, "-o", "roadstead.yaml", "--commands", "accounts.sh")
	if status != 0 {
		t.Fatal(stderr)
	}
	cfg, faults, err := loadConfig("roadstead.yaml")
	if err != nil || len(faults) > 0 || len(cfg.Projects) != projects {
		t.Fatalf("%d projects, %v, %v; want %d", len(cfg.Projects), faults, err, projects)
	}
	for i, p := range cfg.Projects {
		want := Project{Name: fmt.Sprintf("team-%03d", i), Public: i%3 == 0, Hosted: i%2 == 0}
		if want.Hosted {
			want.Quota = int64(i+1) << 30
		}
		if p.Name != want.Name || p.Public != want.Public || p.Hosted != want.Hosted || p.Quota != want.Quota || !p.Hosted && p.Remote.Endpoints[0] != "https://ghcr.io" {
			t.Errorf("project %d is %+v, want %+v", i, p, want)
		}
	}
	script := contents(t, "accounts.sh")
	for line, want := range map[string]int{"\nuser user": users, "\nmember team-000 user": users, "\nrobot 'robot$team-000+r": robots} {
		if n := strings.Count(script, line); n != want {
			t.Errorf("%d lines begin with %q, want %d", n, line, want)
		}
	}
}

// Without rights, or in an older Harbor, what is not shown is said, and the rest is there.
func TestImportHarborWithoutRights(t *testing.T) {
	h := registrytest.NewHarbor(t, []byte(strings.Replace(harborFile(t, "small.json"), `"/retentions/1"`, `"/projects/2/summary": {"repo_count": 1, "quota": {"hard": {"storage": 2147483648}, "used": {"storage": 1}}}, "/retentions/1"`, 1)), nil)
	h.Username = "robot$reader"
	var denied []registrytest.HarborFault
	for _, path := range []string{"/registries", "/quotas", "/configurations", "/system/", "/projects/3/members"} {
		denied = append(denied, registrytest.Refused(path, 403))
	}
	denied = append(denied, registrytest.Refused("/users/current", 412), registrytest.Refused("/replication", 404))
	h.Fail(func(w http.ResponseWriter, r *http.Request) bool {
		return slices.ContainsFunc(denied, func(f registrytest.HarborFault) bool { return f(w, r) })
	})
	stdout, stderr, status := importHarbor(t, h, "--user", "robot$reader")
	if status != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{
		"read as robot$reader, who is no administrator",
		"endpoints of registries: Harbor does not show it to robot$reader (403)", "replications: this Harbor has no such thing (404)",
		"members of staging: Harbor does not show it to robot$reader (403)", "${HARBOR_ENDPOINT_8_HOST}: the host of the registry",
		"project docker.io: its endpoint is the usual one", "quota of library, staging",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("want %q in\n%s", want, stderr)
		}
	}
	if !strings.Contains(stdout, "quota: 2GiB") || !strings.Contains(stdout, `endpoints: ["https://registry-1.docker.io"]`) {
		t.Errorf("what was shown is not in\n%s", stdout)
	}
}

// With OIDC people come by themselves, and groups have their roles.
func TestImportHarborWithOIDC(t *testing.T) {
	text := strings.NewReplacer(
		`"auth_mode": {"value": "db_auth", "editable": false}`, `"auth_mode": {"value": "oidc_auth"}, "oidc_endpoint": {"value": "https://id.example.com/realms/main"}, "oidc_client_id": {"value": "harbor"},
			"oidc_scope": {"value": "openid,offline_access,email"}, "oidc_groups_claim": {"value": "groups"}, "oidc_admin_group": {"value": "harbor-admins"}, "oidc_user_claim": {"value": "preferred_username"}, "oidc_verify_cert": {"value": true}`,
		`"auth_mode": "db_auth"`, `"auth_mode": "oidc_auth"`, `"registry_storage_provider_name": "filesystem"`, `"registry_storage_provider_name": "s3"`,
	).Replace(harborFile(t, "small.json"))
	h := registrytest.NewHarbor(t, []byte(text), nil)
	stdout, stderr, status := importHarbor(t, h, "--commands", "accounts.sh")
	if status != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{`
url: https://harbor.example.com
oidc:
  issuer: https://id.example.com/realms/main
  client_id: harbor
  scopes: ["offline_access", "email"]
  username_claim: preferred_username
  groups_claim: groups
  admin_group: harbor-admins
  client_secret_file: secrets/oidc
`} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %s in\n%s", want, stdout)
		}
	}
	if !strings.Contains(stderr, "write Harbor's bucket (s3) into roadstead.yaml") || !strings.Contains(stdout, "secret_key_file: secrets/bucket") {
		t.Errorf("nothing is said of the bucket that Harbor has:\n%s", stderr)
	}
	script := contents(t, "accounts.sh")
	for _, want := range []string{"\nadmin bob\n", "\nmember production alice --role developer\n", "\ngroup production 'web team' --role maintainer\n"} {
		if !strings.Contains(script, want) {
			t.Errorf("want %q in\n%s", want, script)
		}
	}
	if strings.Contains(script, "\nuser ") || !strings.Contains(stderr, "secrets/oidc: the client secret of harbor") {
		t.Errorf("people who sign in elsewhere get passwords here:\n%s\n%s", script, stderr)
	}
}

// What the program will refuse although everything is filled in is said at once.
func TestImportHarborSaysWhatWillBeRefused(t *testing.T) {
	text := strings.Replace(harborFile(t, "small.json"), `"auth_mode": {"value": "db_auth", "editable": false}`,
		`"auth_mode": {"value": "oidc_auth"}, "oidc_endpoint": {"value": "http://id.example.com"}, "oidc_client_id": {"value": "harbor"}`, 1)
	_, stderr, status := importHarbor(t, registrytest.NewHarbor(t, []byte(text), nil), "-o", "roadstead.yaml")
	if status != 0 || !strings.Contains(stderr, "to be corrected by hand") || !strings.Contains(stderr, "passwords and names would go there in clear text; write https://") {
		t.Fatalf("%d\n%s", status, stderr)
	}
	_, said, _ := strings.Cut(stderr, "  roadstead.yaml:")
	line, _, _ := strings.Cut(said, ":")
	if _, stderr, _ := command("check", "--config", "roadstead.yaml"); !strings.Contains(stderr, "roadstead.yaml:"+line+": issuer: ") {
		t.Errorf("line %s is not that of\n%s", line, stderr)
	}
}

// What is written says the same to the program as what Harbor has said, be it as odd as it may.
func TestImportHarborOfOddThings(t *testing.T) {
	h := registrytest.NewHarbor(t, []byte(`{
		"/systeminfo": {"auth_mode": "ldap_auth"}, "/users/current": {"username": "admin", "sysadmin_flag": true},
		"/registries": [
			{"id": 1, "name": "#: - \n${HOME}\u2028x\u001b[31m", "url": "https://user:canary@bad.example", "type": "docker-registry"},
			{"id": 2, "name": "ä", "url": "registry.example.com:5000/v2/", "type": "dtr", "credential": {"access_key": "${HOME}: #x", "access_secret": "*****"}, "ca_certificate": "no PEM"},
			{"id": 3, "name": "Ä", "url": "ftp://x", "type": "docker-registry"}],
		"/projects": [
			{"project_id": 1, "name": "a", "registry_id": 1, "metadata": null}, {"project_id": 2, "name": "b", "registry_id": 2, "metadata": {"public": "true", "x\ny": "1\n2"}},
			{"project_id": 3, "name": "ftp", "registry_id": 3, "metadata": {}}, {"project_id": 4, "name": "Upper", "metadata": {}}, {"project_id": 5, "name": "d", "metadata": {"retention_id": "../../users"}},
			{"project_id": 6, "name": "e\nlisten: canary", "metadata": {}}],
		"/projects/5/immutabletagrules": [{"tag_selectors": [{"decoration": "matches", "pattern": "V*"}], "scope_selectors": {"repository": [{"decoration": "repoMatches", "pattern": "Upper/**"}]}}],
		"/projects/5/members": [{"entity_name": "cn=web,dc=example", "entity_type": "g", "role_name": "developer"}, {"entity_name": "eve", "entity_type": "u", "role_name": "emperor"}],
		"/quotas?reference=project": [{"ref": {"id": 5}, "hard": {"storage": 0}}],
		"/users": [], "/robots": [{"name": "robot$Bad", "level": "system"}, {"name": "robot$none", "level": "system", "permissions": []}], "/replication/policies": [],
		"/configurations": {}, "/system/gc/schedule": null, "/system/scanAll/schedule": null, "/system/purgeaudit/schedule": null, "/system/CVEAllowlist": {}
	}`), nil)
	h.Fail(registrytest.Refused("/projects/6/members", 403))
	_, stderr, status := importHarbor(t, h, "-o", "roadstead.yaml")
	if status != 0 {
		t.Fatal(stderr)
	}
	stdout := contents(t, "roadstead.yaml")
	for _, want := range []string{
		`project "Upper" (0 repositories) cannot be called so here`, "the URL holds credentials", `"ftp" is neither https nor http`, `endpoints of type "dtr" are taken for ordinary registries`,
		"the CA certificate of its endpoint is not in PEM", "LDAP: people get passwords of their own", "its quota is 0 bytes", `"Upper/**:V*" is not a pattern here`,
		"groups in project d, which are those of an OIDC provider here: cn=web,dc=example", `eve as "emperor" in project d`, "robot$Bad, which cannot be called so here", "robot$none, which may do nothing",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("want %q in\n%s", want, stderr)
		}
	}
	if strings.Contains(stdout+stderr, "canary@") || strings.Contains(stdout+stderr, "\nlisten:") || strings.ContainsAny(stdout+stderr, "\x1b\u2028") || strings.Contains(stderr, "to be corrected") {
		t.Errorf("something of this should not be there:\n%s\n%s", stdout, stderr)
	}
	t.Setenv("HARBOR_HOME_X_31M_HOST", "one.example")
	t.Setenv("HARBOR_ENDPOINT_3_HOST", "three.example")
	if err := os.Mkdir("secrets", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, "secrets/endpoint-2", "x")
	cfg, faults, err := loadConfig("roadstead.yaml")
	if err != nil || len(faults) > 0 {
		t.Fatalf("%v, %v\n%s", err, faults, stdout)
	}
	if b := project(t, cfg, "b"); b.Remote.Username != "${HOME}: #x" || b.Remote.Endpoints[0] != "https://registry.example.com:5000" || !b.Public || !b.Remote.AllowPrivate {
		t.Errorf("project b is %+v", b)
	}
}
