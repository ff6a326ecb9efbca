package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/registrytest"
	"roadstead/storage/catalog"
)

// worked runs a command that has to work, and returns its stdout.
func worked(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, status := command(args...)
	if status != 0 {
		t.Fatalf("roadstead %s: exit status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

// refused runs a command that has to fail and say why.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	stdout, stderr, status := command(args...)
	if status != 1 || !strings.Contains(stderr, want) || stdout != "" {
		t.Errorf("roadstead %s: exit status %d\n%s%s\nwant %s", strings.Join(args, " "), status, stdout, stderr, want)
	}
}

// login says who asks.
type login struct{ user, password string }

// do sends a request to the registry.
func (p *process) do(who login, method, path, contentType, body string) (int, http.Header, string) {
	p.t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = p.url + path
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if who.user != "" {
		req.SetBasicAuth(who.user, who.password)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// push pushes an image of one layer and returns its digest, or the status of what was refused.
func (p *process) push(who login, repo, tag, layer string) (digest.Digest, int) {
	p.t.Helper()
	config := `{"architecture":"amd64","os":"linux","is":"` + layer + `"}`
	for _, blob := range []string{config, layer} {
		status, _, _ := p.do(who, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+digest.FromString(blob).String(), "application/octet-stream", blob)
		if status != 201 {
			return "", status
		}
	}
	m := imageManifest(digest.FromString(config), digest.FromString(layer), len(layer))
	status, _, _ := p.do(who, "PUT", "/v2/"+repo+"/manifests/"+tag, registry.MediaTypeOCIManifest, m)
	return digest.FromString(m), status
}

// follows waits until a server has seen what a command has changed.
func follows(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the server has not seen %s", what)
		}
	}
}

// Commands beside a server make a project, members and robots of it, and shut them out again; and
// the server sees it by itself.
func TestAServerFollowsCommands(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	config := configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil)
	p := serve(t, config)
	at := func(words ...string) []string { return append(words, "--config", config) }
	anybody := login{}

	// As long as everything is for everybody, nobody is asked who he is.
	for path, want := range map[string]int{"/v2/": 200, "/v2/up.example/app/manifests/v1": 200, "/v2/production/web/manifests/v1": 404, "/v2/_catalog": 200} {
		if status, header, body := p.do(anybody, "GET", path, "", ""); status != want || header.Get("WWW-Authenticate") != "" {
			t.Errorf("a pure cache: GET %s: %d %s", path, status, body)
		}
	}

	worked(t, at("project", "create", "production", "--immutable", "**:v*")...)
	follows(t, "the project", func() bool { status, _ := p.get("/v2/"); return status == 401 })
	if status, header, _ := p.do(anybody, "GET", "/v2/", "", ""); status != 401 || !strings.HasPrefix(header.Get("WWW-Authenticate"), `Bearer realm="`+p.url+`/service/token"`) {
		t.Errorf("with a private project: %d %q", status, header.Get("WWW-Authenticate"))
	}
	if status, _, body := p.do(anybody, "GET", "/v2/up.example/app/manifests/v1", "", ""); status != 200 {
		t.Errorf("a public proxy beside it: %d %s", status, body)
	}

	alice := login{"alice", strings.TrimSpace(worked(t, at("user", "add", "alice")...))}
	ci := login{"robot$production+ci", strings.TrimSpace(worked(t, at("robot", "add", "ci", "--project", "production", "--permission", "push,delete")...))}
	worked(t, at("project", "member", "add", "production", "alice", "--role", "guest")...)
	var pushed digest.Digest
	follows(t, "the robot", func() bool {
		d, status := p.push(ci, "production/web", "v1", "a layer")
		pushed = d
		return status == 201
	})
	if _, status := p.push(ci, "production/web", "v1", "another layer"); status != 403 {
		t.Errorf("an immutable tag was moved: %d", status)
	}
	if _, status := p.push(alice, "production/web", "1", "a layer"); status != 403 {
		t.Errorf("a guest pushed: %d", status)
	}
	for who, want := range map[login]int{alice: 200, ci: 200, anybody: 401, {"alice", "wrong"}: 401} {
		if status, _, body := p.do(who, "GET", "/v2/production/web/manifests/"+pushed.String(), "", ""); status != want {
			t.Errorf("%q pulls: %d %s, want %d", who.user, status, body, want)
		}
	}
	if status, _, body := p.do(ci, "GET", "/v2/_catalog", "", ""); status != 200 || !strings.Contains(body, `"production/web"`) {
		t.Errorf("the list of both kinds is %d %s", status, body)
	}
	if status, _, body := p.do(ci, "POST", "/v2/up.example/app/blobs/uploads/", "", ""); status != 403 || !strings.Contains(body, "DENIED") {
		t.Errorf("a push to a proxy: %d %s", status, body)
	}

	worked(t, at("project", "set", "production", "--public")...)
	follows(t, "that it is public", func() bool {
		status, _, _ := p.do(anybody, "GET", "/v2/production/web/manifests/v1", "", "")
		return status == 200
	})
	worked(t, at("project", "set", "production", "--no-public", "--immutable", "")...)
	follows(t, "that it is private", func() bool {
		status, _, _ := p.do(anybody, "GET", "/v2/production/web/manifests/v1", "", "")
		return status == 401
	})
	worked(t, at("robot", "disable", ci.user)...)
	follows(t, "that a robot is disabled", func() bool {
		status, _, _ := p.do(ci, "GET", "/v2/production/web/manifests/v1", "", "")
		return status == 401
	})
	refused(t, "project production has 1 repositories, such as production/web: delete what is in them first", at("project", "delete", "production")...)
	if out := worked(t, at("gc", "--dry-run")...); !strings.Contains(out, "would remove 0 blobs") {
		t.Errorf("a dry collection says %s", out)
	}
	refused(t, "with --dry-run this may run beside a server", at("gc")...)

	p.signal(syscall.SIGTERM)
	if status := p.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	audit := worked(t, at("audit", "--json")...)
	for _, want := range []string{`"Actor":"robot$production+ci"`, `"Reference":"v1"`, `"Outcome":"refused"`, `"Actor":"(command)"`} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit log lacks %s:\n%s", want, audit)
		}
	}
	if secrets := p.log.String() + audit; strings.Contains(secrets, alice.password) || strings.Contains(secrets, ci.password) {
		t.Error("a secret is in a log")
	}
	if up.Count("production") > 0 {
		t.Error("an upstream was asked for what is hosted")
	}

	// Another start has the same, without a new first user.
	p = serve(t, config)
	if strings.Contains(p.log.String(), "The first user is") {
		t.Error("a second start has a first user")
	}
	if status, _, body := p.do(alice, "GET", "/v2/production/web/manifests/v1", "", ""); status != 200 || digest.FromString(body) != pushed {
		t.Errorf("after a restart: %d %s", status, body)
	}
}

