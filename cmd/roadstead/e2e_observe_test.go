package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// alertRules are those that are shipped, as Prometheus reads them.
type alertRules struct {
	Groups []struct {
		Rules []struct {
			Record, Alert, Expr string
			Labels, Annotations map[string]string
		}
	}
}

func rulesFile(name string) string {
	return filepath.Join(moduleRoot(), "deploy", "prometheus", name)
}

func readRules(t *testing.T) (r alertRules) {
	t.Helper()
	text, err := os.ReadFile(rulesFile("alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Prometheus' own tool takes the rules and runs their tests, in which every alert fires for its case.
func TestAlertRules(t *testing.T) {
	e2e(t)
	promtool := need(t, "promtool")
	env := environment(t.TempDir())
	run(t, env, promtool, "check", "rules", rulesFile("alerts.yml"))
	run(t, env, promtool, "test", "rules", rulesFile("alerts_test.yml"))
	tests, err := os.ReadFile(rulesFile("alerts_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, group := range readRules(t).Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" {
				continue
			}
			alerts++
			if !strings.Contains(string(tests), fmt.Sprintf(`{labels: '{alertname="%s"}', value:`, rule.Alert)) {
				t.Errorf("no test has %s fire", rule.Alert)
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
				t.Errorf("%s is of severity %q", rule.Alert, rule.Labels["severity"])
			}
			for _, name := range []string{"summary", "description", "runbook"} {
				if rule.Annotations[name] == "" {
					t.Errorf("%s has no %s", rule.Alert, name)
				}
			}
			leadsSomewhere(t, rule.Alert, rule.Annotations["runbook"])
		}
	}
	if alerts < 20 {
		t.Errorf("only %d alerts were found", alerts)
	}
}

// leadsSomewhere checks that a runbook names a heading of a document that there is, and that what else it
// says to look at there is mentioned.
func leadsSomewhere(t *testing.T, alert, runbook string) {
	t.Helper()
	places := regexp.MustCompile(`((?:deploy/)?README\.md)#([a-z0-9-]+)`).FindAllStringSubmatch(runbook, -1)
	if len(places) == 0 {
		t.Errorf("the runbook of %s leads nowhere: %s", alert, runbook)
	}
	for _, place := range places {
		text, err := os.ReadFile(filepath.Join(moduleRoot(), place[1]))
		if err != nil {
			t.Error(err)
			continue
		}
		found := false
		for line := range strings.Lines(string(text)) {
			if title, is := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); is && strings.HasPrefix(line, "#") {
				anchor := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
				found = found || strings.ReplaceAll(anchor, " ", "-") == place[2]
			}
		}
		if !found {
			t.Errorf("the runbook of %s leads to %s, which is not there", alert, place[0])
		}
	}
}

// dashboard is what of Grafana's model is looked at here.
type dashboard struct {
	UID           string `json:"uid"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource struct{ UID string }
		Targets    []struct {
			Expr       string
			Datasource struct{ UID string }
		}
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(), "deploy", "grafana", "roadstead.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// filled is a query of the dashboard with the variables that Grafana would put in, for everything.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m", "$__interval", "1m", "$job", ".*", "$instance", ".*", "$project", ".*").Replace(expr)
}

// A real Prometheus reads a node that has everything a node can have, under load, and finds in it what each
// panel of the dashboard asks for and each rule looks at.
func TestDashboardAndAlertsFindTheirMetrics(t *testing.T) {
	e2e(t)
	program := need(t, "prometheus")
	limited := httptest.NewServer(nil)
	defer limited.Close()
	c := startCluster(t, clusterConfig{nodes: 1, secure: true, copies: true, plain: true, tls: true, storage: map[string]any{"max_size": "10GiB"}, projects: map[string]any{
		"limited":    project(limited.URL, map[string]any{"public": true, "ttl": "1h", "cooldown": "1h"}),
		"production": map[string]any{"hosted": true, "public": true},
	}})
	n := c.nodes[0]
	upstream, err := url.Parse(c.upstream.url)
	if err != nil {
		t.Fatal(err)
	}
	// Docker Hub says in each answer how many pulls are left.
	limited.Config.Handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		ModifyResponse: func(res *http.Response) error {
			res.Header.Set("Ratelimit-Limit", "100;w=21600")
			res.Header.Set("Ratelimit-Remaining", "76;w=21600")
			return nil
		},
	}
	p := startPrometheus(t, program, n)
	p.has(t, `up{job="roadstead"} == 1`)

	// What a rate is of has to happen between two readings.
	for i, repo := range []string{"one", "two"} {
		img := c.cold(t, repo, uint64(371000+i), 300_000)
		for range 2 {
			for _, project := range []string{"mirror", "limited"} {
				if err := n.pull(project+"/"+repo, "1.0", img); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := n.as(c.root).push("production/"+repo, img); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // two readings of Prometheus
		// The copy on the node is read only once the flight that made it is over.
		if err := n.pull("mirror/"+repo, "1.0", img); err != nil {
			t.Fatal(err)
		}
	}
	p.has(t, `increase(roadstead_cache_answers_total{outcome="hit"}[1m]) > 0`)
	p.has(t, `increase(roadstead_hot_hits_total[1m]) + increase(roadstead_hot_misses_total[1m]) > 0`)

	live := n.series(t)
	d := readDashboard(t)
	queries := 0
	for _, panel := range d.Panels {
		if panel.Type == "row" {
			continue
		}
		if len(panel.Targets) == 0 || panel.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q asks nothing, or a data source of its own", panel.Title)
		}
		for _, target := range panel.Targets {
			queries++
			live.check(t, fmt.Sprintf("panel %q", panel.Title), target.Expr)
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q asks a data source of its own", panel.Title)
			}
			result, err := p.query(filled(target.Expr))
			if err != nil || len(result) == 0 {
				t.Errorf("panel %q: %d series, %v: %s", panel.Title, len(result), err, target.Expr)
			}
		}
	}
	if queries < 80 || d.UID != "roadstead" || d.SchemaVersion < 39 {
		t.Errorf("%d queries were found in dashboard %q of schema %d", queries, d.UID, d.SchemaVersion)
	}
	for _, v := range d.Templating.List {
		if asked := regexp.MustCompile(`label_values\((roadstead_\w+)(\{.*\})?, (\w+)\)`).FindStringSubmatch(v.Definition); v.Type == "query" {
			if asked == nil || asked[3] != v.Name {
				t.Errorf("variable %s is %q", v.Name, v.Definition)
				continue
			}
			live.check(t, "variable "+v.Name, asked[1]+asked[2])
			if result, err := p.query(filled(fmt.Sprintf("count by (%s) (%s%s)", asked[3], asked[1], asked[2]))); err != nil || len(result) == 0 || result[0][asked[3]] == "" {
				t.Errorf("variable %s has no values: %v, %v", v.Name, result, err)
			}
		}
	}

	recorded := map[string]bool{}
	for _, group := range readRules(t).Groups {
		for _, rule := range group.Rules {
			recorded[rule.Record] = true
			live.check(t, rule.Record+rule.Alert, rule.Expr)
			for _, name := range regexp.MustCompile(`\w+:\w+:\w+`).FindAllString(rule.Expr, -1) {
				if !recorded[name] {
					t.Errorf("%s looks at %s, which no rule before it records", rule.Record+rule.Alert, name)
				}
			}
		}
	}
	p.rules(t)
}

// series are the names and labels that a node has at a time: of each name what values each label has.
type series map[string]map[string]map[string]bool

func (n *node) series(t *testing.T) series {
	t.Helper()
	res, err := http.Get(n.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := series{"up": {}}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? [^ ]+$`).FindAllStringSubmatch(string(text), -1) {
		if all[m[1]] == nil {
			all[m[1]] = map[string]map[string]bool{}
		}
		for _, label := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
			if all[m[1]][label[1]] == nil {
				all[m[1]][label[1]] = map[string]bool{}
			}
			all[m[1]][label[1]][label[2]] = true
		}
	}
	return all
}

