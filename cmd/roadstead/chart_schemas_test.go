package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// conform has kubeconform look at manifests by what Kubernetes itself says of its resources, and the
// operators of theirs. Keys that are not known are mistakes, and so are resources of which nothing is.
func conform(t *testing.T, files ...string) {
	t.Helper()
	dir := chartSchemas(t)
	if out, err := kubeconform(t, dir, files...); err != nil {
		t.Error(err)
	} else if !strings.Contains(string(out), fmt.Sprintf("found in %d files", len(files))) || !strings.Contains(string(out), "Invalid: 0, Errors: 0, Skipped: 0") {
		t.Errorf("kubeconform has looked at something else:\n%s", out)
	}
}

// kubeconform sees mistakes by these schemas: one of each kind, where the chart could make them.
func TestChartSchemasSeeMistakes(t *testing.T) {
	e2e(t)
	dir := chartSchemas(t)
	const good = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: a }\nspec:\n  selector: { matchLabels: { a: b } }\n  template:\n    metadata: { labels: { a: b } }\n    spec:\n      containers: [{ name: a, image: b }]\n"
	const watched = "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: { name: a }\nspec: { selector: {}, endpoints: [{ port: admin }] }\n"
	for i, mistake := range []struct{ text, is, becomes, want string }{
		{good, "", "", ""},
		{watched, "", "", ""},
		{good, "name: a, image: b", "name: a, imagePullPolice: Always", "additional properties 'imagePullPolice' not allowed"},
		{good, "  selector: { matchLabels: { a: b } }\n", "", "missing property 'selector'"},
		{good, "spec:\n  selector", "spec:\n  replicas: two\n  selector", "got string, want null or integer"},
		{good, "name: a, image: b", "name: a, ports: [{ name: http }]", "missing property 'containerPort'"},
		{good, "metadata: { name: a }", "metadata: { name: a, label: {} }", "additional properties 'label' not allowed"},
		{watched, "port: admin", "port: 5001", "got number, want null or string"},
		{watched, "port: admin", "interval: 30x", "does not match pattern"},
		{watched, "metadata: { name: a }", "metadata: { name: a, label: {} }", "additional properties 'label' not allowed"},
		{watched, "ServiceMonitor", "PodMonitor", "could not find schema"},
	} {
		file := filepath.Join(dir, fmt.Sprintf("mistake-%d.yaml", i))
		text := strings.Replace(mistake.text, mistake.is, mistake.becomes, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := kubeconform(t, dir, file)
		if mistake.want == "" && err != nil {
			t.Error(err)
		} else if mistake.want != "" && (err == nil || !strings.Contains(err.Error(), mistake.want)) {
			t.Errorf("of\n%s\nkubeconform says %v, %s, and not %q", text, err, out, mistake.want)
		}
	}
}

func kubeconform(t *testing.T, schemas string, files ...string) ([]byte, error) {
	t.Helper()
	args := append([]string{"-strict", "-summary", "-schema-location", schemas + "/{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"}, files...)
	return try(environment(schemas), need(t, "kubeconform"), args...)
}

// chartSchemas makes JSON schemas, as kubeconform reads them, of the resources that the chart has.
func chartSchemas(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	write := func(group, version, kind string, schema map[string]any) {
		writeJSON(t, filepath.Join(dir, strings.ToLower(group+"_"+version+"_"+kind)+".json"), strict(schema))
	}
	var api struct{ Definitions map[string]map[string]any }
	if err := json.Unmarshal(schemaFile(t, "kubernetes.json"), &api); err != nil {
		t.Fatal(err)
	}
	const prefix = "io.k8s.api."
	for _, name := range []string{
		"core.v1.ConfigMap", "core.v1.PersistentVolume", "core.v1.Pod", "core.v1.Service", "core.v1.ServiceAccount",
		"apps.v1.Deployment", "apps.v1.StatefulSet", "networking.v1.Ingress", "networking.v1.NetworkPolicy", "policy.v1.PodDisruptionBudget",
	} {
		if api.Definitions[prefix+name] == nil {
			t.Fatalf("Kubernetes has no %s", name)
		}
		at := strings.Split(name, ".")
		group := map[string]string{"core": "v1", "networking": "networking.k8s.io"}[at[0]]
		if group == "" {
			group = at[0]
		}
		all := map[string]any{}
		closure(api.Definitions, prefix+name, all)
		write(group, at[1], at[2], map[string]any{"$ref": "#/definitions/" + prefix + name, "definitions": all})
	}
	const meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
	about := map[string]any{}
	closure(api.Definitions, meta, about)
	for _, file := range []string{"servicemonitors.yaml", "prometheusrules.yaml", "helmcharts.yaml", "helmchartconfigs.yaml"} {
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPI map[string]any `yaml:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := yaml.Unmarshal(schemaFile(t, file), &crd); err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			schema := v.Schema.OpenAPI
			schema["properties"].(map[string]any)["metadata"] = map[string]any{"$ref": "#/definitions/" + meta}
			schema["definitions"] = about
			write(crd.Spec.Group, v.Name, crd.Spec.Names.Kind, schema)
		}
	}
	return dir
}

func schemaFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot(), ".tools", "schemas", name))
	if err != nil {
		lack(t, "%v; .ci/tools fetches it", err)
	}
	return text
}

// closure adds a definition and all that it refers to.
func closure(from map[string]map[string]any, name string, all map[string]any) {
	if all[name] != nil {
		return
	}
	all[name] = from[name]
	walk(from[name], func(m map[string]any) {
		if ref, ok := m["$ref"].(string); ok {
			closure(from, strings.TrimPrefix(ref, "#/definitions/"), all)
		}
	})
}

// strict changes a schema of OpenAPI into one of JSON that knows no keys but those it names, as the API
// server with strict validation does, and takes a null for what is left out.
func strict(schema map[string]any) map[string]any {
	walk(schema, func(m map[string]any) {
		if _, open := m["additionalProperties"]; m["properties"] != nil && !open && m["x-kubernetes-preserve-unknown-fields"] != true {
			if _, closed := m["properties"].(map[string]any); closed && m["type"] == "object" {
				m["additionalProperties"] = false
			}
		}
		switch {
		case m["x-kubernetes-int-or-string"] == true || m["format"] == "int-or-string":
			m["type"] = []string{"integer", "string"}
		case strings.HasPrefix(fmt.Sprint(m["description"]), "Quantity is a fixed-point representation"):
			m["type"] = []string{"number", "string"}
		case m["type"] == "object" || m["type"] == "array" || m["type"] == "string" || m["type"] == "integer" || m["type"] == "boolean":
			m["type"] = []any{"null", m["type"]}
		}
		delete(m, "format") // of numbers and times, which JSON's schemas call otherwise
	})
	return schema
}

// walk visits the schemas in a schema, each once. A property may have the name of a keyword.
func walk(schema any, visit func(map[string]any)) {
	m, ok := schema.(map[string]any)
	if !ok {
		return
	}
	visit(m)
	for _, key := range []string{"properties", "definitions"} {
		below, _ := m[key].(map[string]any)
		for _, one := range below {
			walk(one, visit)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		walk(m[key], visit)
	}
	for _, key := range []string{"allOf", "anyOf", "oneOf"} {
		list, _ := m[key].([]any)
		for _, one := range list {
			walk(one, visit)
		}
	}
}