// The password of the first user is printed once, or is the one that is given.
func TestTheFirstUser(t *testing.T) {
	up := registrytest.New(t)
	projects := map[string]map[string]any{"up.example": proxied(up), "production": {"hosted": true}}
	p := serve(t, configuration(t, projects, nil))
	_, rest, _ := strings.Cut(p.log.String(), "The first user is admin with the password ")
	password, _, _ := strings.Cut(rest, ",")
	if status, _, body := p.do(login{"admin", password}, "GET", "/v2/", "", ""); status != 200 {
		t.Errorf("with the password %q: %d %s", password, status, body)
	}
	if strings.Count(p.log.String(), password) != 1 {
		t.Error("it is said again")
	}

	file := filepath.Join(t.TempDir(), "admin")
	write(t, file, "Correct-horse-7\n")
	p = serve(t, configuration(t, projects, map[string]any{"admin_password_file": file}))
	if status, _, body := p.do(login{"admin", "Correct-horse-7"}, "GET", "/v2/", "", ""); status != 200 || strings.Contains(p.log.String(), "The first user") {
		t.Errorf("with the password of a file: %d %s", status, body)
	}
}

// What the configuration says of hosted projects is in the catalog after a reload; what it no
// longer names stays, and is the catalog's.
func TestReloadSettlesHostedProjects(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	projects := map[string]map[string]any{"up.example": proxied(up), "production": {"hosted": true}}
	config := configuration(t, projects, map[string]any{"admin_password_file": adminFile(t)})
	p := serve(t, config)
	admin := login{"admin", "Correct-horse-7"}
	if _, status := p.push(admin, "production/web", "v1", "a layer"); status != 201 {
		t.Fatalf("push: %d", status)
	}
	reload := func(message string) {
		t.Helper()
		before := strings.Count(p.log.String(), message)
		p.signal(syscall.SIGHUP)
		follows(t, message, func() bool { return strings.Count(p.log.String(), message) > before })
	}
	if got := p.wait("serving")["projects"]; got != 2.0 {
		t.Errorf("serving %v projects, want 2", got)
	}
	state := func() catalog.Project {
		t.Helper()
		all, err := openCatalog(t, filepath.Join(filepath.Dir(config), "data")).Projects(context.Background())
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0]
	}

	projects["production"] = map[string]any{"hosted": true, "public": true, "quota": "1GiB"}
	rewriteConfiguration(t, config, projects, nil)
	reload(`"msg":"configuration reloaded"`)
	if got := p.wait("configuration reloaded")["projects"]; got != 2.0 {
		t.Errorf("reloaded with %v projects, want 2", got)
	}
	if got := state(); !got.Configured || !got.Public || got.Quota != 1<<30 {
		t.Errorf("changed: %+v", got)
	}
	if status, _ := p.get("/v2/production/web/manifests/v1"); status != 200 {
		t.Errorf("public now: %d", status)
	}
	refused(t, "is in the configuration, which says all of it", "project", "set", "production", "--quota", "0", "--config", config)
	refused(t, "and would be there again: remove it there first", "project", "delete", "production", "--config", config)

	delete(projects, "production")
	rewriteConfiguration(t, config, projects, nil)
	reload(`"msg":"configuration reloaded"`)
	if got := state(); got.Configured || !got.Public {
		t.Errorf("no longer in the configuration: %+v", got)
	}
	if status, _ := p.get("/v2/production/web/manifests/v1"); status != 200 {
		t.Errorf("no longer in the configuration: %d", status)
	}

	// A name is hosted or a proxy. Nothing of the old configuration is lost by trying.
	projects["production"] = proxied(up)
	rewriteConfiguration(t, config, projects, nil)
	reload(`"msg":"configuration not reloaded`)
	if line := p.wait("configuration not reloaded, the old one stays in force"); !strings.Contains(line["err"].(string), "project production is hosted here, and a proxy in the configuration: give the proxy another name") {
		t.Errorf("it says %v", line["err"])
	}
	if status, _ := p.get("/v2/production/web/manifests/v1"); status != 200 {
		t.Errorf("after a refused reload: %d", status)
	}
	if status, _ := p.get("/v2/up.example/app/manifests/v1"); status != 200 {
		t.Errorf("the proxy: %d", status)
	}
	p.signal(syscall.SIGTERM)
	p.exit()
	second := start(t, "serve", "--config", config)
	if code := second.exit(); code != 1 || !strings.Contains(second.log.String(), "is hosted here, and a proxy in the configuration") {
		t.Errorf("a start with it: exit status %d", code)
	}

	delete(projects, "production")
	projects["up.example"] = map[string]any{"hosted": true}
	rewriteConfiguration(t, config, projects, nil)
	third := start(t, "serve", "--config", config)
	if code := third.exit(); code != 1 || !strings.Contains(third.log.String(), "there is content of a project up.example here that nobody has pushed, such as up.example/app: choose another name") {
		t.Errorf("a proxy that becomes hosted: exit status %d", code)
	}
	refused(t, "there is content of a project up.example here that nobody has pushed", "project", "create", "up.example", "--config", os.DevNull, "--data", filepath.Join(filepath.Dir(config), "data"))
}

