package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// With -update-chart what follows from the chart is written: its rendered examples, its copy of the
// alert rules, and what RKE2 and K3s are given.
var updateChart = flag.Bool("update-chart", false, "write what the Helm chart is rendered as into the files that say what it should be")

func chartFolder() string { return filepath.Join(moduleRoot(), "deploy", "helm", "roadstead") }

// chartExamples are the sets of values that the chart documents, by their names.
func chartExamples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartFolder(), "examples", "*.yaml"))
	if err != nil || len(files) < 7 {
		t.Fatalf("the examples of the chart are %q, %v", files, err)
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(filepath.Base(file), ".yaml")
	}
	return files
}

func valuesFile(example string) string {
	return filepath.Join(chartFolder(), "examples", example+".yaml")
}

// helmTemplate renders a chart, as release mirror in the namespace registry.
func helmTemplate(t *testing.T, chart string, args ...string) ([]byte, error) {
	t.Helper()
	return try(environment(shortDir(t)), need(t, "helm"), append([]string{"template", "mirror", chart, "--namespace", "registry"}, args...)...)
}

// same compares a file with what it should say, or with -update-chart has it say that.
func same(t *testing.T, file, want string) {
	t.Helper()
	if *updateChart {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(want), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	is, should := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	line := 0
	for line < min(len(is), len(should))-1 && is[line] == should[line] {
		line++
	}
	t.Errorf("%s:%d says %q and not %q; if that is meant: go test ./cmd/roadstead -run Chart -update-chart", file, line+1, is[line], should[line])
}

// Each example is rendered as the file beside it says, which people have read; Kubernetes and the
// operators understand all of it; its parts find each other; and roadstead understands its configuration.
func TestChartRendersItsExamples(t *testing.T) {
	e2e(t)
	helm := need(t, "helm")
	run(t, environment(shortDir(t)), helm, "lint", "--strict", "--quiet", chartFolder())
	run(t, environment(shortDir(t)), helm, "lint", "--strict", "--quiet", chartFolder(), "--values", valuesFile("cluster"))
	var files []string
	for _, example := range chartExamples(t) {
		text, err := helmTemplate(t, chartFolder(), "--values", valuesFile(example))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(chartFolder(), "examples", "rendered", example+".yaml")
		same(t, file, string(text))
		files = append(files, file)
		t.Run(example, func(t *testing.T) {
			r := readRelease(t, text)
			r.wired(t)
			r.confined(t)
			r.checked(t)
		})
	}
	conform(t, append(files, overrides(t))...)
}

// overrides is a file with the pod that the chart's README has people run.
func overrides(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartFolder(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "--overrides='")
	over, _, _ := strings.Cut(after, "'\n")
	var pod map[string]any
	if err := json.Unmarshal([]byte(over), &pod); err != nil {
		t.Fatalf("%v in %q", err, over)
	}
	maps.Copy(pod, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "adopt"}})
	return writeJSON(t, filepath.Join(shortDir(t), "pod.json"), pod)
}

// Each value is set by an example, so that all are rendered, and explained in the README.
func TestChartExamplesHaveEveryValue(t *testing.T) {
	set := map[string]bool{}
	for _, example := range chartExamples(t) {
		maps.Copy(set, leaves(readYAML(t, valuesFile(example)), ""))
	}
	text, err := os.ReadFile(filepath.Join(chartFolder(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^[|] (`[^|]*`) [|]").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = true
		}
	}
	values := map[string]bool{}
	for path := range leaves(readYAML(t, filepath.Join(chartFolder(), "values.yaml")), "") {
		for _, whole := range []string{"ingress.annotations", "podSecurityContext", "securityContext"} { // of Kubernetes' own keys
			if strings.HasPrefix(path, whole+".") {
				path = whole
			}
		}
		values[path] = true
	}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		if under := func(name string) bool {
			return name == path || strings.HasPrefix(name, path+".") || strings.HasPrefix(path, name+".")
		}; !has(set, under) {
			t.Errorf("%s is set by no example", path)
		}
		if !has(documented, func(name string) bool { return name == path || strings.HasPrefix(path, name+".") }) {
			t.Errorf("%s is not in the chart's README", path)
		}
	}
	for name := range documented {
		if !has(values, func(path string) bool { return name == path || strings.HasPrefix(path, name+".") }) {
			t.Errorf("the chart's README has %s, and values.yaml has not", name)
		}
	}
	if len(values) < 90 {
		t.Errorf("only %d values were found", len(values))
	}
}

