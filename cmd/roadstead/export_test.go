package main

import (
	"bytes"
	"cmp"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"roadstead/registry/hosted"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

const exportedConfig = `
listen: 127.0.0.1:5055
url: https://mirror.example.com
oidc: { issuer: "https://login.example.com", client_id: roadstead, client_secret: "canary-1", admin_group: admins, groups: [ { group: dev, project: production, role: developer } ] }
storage: { directory: DATA, max_size: 80%, floor: 0B }
uploads: { max: 1500MB, idle: 36h }
collect: { every: 12h }
audit: { keep: 365d }
warm:
  rke2: { images: ["docker.io/rancher/mirrored-pause:3.6"], platforms: [linux/amd64, linux/arm64], schedule: "0 0 3 * * *" }
  tools: { images: [quay.io/team/tool], platforms: all, schedule: "@weekly" }
project_creation: adminonly
allow_private_networks: [ 10.0.0.0/8 ]
memory: 32MiB
log: { level: warn, format: json }
hosts: { quay.mirror.example.com: quay.io }
builtin_projects: false
projects:
  docker.io: { username: me, password: canary-2, ttl: 5m, cooldown: 72h, cooldown_new: true, verify: { mode: warn, keys: [ KEYFILE, KEYTEXT ] }, deny: [ "evil/**" ], proxy: "http://user:canary-3@proxy.example:3128" }
  quay.io: { keep: 30d, stale_for: 12h, negative_ttl: 0s, pin: [ "coreos/etcd:v3" ], prefix: team, allow_private: true, proxy: direct }
  production: { hosted: true, quota: 10GiB, immutable: [ "**:v*" ], retain: { newest: 10, pulled: 30d, schedule: "0 30 3 * * *" } }
`

// exportedRules have every key of a rule, and none.
var exportedRules = []catalog.Rule{
	{Repositories: catalog.Selector{Glob: "web/**"}, Tags: catalog.Selector{Glob: "v*", Except: true}, Untagged: true, Newest: 3, LastPulled: 4, Pushed: 36 * time.Hour, Pulled: 48 * time.Hour},
	{Repositories: catalog.Selector{Glob: "${a}", Except: true}, Tags: catalog.Selector{Except: true}},
	{},
}

// What is exported means what is in force, and has no secret in it.
func TestConfigExport(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cosign.pub"), cosignKey)
	text := strings.NewReplacer("DATA", filepath.Join(dir, "data"), "KEYFILE", "cosign.pub", "KEYTEXT", strconv.Quote(cosignKey)).Replace(exportedConfig)
	cfg, faults := parseConfig(filepath.Join(dir, "roadstead.yaml"), []byte(text), environment(nil))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := settle(t.Context(), db, cfg); err != nil {
		t.Fatal(err)
	}
	ttl := time.Hour
	err = db.Durable(t.Context(), func(tx *catalog.Tx) error {
		id, err := tx.AddRegistry(catalog.Registry{Name: "mine", Kind: "docker-registry", URL: "https://mirror.example", Username: "u", Password: "canary-sealed", Insecure: true})
		if err != nil {
			return err
		}
		if err := tx.PutProject(catalog.Project{Name: "made", Registry: id, Public: true, Policy: catalog.Policy{TTL: &ttl, Cooldown: &ttl, Deny: []string{"a:${b}"}, Verify: &catalog.Verify{Mode: "enforce", Keys: []string{cosignKey}}}}); err != nil {
			return err
		}
		return errors.Join(
			tx.PutProject(catalog.Project{Name: "ours", Quota: 12345, Immutable: []string{"v*"}}),
			tx.PutProject(catalog.Project{Name: "nightly", Immutable: []string{"v*"}, Retention: catalog.Retention{Newest: 3, Rules: exportedRules}, Schedule: "@daily"}),
			tx.PutProject(catalog.Project{Name: "byhand", Immutable: []string{"v*"}, Retention: catalog.Retention{Newest: 3}, Schedule: hosted.Never}))
	})
	if err != nil {
		t.Fatal(err)
	}
	now, err := readHolding(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	served, err := now.whole(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := export(streams{out: &out}, served); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "canary") {
		t.Errorf("a secret is in it:\n%s", out.String())
	}
	for _, comment := range []string{"# Store it: roadstead secret set oidc", "# Store it: roadstead secret set docker.io", "# Store it: roadstead secret set made"} {
		if !strings.Contains(out.String(), comment) {
			t.Errorf("it does not say %q:\n%s", comment, out.String())
		}
	}
	again, faults := parseConfig(filepath.Join(dir, "roadstead.yaml"), out.Bytes(), environment(nil))
	if len(faults) > 0 {
		t.Fatalf("%v\n%s", faults, out.String())
	}
	// Where secrets are kept is what may differ, and who declares a project.
	for _, c := range []*Config{&served, &again} {
		c.OIDC.ClientSecret, c.OIDC.ClientSecretName = "", ""
		for i := range c.Projects {
			p := &c.Projects[i]
			p.Remote.Password, p.Remote.PasswordSecret = "", ""
			p.Remote.Networks = nil // which a configuration gets when it is put in force
			if p.Name == "docker.io" {
				p.Remote.Proxy = ""
			}
		}
	}
	served.File = again.File
	if !reflect.DeepEqual(sorted(served), sorted(again)) {
		t.Errorf("exported %+v\nread     %+v\n%s", sorted(served), sorted(again), out.String())
	}

	// Used on the same catalog it takes over what was made.
	after, err := settle(t.Context(), db, again)
	if err != nil {
		t.Fatal(err)
	}
	for name, schedule := range map[string]string{"made": "", "ours": "", "nightly": "@daily", "byhand": hosted.Never, "production": "0 30 3 * * *"} {
		if p, ok := after.project(name); !ok || !p.Configured || p.Schedule != schedule {
			t.Errorf("%s = %+v, want it declared, with its retention at %q", name, p, schedule)
		}
	}

	if p, _ := after.project("nightly"); !p.Retention.Equal(catalog.Retention{Newest: 3, Rules: exportedRules}) {
		t.Errorf("nightly retains by %+v", p.Retention)
	}

	// The file says when tags are retained, also when it says so no more.
	for i := range again.Projects {
		again.Projects[i].Retain.Schedule = ""
	}
	if after, err = settle(t.Context(), db, again); err != nil {
		t.Fatal(err)
	}
	if p, _ := after.project("production"); p.Schedule != "" || p.Retention.Newest != 10 {
		t.Errorf("production = %+v, want its retention with each collection", p)
	}
}

// sorted has the projects of a configuration in the order of their names.
func sorted(c Config) Config {
	slices.SortFunc(c.Projects, func(a, b Project) int { return cmp.Compare(a.Name, b.Name) })
	return c
}

// A schedule that was set by API is at least said.
func TestConfigExportSaysTheSchedule(t *testing.T) {
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var out bytes.Buffer
	if err := exportPlan(t.Context(), streams{out: &out}, db); err != nil || out.Len() > 0 {
		t.Errorf("nothing was set: %q, %v", out.String(), err)
	}
	if err := db.Durable(t.Context(), func(tx *catalog.Tx) error {
		return tx.PutSetting("collect", map[string]string{"type": "Custom", "cron": "0 0 5 * * *"})
	}); err != nil {
		t.Fatal(err)
	}
	if err := exportPlan(t.Context(), streams{out: &out}, db); err != nil || !strings.HasPrefix(out.String(), `# Collections run by the schedule "0 0 5 * * *"`) {
		t.Errorf("a schedule: %q, %v", out.String(), err)
	}
}