// adminFile has the password of the first user.
func adminFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin")
	write(t, path, "Correct-horse-7\n")
	return path
}

// A password for an upstream may be a stored secret, and the server takes it when it comes; what
// it is for is private, and another password is taken as well.
func TestAStoredPasswordIsTakenWhenItComes(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	up.Require(registrytest.Auth{Basic: true, Username: "us", Password: "hunter2"})
	project := proxied(up)
	project["username"], project["password_secret"], project["insecure"], project["negative_ttl"] = "us", "upstream", true, "0s"
	config := configuration(t, map[string]map[string]any{"up.example": project}, map[string]any{"admin_password_file": adminFile(t)})
	p := serve(t, config)
	p.wait(`no password for an upstream, it is asked without: store it with "roadstead secret set"`)
	path, admin := "/v2/up.example/app/manifests/v1", login{"admin", "Correct-horse-7"}
	if status, _, body := p.do(login{}, "GET", path, "", ""); status != 401 {
		t.Errorf("anybody: %d %s", status, body)
	}
	if status, _, body := p.do(admin, "GET", path, "", ""); status != 403 {
		t.Errorf("without the password: %d %s", status, body)
	}
	stdin = strings.NewReader("hunter2\n")
	defer func() { stdin = os.Stdin }()
	worked(t, "secret", "set", "upstream", "--config", config)
	follows(t, "the secret", func() bool {
		status, _, _ := p.do(admin, "GET", path, "", "")
		return status == 200
	})
	if out := worked(t, "secret", "list", "--config", config); out != "upstream\n" {
		t.Errorf("the secrets are %q", out)
	}
	p.signal(syscall.SIGTERM)
	p.exit()
	database, err := os.ReadFile(filepath.Join(filepath.Dir(config), "data", catalogFile))
	if err != nil || strings.Contains(string(database), "hunter2") || strings.Contains(p.log.String(), "hunter2") {
		t.Errorf("the secret is there to be read (%v)", err)
	}
}

