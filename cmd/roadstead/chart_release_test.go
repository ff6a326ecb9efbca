package main_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A chartRelease is what the chart has been rendered as, as far as tests look at it.
type chartRelease struct {
	resources map[string]resource // by kind and name, "Service mirror"
	workload  workload
	config    string // roadstead.yaml
}

type resource struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
		Annotations     map[string]string
	}
	Spec yaml.Node
	Data map[string]string
}

// A workload is the Deployment or StatefulSet.
type workload struct {
	Replicas int
	Selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	ServiceName string `yaml:"serviceName"`
	Template    struct {
		Metadata struct{ Labels map[string]string }
		Spec     pod
	}
	Claims []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
}

type pod struct {
	Grace       int  `yaml:"terminationGracePeriodSeconds"`
	HostNetwork bool `yaml:"hostNetwork"`
	Token       any  `yaml:"automountServiceAccountToken"`
	Security    struct {
		NonRoot bool                  `yaml:"runAsNonRoot"`
		Seccomp struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Containers []container
	Volumes    []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
		Secret    struct {
			SecretName string `yaml:"secretName"`
		}
		Projected struct {
			Sources []struct {
				Secret struct {
					Items []struct{ Path string }
				}
			}
		}
	}
}

type container struct {
	Args []string
	Env  []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
			SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Startup   probe `yaml:"startupProbe"`
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	Security struct {
		Escalation   any  `yaml:"allowPrivilegeEscalation"`
		ReadOnly     bool `yaml:"readOnlyRootFilesystem"`
		Capabilities struct{ Drop []string }
	} `yaml:"securityContext"`
	Mounts []struct {
		Name string
		Path string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	Get struct {
		Path, Host string
		Port       any
	} `yaml:"httpGet"`
}

func readRelease(t *testing.T, text []byte) *chartRelease {
	t.Helper()
	r := &chartRelease{resources: map[string]resource{}}
	for _, doc := range documents(t, text) {
		var one resource
		if err := doc.Decode(&one); err != nil {
			t.Fatal(err)
		}
		r.resources[one.Kind+" "+one.Metadata.Name] = one
		switch one.Kind {
		case "Deployment", "StatefulSet":
			if r.workload.Template.Spec.Containers != nil {
				t.Fatal("there are two workloads")
			}
			if err := one.Spec.Decode(&r.workload); err != nil {
				t.Fatal(err)
			}
		case "ConfigMap":
			r.config = one.Data["roadstead.yaml"]
		}
	}
	if len(r.workload.Template.Spec.Containers) != 1 || r.config == "" {
		t.Fatalf("there is no node in\n%s", text)
	}
	return r
}

func (r *chartRelease) node() container { return r.workload.Template.Spec.Containers[0] }

// of are the resources of a kind.
func (r *chartRelease) of(kind string) (all []resource) {
	for _, name := range slices.Sorted(maps.Keys(r.resources)) {
		if r.resources[name].Kind == kind {
			all = append(all, r.resources[name])
		}
	}
	return all
}

// selects reports whether a selector takes these labels. An empty one takes nothing here.
func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// wired looks for parts that name each other and would not find each other.
func (r *chartRelease) wired(t *testing.T) {
	t.Helper()
	labels, ports := r.workload.Template.Metadata.Labels, map[any]bool{5001: true} // with hostNetwork that has no name
	for _, p := range r.node().Ports {
		ports[p.Name] = true
	}
	if !selects(r.workload.Selector.MatchLabels, labels) {
		t.Errorf("the workload selects %v, and its pods are %v", r.workload.Selector.MatchLabels, labels)
	}
	services := map[string][]string{} // their ports' names
	for _, service := range r.of("Service") {
		var spec struct {
			Selector map[string]string
			Ports    []struct {
				Name       string
				TargetPort any `yaml:"targetPort"`
			}
		}
		if err := service.Spec.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		if !selects(spec.Selector, labels) {
			t.Errorf("service %s selects %v, and pods are %v", service.Metadata.Name, spec.Selector, labels)
		}
		for _, other := range r.of("Pod") {
			if selects(spec.Selector, other.Metadata.Labels) || selects(r.workload.Selector.MatchLabels, other.Metadata.Labels) {
				t.Errorf("service %s selects the pod of the test", service.Metadata.Name)
			}
		}
		for _, p := range spec.Ports {
			if !ports[p.TargetPort] {
				t.Errorf("service %s leads to port %v, which no pod has", service.Metadata.Name, p.TargetPort)
			}
			services[service.Metadata.Name] = append(services[service.Metadata.Name], p.Name)
		}
	}
	if name := r.workload.ServiceName; name != "" && services[name] == nil {
		t.Errorf("the StatefulSet's service %s is not there", name)
	}
	for _, ingress := range r.of("Ingress") {
		for _, m := range regexp.MustCompile(`name: (\S+)\n *port: *\n? *\{? *name: (\w+)`).FindAllStringSubmatch(yamlText(t, &ingress.Spec), -1) {
			if !slices.Contains(services[m[1]], m[2]) {
				t.Errorf("the ingress leads to %s of %s, and there is %v", m[2], m[1], services)
			}
		}
	}
	for _, monitor := range r.of("ServiceMonitor") {
		var spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Endpoints []struct{ Port string }
		}
		if err := monitor.Spec.Decode(&spec); err != nil {
			t.Fatal(err)
		}
		for _, service := range r.of("Service") {
			watched, isMetrics := selects(spec.Selector.MatchLabels, service.Metadata.Labels), strings.HasSuffix(service.Metadata.Name, "-metrics")
			if watched != isMetrics || watched && !slices.Contains(services[service.Metadata.Name], spec.Endpoints[0].Port) {
				t.Errorf("Prometheus watches %s: %v", service.Metadata.Name, watched)
			}
		}
	}
	for _, kind := range []string{"PodDisruptionBudget", "NetworkPolicy"} {
		for _, one := range r.of(kind) {
			for _, m := range regexp.MustCompile(`(?:port|app\.kubernetes\.io/component): ([a-z]+)`).FindAllStringSubmatch(yamlText(t, &one.Spec), -1) {
				if !ports[m[1]] {
					t.Errorf("%s names %s, which pods do not have", kind, m[1])
				}
			}
		}
	}
	for _, p := range []probe{r.node().Startup, r.node().Liveness, r.node().Readiness} {
		if !ports[p.Get.Port] || r.workload.Template.Spec.HostNetwork != (p.Get.Host == "127.0.0.1") {
			t.Errorf("a probe asks %+v", p.Get)
		}
	}
	r.mounted(t)
}