// check finds each metric of an expression among those of the node, with each label and each value that is
// asked for. Job and instance are Prometheus' own.
func (all series) check(t *testing.T, who, expr string) {
	t.Helper()
	found := 0
	for _, m := range regexp.MustCompile(`(?:^|[^\w:$"])((?:roadstead|go|process)_\w+|up)(?:\{([^}]*)\})?(?:$|[^\w:])`).FindAllStringSubmatch(expr, -1) {
		found++
		labels, known := all[m[1]]
		if !known {
			t.Errorf("%s looks at %s, which the node does not have", who, m[1])
		}
		for _, label := range regexp.MustCompile(`(\w+)=~?"([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
			if label[1] == "job" || label[1] == "instance" {
				continue
			}
			if labels[label[1]] == nil {
				t.Errorf("%s looks at label %s of %s, which has %q", who, label[1], m[1], slices.Sorted(maps.Keys(labels)))
			}
			for value := range strings.SplitSeq(label[2], "|") {
				if !strings.HasPrefix(value, "$") && !labels[label[1]][value] {
					t.Errorf("%s looks at %s=%q of %s, which is only ever %q", who, label[1], value, m[1], slices.Sorted(maps.Keys(labels[label[1]])))
				}
			}
		}
	}
	if found == 0 && !strings.Contains(expr, ":roadstead_") {
		t.Errorf("%s looks at nothing of ours: %s", who, expr)
	}
}

// prometheus is one that reads a node every half a second.
type prometheus struct{ url string }

func startPrometheus(t *testing.T, program string, n *node) prometheus {
	t.Helper()
	dir := t.TempDir()
	config := writeJSON(t, filepath.Join(dir, "prometheus.yml"), map[string]any{
		"global":     map[string]any{"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
		"rule_files": []string{rulesFile("alerts.yml")},
		"scrape_configs": []any{map[string]any{
			"job_name": "roadstead", "static_configs": []any{map[string]any{"targets": []string{strings.TrimPrefix(n.admin, "http://")}}},
		}},
	})
	addr := freeAddress(t)
	server := start(t, dir, "prometheus", program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--log.level=warn")
	p := prometheus{"http://" + addr}
	waitForHTTP(t, server, http.DefaultClient, p.url+"/-/ready")
	return p
}

// query returns the labels of each series of an answer.
func (p prometheus) query(expr string) (all []map[string]string, err error) {
	var answer struct {
		Error string
		Data  struct {
			ResultType string
			Result     []struct{ Metric map[string]string }
		}
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s", answer.Error)
	}
	for _, r := range answer.Data.Result {
		all = append(all, r.Metric)
	}
	return all, nil
}

func (p prometheus) get(path string, into any) error {
	res, err := http.Get(p.url + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}

// has waits until an expression is of something.
func (p prometheus) has(t *testing.T, expr string) {
	t.Helper()
	eventually(t, 30*time.Second, expr, func() bool {
		all, err := p.query(expr)
		return err == nil && len(all) > 0
	})
}

// rules waits until each rule has been evaluated, without an error, and finds that none fires: nothing is
// wrong here.
func (p prometheus) rules(t *testing.T) {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, State string }
			}
		}
	}
	eventually(t, 30*time.Second, "every rule evaluated", func() bool {
		answer.Data.Groups = nil
		if err := p.get("/api/v1/rules", &answer); err != nil || len(answer.Data.Groups) == 0 {
			return false
		}
		for _, group := range answer.Data.Groups {
			for _, rule := range group.Rules {
				if rule.Health == "unknown" {
					return false
				}
			}
		}
		return true
	})
	for _, group := range answer.Data.Groups {
		for _, rule := range group.Rules {
			if rule.Health != "ok" || rule.State == "firing" {
				t.Errorf("%s is %s and %s: %s", rule.Name, rule.Health, rule.State, rule.LastError)
			}
		}
	}
}