// What commands refuse, they say what to do about.
func TestCommandsAboutAccountsTeach(t *testing.T) {
	t.Chdir(t.TempDir())
	refused(t, `there is no catalog in `, "user", "add", "alice")
	config := configuration(t, map[string]map[string]any{"up.example": proxied(registrytest.New(t))}, nil)
	p := serve(t, config)
	write(t, "weak", "secret\n")
	write(t, "empty", "\n")
	worked(t, "user", "add", "alice", "--config", config)
	worked(t, "project", "create", "production", "--config", config)
	for _, row := range []struct {
		want string
		args string
	}{
		{"there is a user alice already", "user add alice"},
		{`"al/ice" cannot be the name of a user`, "user add al/ice"},
		{"the password has 6 characters: 8 to 128 are needed", "user add bob --password-file weak"},
		{"empty is empty: there is no secret in it", "user add bob --password-file empty"},
		{"there is no user bob", "user delete bob"},
		{"this is the last administrator who can log in: make another user one first", "user disable admin"},
		{`"boss" is no role: take one of limitedGuest`, "project member add production alice --role boss"},
		{"there is no user bob", "project member add production bob --role guest"},
		{"there is no project staging: create it first", "project member add staging alice --role guest"},
		{`a robot needs to be told where it may pull: write --project PROJECT, or --permission with "PROJECT:pull"`, "robot add ci"},
		{"--permission=push does not say where: write PROJECT:push", "robot add ci --permission push"},
		{`"fly" is nothing that a robot may do: pull, push, delete or warm`, "robot add ci --project production --permission fly"},
		{"--days=-1 is no number of days", "robot add ci --project production --days=-1"},
		{`"ci" is no robot: those are called robot$name or robot$project+name`, "robot delete ci"},
		{"project up.example is a proxy in", "project create up.example"},
		{`"Production" is not the name of a project: write lower-case letters`, "project create Production"},
		{`"api" cannot be the name of a project, /api is for Harbor's REST API: choose another name`, "project create api"},
		{"there is a project production already", "project create production"},
		{`begins with the project's name; write "app:v*"`, "project set production --immutable production/app:v*"},
		{"is not a pattern", "project set production --immutable [a"},
		{"nothing to set is given", "project set production"},
		{"project up.example is a proxy: what it allows and keeps is in", "project show up.example"},
		{`there is no project staging; "roadstead project list" lists them`, "project delete staging"},
		{"there is no hosted project staging", "project retain staging --dry-run"},
		{"there is no secret", "secret delete upstream"},
	} {
		refused(t, row.want, append(strings.Fields(row.args), "--config", config)...)
	}
	for _, row := range []struct{ args, want string }{
		{"user list", "alice"},
		{"project list", "production  hosted  private"},
		{"project show production", "keeps all of them"},
		{"project member list production", "MEMBER"},
		{"project set production --quota 1GiB --keep-newest 3 --keep-pulled 30d", "production is private, has at most 1 GiB, keeps the 3 newest tags, keeps tags pulled within 30d"},
		{"project retain production --dry-run", "would retire 0 tags and manifests"},
		{"user admin alice", "alice is an administrator of everything"},
		{"user disable admin", "admin is shut out"},
		{"project delete production", "project production is gone"},
	} {
		if out := worked(t, append(strings.Fields(row.args), "--config", config)...); !strings.Contains(out, row.want) {
			t.Errorf("roadstead %s says\n%s\nwant %s", row.args, out, row.want)
		}
	}
	p.signal(syscall.SIGTERM)
	p.exit()
}

