package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the chart starts by default serves: the container's command with its environment on the rendered
// configuration. The probes are answered, the chart's own test passes, and clients pull.
func TestChartServes(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 970_000, platforms: []string{"amd64", "arm64"}}.make(t, "1.0")
	u.push(t, "team/app", img)
	home := shortDir(t)
	values := writeJSON(t, filepath.Join(home, "values.json"), map[string]any{"config": map[string]any{
		"builtin_projects": false, "default_project": "",
		"projects": map[string]any{"quay.io": u.project(nil)},
	}})
	text, err := helmTemplate(t, chartFolder(), "--values", values)
	if err != nil {
		t.Fatal(err)
	}
	r := readRelease(t, text)
	r.wired(t)
	n := &node{t: t, home: home, dir: filepath.Join(home, "data"), addr: freeAddress(t), http: newHTTPClient(nil)}
	n.url = "http://" + n.addr
	admin := freeAddress(t)
	n.admin = "http://" + admin
	store := r.setting(t, "storage").(map[string]any)
	if store["directory"] != "/data" || store["max_size"] != "81920MiB" {
		t.Errorf("the volume of 100Gi is used as %v", store)
	}
	store["directory"] = n.dir
	config, env := r.settle(t, home, map[string]any{"listen": n.addr, "admin": admin, "storage": store})
	if got := strings.Join(env, " "); got != "GOMEMLIMIT=460MiB" {
		t.Errorf("with a limit of 512Mi the environment is %q", got)
	}
	n.config = config
	args := append([]string{"ROADSTEAD_CONFIG=" + config, roadsteadBinary(t)}, r.node().Args...)
	n.process = start(t, home, "roadstead", "/usr/bin/env", append(env, args...)...)
	t.Cleanup(func() { n.checkLog(t) })
	waitForHTTP(t, n.process, n.http, n.url+"/v2/")
	for name, p := range map[string]probe{"startup": r.node().Startup, "liveness": r.node().Liveness, "readiness": r.node().Readiness} {
		res, err := n.http.Get(n.admin + p.Get.Path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("the %s probe is answered %s", name, res.Status)
		}
	}
	var test pod
	spec := r.resources["Pod mirror-roadstead-test"].Spec
	if err := spec.Decode(&test); err != nil {
		t.Fatal(err)
	}
	address := test.Containers[0].Args[len(test.Containers[0].Args)-1]
	if address != "mirror-roadstead-metrics:5001" {
		t.Errorf("the chart's test asks %s", address)
	}
	ready := append(test.Containers[0].Args[:len(test.Containers[0].Args)-1:len(test.Containers[0].Args)-1], admin)
	if out := run(t, environment(home), roadsteadCommand(t), ready...); string(out) != "ready\n" {
		t.Errorf("the chart's test says %q", out)
	}
	ref := reference{project: "quay.io", repo: "team/app", tag: "1.0"}
	pullCrane(t, n, ref, img)
	u.stop(t)
	pullCrane(t, n, reference{project: ref.project, repo: ref.repo, digest: img.top().digest}, img)

	// What the notes have people type.
	said := run(t, environment(home), need(t, "helm"), "install", "mirror", chartFolder(), "--namespace", "registry", "--dry-run=client", "--values", values)
	_, notes, _ := strings.Cut(string(said), "\nNOTES:\n")
	typed := regexp.MustCompile(`exec statefulset/mirror-roadstead -- /roadstead (registries) (--url) URL-OF-2\n`).FindStringSubmatch(notes)
	if typed == nil {
		t.Fatalf("the notes are\n%s", notes)
	}
	out, err := n.command(typed[1], typed[2], "http://127.0.0.1:30500")
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("%q: %q", "(^.+$)", "quay.io/$1")) {
		t.Errorf("the command of the notes writes %s, %v", out, err)
	}
}
