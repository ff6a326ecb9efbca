package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// helmWorks logs in, and pushes and pulls a chart, which comes back byte for byte.
func helmWorks(t *testing.T, n, wrong *node, seed uint64, project string) {
	login := func(h *hand) error {
		return h.try(t, "helm", append(h.choose("registry login --plain-http", "registry login --ca-file=%s"), "-u", h.who.name, "-p", h.who.secret, h.addr)...)
	}
	if err := login(newHand(t, wrong)); err == nil {
		t.Error("helm logs in with a wrong password")
	}
	h := newHand(t, n)
	if err := login(h); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("chart-%d", seed)
	source := filepath.Join(h.home, name)
	for path, text := range map[string]string{
		"Chart.yaml":               "apiVersion: v2\nname: " + name + "\nversion: 1.2.3\n",
		"values.yaml":              "replicas: 3\n",
		"templates/configmap.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  replicas: \"{{ .Values.replicas }}\"\n",
	} {
		path = filepath.Join(source, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.run(t, "helm", "package", source, "--destination", h.home)
	chart := filepath.Join(h.home, name+"-1.2.3.tgz")
	packed, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	h.run(t, "helm", append(h.choose("push --plain-http", "push --ca-file=%s"), chart, "oci://"+n.addr+"/"+project+"/charts")...)

	// Pulled by somebody with an empty cache.
	h = newHand(t, n)
	if err := login(h); err != nil {
		t.Fatal(err)
	}
	of := "oci://" + n.addr + "/" + project + "/charts/" + name
	h.run(t, "helm", append(h.choose("pull --plain-http", "pull --ca-file=%s"), of, "--version", "1.2.3", "--destination", h.home)...)
	got, err := os.ReadFile(filepath.Join(h.home, name+"-1.2.3.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, packed) {
		t.Error("helm has pulled another chart than it had pushed")
	}
	out := h.run(t, "helm", append(h.choose("template --plain-http", "template --ca-file=%s"), "demo", of, "--version", "1.2.3")...)
	if !bytes.Contains(out, []byte(`replicas: "3"`)) {
		t.Errorf("helm renders the chart as %s", out)
	}
}