// What is hosted leaves as a file that the kernel sends: in a wrapper it would be copied by us.
func TestTheSwitchboardHandsOutWhatTheRoomsReturn(t *testing.T) {
	t.Chdir(t.TempDir())
	tr := newTree(t)
	web := registry.Repo{Project: "production", Name: "web"}
	_, layer := tr.image(web.String(), "v1", "a layer")
	hub := registry.Repo{Project: "docker.io", Name: "library/app"}
	_, cached := tr.image(hub.String(), "v1", "a cached layer")
	tr.image("old.example/app", "v1", "of a project that is not served")
	worked(t, "adopt", tr.dir)

	ctx := t.Context()
	cfg := good(t, "")
	cfg.Storage.Directory = tr.dir
	cfg.Listen, cfg.Admin = "127.0.0.1:0", ""
	h, err := openHouse(ctx, cfg, slog.New(slog.DiscardHandler), outside{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	known := func(project string) bool { return project != "old.example" && h.table.Load().Known(project) }
	board := switchboard{h.hosted, h.cache, h.data.Catalog, known}
	for repo, d := range map[registry.Repo]digest.Digest{web: layer, hub: cached} {
		blob, err := board.Blob(ctx, repo, d)
		if err != nil {
			t.Fatal(err)
		}
		direct, err := board.room(repo).Blob(ctx, repo, d)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprintf("%T", blob.ReadSeekCloser), fmt.Sprintf("%T", direct.ReadSeekCloser); got != want {
			t.Errorf("a blob of %s is a %s, and the room's a %s", repo, got, want)
		}
		blob.Close()
		direct.Close()
		if desc, err := board.StatBlob(ctx, repo, d); err != nil || desc.Digest != d {
			t.Errorf("%s: %+v, %v", repo, desc, err)
		}
	}
	if _, err := board.Blob(ctx, web, cached); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("what another project has: %v", err)
	}
	for _, row := range []struct {
		after string
		n     int
		want  string
	}{{"", 10, "docker.io/library/app production/web"}, {"", 1, "docker.io/library/app"}, {"docker.io/library/app", 1, "production/web"}, {"production/web", 5, ""}} {
		if got, err := board.Repositories(ctx, row.after, row.n); err != nil || strings.Join(got, " ") != row.want {
			t.Errorf("%d after %q: %q, %v; want %s", row.n, row.after, got, err, row.want)
		}
	}
}