func has(all map[string]bool, is func(string) bool) bool {
	for name := range all {
		if is(name) {
			return true
		}
	}
	return false
}

// leaves are the paths of the values in a mapping that are no mappings with something in them.
func leaves(values map[string]any, under string) map[string]bool {
	all := map[string]bool{}
	for key, value := range values {
		if below, ok := value.(map[string]any); ok && len(below) > 0 {
			maps.Copy(all, leaves(below, under+key+"."))
			continue
		}
		all[under+key] = true
	}
	return all
}

func readYAML(t *testing.T, file string) (values map[string]any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return values
}

// The chart has its own copy of the alert rules, because Helm reads nothing outside of a chart.
func TestChartHasTheAlertRules(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(moduleRoot(), "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(chartFolder(), "files", "alerts.yml"), string(rules))
}

// What is wrong with values is said with the name of the value and what to write instead.
func TestChartRefusesValues(t *testing.T) {
	e2e(t)
	const cluster = "mode: cluster\ns3: { bucket: images }\npostgresql: { host: db }\ncluster: { existingSecret: nodes }\n"
	for name, c := range map[string]struct {
		values string
		want   []string // of the lines that are said, the whole of each or its beginning
	}{
		"one by one": {`
mode: ha
replicas: -1
image: { tag: "a b", digest: sha256:0, pullPolicy: Sometimes, name: x }
tls: { existingSecret: Mirror_TLS }
persistence: { size: 100, accessModes: [ReadOnlyMany] }
scratch: { type: hostPath }
hot: { size: 20 }
s3: { bucket: Images }
postgresql: { port: 0, sslmode: on }
service: { type: ExternalName, nodePort: 70000 }
ingress: { enabled: "yes" }
drainSeconds: 60s
podDisruptionBudget: { maxUnavailable: 0 }
antiAffinity: soft
topologySpreadConstraints: zone
serviceMonitor: { interval: 30 }
secretMounts: [a/b]
presistence: {}
`, []string{
			"at '/mode': value must be one of 'single', 'cluster'",
			"at '/replicas': minimum: got -1, want 0",
			"at '/image': additional properties 'name' not allowed",
			"at '/image/tag': 'a b' does not match pattern",
			"at '/image/digest': 'sha256:0' does not match pattern",
			"at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
			"at '/tls/existingSecret': 'Mirror_TLS' does not match pattern",
			"at '/persistence/size': got number, want string",
			"at '/persistence/accessModes/0': value must be one of 'ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany'",
			"at '/scratch/type': value must be one of 'emptyDir', 'ephemeral'",
			"at '/hot/size': maximum: got 20, want 0",
			"at '/s3/bucket': 'Images' does not match pattern",
			"at '/postgresql/port': minimum: got 0, want 1",
			"at '/postgresql/sslmode': value must be one of 'disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'",
			"at '/service/type': value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'",
			"at '/service/nodePort': maximum: got 70,000, want 65,535",
			"at '/ingress/enabled': got string, want boolean",
			"at '/drainSeconds': got string, want integer",
			"at '/podDisruptionBudget/maxUnavailable': minimum: got 0, want 1",
			"at '/antiAffinity': value must be one of 'preferred', 'required', 'none'",
			"at '/topologySpreadConstraints': got string, want null or array",
			"at '/serviceMonitor/interval': got number, want string",
			"at '/secretMounts/0': 'a/b' does not match pattern",
			"at '': additional properties 'presistence' not allowed",
		}},
		"words": {`
url: mirror.example.com/v2
persistence: { size: 100G, maxSize: 80% }
scratch: { size: 0Gi }
hot: { size: 20% }
s3: { bucket: images, endpoint: "s3://s3.example.com:9000" }
postgresql: { host: db, parameters: { password: hunter2, sslmode: disable } }
cluster: { address: "https://${POD_IP}:5003" }
ingress: { enabled: true, host: "https://mirror.example.com" }
resources: { limits: { memory: 1.5Gi } }
`, []string{
			`url: "mirror.example.com/v2" is not the URL of a server; write scheme and host, such as "https://mirror.example.com"`,
			`persistence.size: "100G" is no size that is understood here; write a whole number and a unit, such as 512Mi, 100Gi or 2Ti`,
			`persistence.maxSize: "80%" is no size that is understood here`,
			`persistence.maxSize: content is in the bucket; set config.storage.max_size for a bound of that, or remove the line`,
			`scratch.size: "0Gi" is no size that is understood here`,
			`hot.size: "20%" is no size that is understood here`,
			`s3.endpoint: "s3://s3.example.com:9000" is not the URL of a server; write scheme and host, such as "https://s3.example.com:9000"`,
			`postgresql.parameters.password: set postgresql.existingSecret instead`,
			`postgresql.parameters.sslmode: set postgresql.sslmode instead`,
			`cluster.address: "https://${POD_IP}:5003" is not where nodes listen; write https://${POD_IP}:5002, or https://[${POD_IP}]:5002 with IPv6`,
			`ingress.host: "https://mirror.example.com" is not a name; write it in lower case without scheme and port, such as mirror.example.com`,
			`resources.limits.memory: "1.5Gi" is no size that is understood here`,
		}},
		"a single node": {`
replicas: 3
hostNetwork: true
serviceMonitor: { enabled: true }
s3: { accessKey: roadstead, caSecret: authority, endpoint: "https://s3.example.com" }
postgresql: { existingSecret: catalog }
tls: { existingSecret: mirror }
ingress: { enabled: false, tls: { existingSecret: mirror } }
service: { nodePort: 30500, loadBalancerClass: metallb, externalTrafficPolicy: Local }
secretMounts: [roadstead]
config:
  listen: ":80"
  admin: ""
  cluster: {}
  tls: { certificate: a, key: b }
  storage: { directory: /srv, s3: { bucket: images }, max_size: 1GiB }
  oidc: { client_secret: hunter2 }
  projects: { quay.io: { username: robot, password: hunter2 }, ghcr.io: { username: robot, password: "${GHCR}" } }
`, []string{
			"replicas: 3 nodes cannot share the volume of mode: single; set mode: cluster with s3.bucket and postgresql.host, or replicas: 1",
			"serviceMonitor.enabled: with hostNetwork: true metrics are for the node itself, because they would be for everybody who reaches it; set one of the two to false",
			"s3.accessKey: is there without its secret key; name the Secret that has it as s3.existingSecret, or remove the line for the IAM role of the service account",
			"s3.caSecret: there is no bucket that it is for; name s3.bucket, or remove the line",
			"s3.endpoint: there is no bucket that it is for; name s3.bucket, or remove the line",
			"postgresql.existingSecret: there is no database that it is for; name postgresql.host, or remove the line",
			"ingress.tls.existingSecret: the registry speaks TLS itself by tls.existingSecret; set one of the two: the former where the ingress ends TLS, the latter where it passes TLS on",
			"ingress.tls.existingSecret: there is no ingress; set ingress.enabled: true, or tls.existingSecret for a registry that speaks TLS itself",
			"service.nodePort: 30500 is of no use with service.type: ClusterIP; set NodePort or LoadBalancer, or remove the line",
			"service.loadBalancerClass, service.loadBalancerSourceRanges: are for service.type: LoadBalancer, and that is ClusterIP",
			"service.externalTrafficPolicy: is for service.type: NodePort or LoadBalancer; remove the line",
			"config.admin: the chart writes it; set serviceMonitor instead",
			"config.cluster: the chart writes it; set cluster instead",
			"config.listen: the chart writes it; set service.port instead",
			"config.storage.directory: the chart writes it; set persistence or scratch instead",
			"config.storage.s3: the chart writes it; set s3 instead",
			"config.tls: the chart writes it; set tls.existingSecret instead",
			"config.projects.quay.io.password: would be for everybody to read in a ConfigMap; keep it in a Secret that secretMounts names, and write password_file: /run/secrets/SECRET/KEY",
			"config.oidc.client_secret: would be for everybody to read in a ConfigMap; keep it in a Secret that secretMounts names, and write client_secret_file: /run/secrets/SECRET/KEY",
			"url: whoever signs in by config.oidc is sent back to it; write the name that people use, such as https://mirror.example.com",
			"secretMounts: /run/secrets/roadstead is the chart's own folder; give the Secret another name",
		}},
		"an empty cluster": {"mode: cluster\nhostNetwork: true\n", []string{
			"s3.bucket: the nodes of mode: cluster have their content in one bucket; name it, or set mode: single",
			"postgresql.host: the nodes of mode: cluster have their catalog in one PostgreSQL; name its host, or set mode: single",
			`cluster.existingSecret: the nodes of mode: cluster know each other by a secret; make one with "kubectl create secret generic roadstead-cluster --namespace registry --from-literal=secret=$(openssl rand -hex 32)", and name it`,
			"hostNetwork: is for mode: single; the nodes of mode: cluster reach each other by the network of pods",
		}},
		"a cluster": {cluster + `
scratch: { size: 20Gi }
persistence: { maxSize: 10Gi }
ingress: { enabled: true }
`, []string{
			"hot.size: copies of 16Gi leave too little of scratch.size 20Gi for what is on its way in; set at most three quarters of it",
			"persistence.maxSize: content is in the bucket; set config.storage.max_size for a bound of that, or remove the line",
			"ingress.host: is empty; write the name that clients use, such as mirror.example.com",
		}},
		"keys of the bucket twice": {cluster + "s3: { bucket: images, extra: { secret_key: x, region: y } }\n", []string{
			"s3.extra.region: set s3.region instead",
			"s3.extra.secret_key: set s3.existingSecret instead",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(shortDir(t), "values.yaml")
			if err := os.WriteFile(file, []byte(lastKeys(t, c.values)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := helmTemplate(t, chartFolder(), "--values", file)
			if err == nil {
				t.Fatalf("rendered as\n%s", out)
			}
			said := map[string]bool{}
			for line := range strings.Lines(err.Error()) {
				line, found := strings.CutPrefix(strings.TrimSpace(line), "- ")
				if found && !strings.HasSuffix(line, ": validation failed") { // of which the lines below say more
					said[line] = true
				}
			}
			for _, want := range c.want {
				found := ""
				for line := range said {
					if strings.HasPrefix(line, want) {
						found = line
					}
				}
				if found == "" {
					t.Errorf("nothing is said of %q", want)
				}
				delete(said, found)
			}
			for line := range said {
				t.Errorf("it also says %q", line)
			}
			if t.Failed() {
				t.Log(err)
			}
		})
	}
}

// lastKeys has the last of several keys of the same name count, as with several files of values.
func lastKeys(t *testing.T, text string) string {
	t.Helper()
	all := map[string]any{}
	for _, part := range regexp.MustCompile(`(?m)^[a-zA-Z0-9]+:.*\n([ #].*\n)*`).FindAllString(text, -1) {
		var one map[string]any
		if err := yaml.Unmarshal([]byte(part), &one); err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		maps.Copy(all, one)
	}
	out, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// documents are those of a stream of YAML that have something in them.
func documents(t *testing.T, text []byte) (all []yaml.Node) {
	t.Helper()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(fmt.Errorf("%w in\n%s", err, text))
		case len(doc.Content) == 1 && doc.Content[0].Kind == yaml.MappingNode:
			all = append(all, doc)
		}
	}
}
