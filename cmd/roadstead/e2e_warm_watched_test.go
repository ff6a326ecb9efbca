package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"roadstead/storage/processtest"
)

// one is an image of one layer, at an upstream.
func (u *upstream) one(t *testing.T, repo, tag string, seed uint64, size int) *image {
	t.Helper()
	img := newImage()
	layer, _ := recipe{}.layer(t, img, seed, size)
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","rootfs":{"type":"layers"},"created_by":"%d"}`, runtime.GOARCH, seed)
	d := digest.FromBytes(config)
	img.addBlob(d, content{bytes: config, size: int64(len(config))})
	img.tags[tag] = img.addManifest(t, d, []digest.Digest{layer.Digest})
	u.layOut(t, repo, img)
	return img
}

// chart is a chart that names images in all the places where charts do: rendered from values, by defaults,
// in hooks, in resources of its own and in their definitions.
var chart = map[string]string{
	"Chart.yaml":  "apiVersion: v2\nname: shop\nversion: 1.0.0\nappVersion: \"1\"\n",
	"values.yaml": "web:\n  repository: rancher/web\nsidecar: index.docker.io/rancher/sidecar\n",
	"templates/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-web
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      initContainers:
      - name: wait
        image: "docker.io/rancher/init:3"
      containers:
      - name: web
        image: "{{ .Values.web.repository }}:{{ .Values.web.tag | default .Chart.AppVersion }}"
      - { name: sidecar, image: {{ .Values.sidecar }}:2 }
`,
	"templates/cronjob.yaml": `{{- range $i, $when := list "@daily" "@hourly" }}
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: job-{{ $i }} }
spec:
  schedule: {{ $when | quote }}
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [ { name: job, image: rancher/job:4 } ]
{{- end }}
`,
	"templates/tests/test.yaml": `apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-test
  annotations: { "helm.sh/hook": test }
spec:
  containers: [ { name: test, image: rancher/hook:5 } ]