// mounted looks at volumes, and whether the files that the configuration names are in them.
func (r *chartRelease) mounted(t *testing.T) {
	t.Helper()
	volumes := map[string][]string{} // the files in it, as far as they are known
	for _, claim := range r.workload.Claims {
		volumes[claim.Metadata.Name] = nil
	}
	for _, v := range r.workload.Template.Spec.Volumes {
		if _, twice := volumes[v.Name]; twice {
			t.Errorf("volume %s is there twice", v.Name)
		}
		volumes[v.Name] = nil
		if name := v.ConfigMap.Name; v.Name == "config" && r.resources["ConfigMap "+name].Data == nil {
			t.Errorf("there is no ConfigMap %s", name)
		}
		if v.Secret.SecretName != "" {
			volumes[v.Name] = []string{"*"}
		}
		for _, source := range v.Projected.Sources {
			for _, item := range source.Secret.Items {
				volumes[v.Name] = append(volumes[v.Name], item.Path)
			}
		}
	}
	files, mounts := []string{}, map[string]bool{}
	for _, m := range r.node().Mounts {
		within, ok := volumes[m.Name]
		if !ok || mounts[m.Path] {
			t.Errorf("%s is mounted at %s, and volumes are %v", m.Name, m.Path, volumes)
		}
		mounts[m.Path] = true
		for _, file := range within {
			files = append(files, path.Join(m.Path, file))
		}
		delete(volumes, m.Name)
	}
	if len(volumes) > 0 {
		t.Errorf("nobody mounts %v", volumes)
	}
	for _, file := range r.secretFiles() {
		if !slices.ContainsFunc(files, func(pattern string) bool { ok, _ := path.Match(pattern, file); return ok }) {
			t.Errorf("the configuration names %s, and there are %q", file, files)
		}
	}
}