`,
	"templates/NOTES.txt":   "image: rancher/noted:1\n",
	"templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: config }\ndata:\n  note: |\n    image of the shop\n",
	"crds/shop.yaml":        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: { name: shops.example.com }\nspec:\n  group: example.com\n  names: { kind: Shop, plural: shops }\n  scope: Cluster\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: { openAPIV3Schema: { type: object, properties: { image: { type: string } } } }\n",
}

// TestWarmsForPeopleAndByPlan: what helm renders comes in by a pipe, a terminal shows bars, and what a plan
// names is brought without anybody asking. Then upstream goes away, and all of it is here.
func TestWarmsForPeopleAndByPlan(t *testing.T) {
	e2e(t)
	up := startUpstream(t, upstreamConfig{})
	images := map[string]*image{}
	for i, name := range []string{"web:1", "sidecar:2", "init:3", "job:4", "hook:5", "planned:6"} {
		repo, tag, _ := strings.Cut(name, ":")
		images[name] = up.one(t, "rancher/"+repo, tag, uint64(700+i), 20<<10)
	}
	images["wide:7"] = up.one(t, "rancher/wide", "7", 777, 300<<10)
	g := startGate(t, up.url)
	admin := account{"admin", "First-of-all-1f8c"}
	first := filepath.Join(t.TempDir(), "first")
	if err := os.WriteFile(first, []byte(admin.secret), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, nodeConfig{plain: true, projects: map[string]any{"docker.io": project(g.url, nil)}, more: map[string]any{
		"admin_password_file": first,
		"warm":                map[string]any{"nightly": map[string]any{"images": []string{"rancher/planned:6"}, "schedule": "* * * * * *"}},
	}})
	t.Run("what helm renders", func(t *testing.T) { warmsARenderedChart(t, n, admin) })
	t.Run("on a terminal", func(t *testing.T) { warmsOnATerminal(t, n, g, admin) })
	t.Run("by plan", func(t *testing.T) { warmsByPlan(t, n, admin) })
	g.down()
	for name, img := range images {
		repo, tag, _ := strings.Cut(name, ":")
		if err := n.pull("docker.io/rancher/"+repo, tag, img); err != nil {
			t.Errorf("%s without upstream: %v", name, err)
		}
	}
}

func warmsARenderedChart(t *testing.T, n *node, admin account) {
	source := filepath.Join(t.TempDir(), "shop")
	for path, text := range chart {
		path = filepath.Join(source, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	helm := exec.Command(need(t, "helm"), "template", "demo", source, "--include-crds")
	helm.Env = environment(t.TempDir())
	var said strings.Builder
	helm.Stderr = &said
	rendered, err := helm.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w := n.willWarm(admin, "-")
	w.Stdin = rendered
	if err := processtest.Start(helm); err != nil {
		t.Fatal(err)
	}
	w.begin(t)
	status := w.ended(t)
	if err := helm.Wait(); err != nil {
		t.Fatalf("helm template: %v\n%s", err, &said)
	}
	out := w.out.String()
	if status != 0 || strings.Count(out, "\n") != 5 {
		t.Errorf("it ended with %d:\n%s%s", status, out, &w.err)
	}
	for _, name := range []string{"web:1", "sidecar:2", "init:3", "job:4", "hook:5"} {
		if !strings.Contains(out, "here     docker.io/rancher/"+name+": ") {
			t.Errorf("%s is not there:\n%s%s", name, out, &w.err)
		}
	}
}

// terminal is one, as wide as people have it, and what is written there.
type terminal struct {
	*os.File               // the end that a process gets
	whole    chan struct{} // closed when there is no more to come

	mu   sync.Mutex
	text strings.Builder
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	kept, err := os.OpenFile("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		lack(t, "there is no terminal: %v", err)
	}
	t.Cleanup(func() { kept.Close() })
	fd := int(kept.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	term := &terminal{whole: make(chan struct{})}
	if err == nil {
		term.File, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), unix.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(term.whole)
		b := make([]byte, 4096)
		for {
			n, err := kept.Read(b)
			term.mu.Lock()
			term.text.Write(b[:n])
			term.mu.Unlock()
			if err != nil {
				return // of the last one that had the other end open
			}
		}
	}()
	return term
}

func (t *terminal) seen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// warmsOnATerminal has a bar for the layer that is under way and one for all, and leaves neither behind.
func warmsOnATerminal(t *testing.T, n *node, g *gate, admin account) {
	let := make(chan struct{})
	g.set(blobs(shape{at: 100 << 10, hold: let}))
	defer g.set(nil)
	term := newTerminal(t)
	w := n.willWarm(admin, "rancher/wide:7", "rancher/none:1")
	w.Stdout, w.Stderr = term.File, term.File
	w.begin(t)
	if err := term.Close(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("on the terminal is %q", term.seen())
		}
	}()
	// The name of the layer, how far it is, and how far all is.
	for _, want := range []string{"rancher/wide ", "] 100 KiB of 301.5 KiB\r\n", "1 of 2 images  ", "] 100.1 KiB of 301.6 KiB, ", "s left\r\n", "failed   docker.io/rancher/none:1: "} {
		eventually(t, 30*time.Second, want, func() bool { return strings.Contains(term.seen(), want) })
	}
	close(let)
	if status := w.ended(t); status != 1 {
		t.Errorf("it ended with %d", status)
	}
	<-term.whole
	text := term.seen()
	if strings.Count(text, "failed   ") != 1 || strings.Contains(text, "here     ") {
		t.Errorf("lines that should stay, once, or not be there:\n%q", text)
	}
	// What stays begins where the last of the bars was erased.
	last := strings.LastIndex(text, "\x1b[")
	left := text[max(last, 0):]
	if !strings.Contains(left, "1 of 2 images are here; 2 blobs were fetched, ") || strings.Contains(left, "[==") || last < 0 {
		t.Errorf("at the end there is %q", left)
	}
}

// warmsByPlan waits for a job that nobody has begun to come to its end.
func warmsByPlan(t *testing.T, n *node, admin account) {
	eventually(t, 30*time.Second, "the plan to come to its end", func() bool {
		var jobs []struct {
			Kind, Target, State, Result string
			By                          string `json:"started_by"`
		}
		body := n.as(admin).ask("GET", "/api/roadstead/v1/jobs").body
		if err := json.Unmarshal([]byte(body), &jobs); err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		for _, j := range jobs {
			if j.By == "(configuration) nightly" && j.Target == "docker.io/rancher/planned:6" && j.State == "success" && strings.HasPrefix(j.Result, "1 of 1 images are here") {
				return true
			}
		}
		return false
	})
}