// secretFiles are the files of Secrets that the configuration names.
func (r *chartRelease) secretFiles() []string {
	return regexp.MustCompile(`/run/secrets/[a-z0-9./-]+`).FindAllString(r.config, -1)
}

// confined looks for privileges.
func (r *chartRelease) confined(t *testing.T) {
	t.Helper()
	node, pod := r.node(), r.workload.Template.Spec
	if s := node.Security; s.Escalation != false || !s.ReadOnly || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("the container may do more than it has to: %+v", s)
	}
	if !pod.Security.NonRoot || pod.Security.Seccomp.Type != "RuntimeDefault" || pod.Token != false {
		t.Errorf("the pod may do more than it has to: %+v, token %v", pod.Security, pod.Token)
	}
	var drain int
	if _, err := fmt.Sscanf(r.setting(t, "drain").(string), "%ds", &drain); err != nil || pod.Grace <= drain+node.Lifecycle.PreStop.Sleep.Seconds {
		t.Errorf("requests may take %d s to end after %d s, and it is killed after %d s", drain, node.Lifecycle.PreStop.Sleep.Seconds, pod.Grace)
	}
	if len(r.of("Secret")) > 0 || len(r.of("Role")) > 0 || len(r.of("ClusterRole")) > 0 {
		t.Error("the chart makes Secrets or roles")
	}
}

func (r *chartRelease) setting(t *testing.T, key string) any {
	t.Helper()
	var config map[string]any
	if err := yaml.Unmarshal([]byte(r.config), &config); err != nil {
		t.Fatal(err)
	}
	return config[key]
}

// settle writes the configuration below a directory, with each file that it names, and returns its name and
// the environment of the container. change is what it says otherwise here.
func (r *chartRelease) settle(t *testing.T, dir string, change map[string]any) (file string, env []string) {
	t.Helper()
	cert := newCertificate(t, dir)
	pem := func(name string) []byte {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	text := r.config
	for _, secret := range r.secretFiles() {
		content := []byte(strings.Repeat("0123456789abcdef", 4) + "Aa1\n")
		switch name := path.Base(secret); {
		case strings.HasSuffix(name, ".key"):
			content = pem(cert.key)
		case strings.HasSuffix(name, ".crt"), strings.HasSuffix(name, "-ca"):
			content = pem(cert.file)
		}
		here := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(secret, "/"), "/", "_"))
		if err := os.WriteFile(here, content, 0o600); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, secret, here)
	}
	var config map[string]any
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	maps.Copy(config, change)
	if change != nil {
		text = yamlText(t, config)
	}
	file = filepath.Join(dir, "roadstead.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range r.node().Env {
		value := v.Value
		switch {
		case v.ValueFrom.FieldRef.FieldPath == "status.podIP":
			value = "10.42.0.7"
			if strings.Contains(text, "[${POD_IP}]") {
				value = "fd00:42::7"
			}
		case v.ValueFrom.FieldRef.FieldPath == "metadata.name":
			value = "mirror-roadstead-7d9f4c-x2x4z"
		case v.ValueFrom.SecretKeyRef.Name != "":
			value = "of a Secret"
		}
		env = append(env, v.Name+"="+value)
	}
	return file, env
}

// checked has roadstead look at the configuration, with no other environment than the container's.
func (r *chartRelease) checked(t *testing.T) {
	t.Helper()
	dir := shortDir(t)
	file, env := r.settle(t, dir, nil)
	out, err := try(environment(dir, env...), roadsteadCommand(t), "check", "--config", file)
	if err != nil {
		t.Errorf("%v; the configuration is\n%s", err, r.config)
	}
	admin := ":5001"
	if r.workload.Template.Spec.HostNetwork {
		admin = "127.0.0.1:5001"
	}
	want := []string{"registry  :5000,", "admin     " + admin}
	if len(r.of("Deployment")) > 0 {
		want = append(want, "catalog   postgres://", "cluster   :5002, other nodes reach this one at https://")
	}
	for _, line := range want {
		if !bytes.Contains(out, []byte("\n"+line)) {
			t.Errorf("roadstead understands\n%s\nand not %q", out, line)
		}
	}
}

func yamlText(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
