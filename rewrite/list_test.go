package rewrite

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func names(listed []Listed) []string {
	var all []string
	for _, l := range listed {
		all = append(all, l.String())
	}
	return all
}

func TestListImages(t *testing.T) {
	for _, row := range []struct {
		file  string
		count int
		want  []string // in their order; more may stand between
	}{
		{"rke2-images.linux-amd64.txt", 17, []string{
			"docker.io/rancher/hardened-kubernetes:v1.34.2-rke2r1-build20251112",
			"docker.io/rancher/mirrored-pause:3.6", "docker.io/rancher/hardened-multus-cni:v4.2.3-build20251015",
		}},
		{"k3s-images.txt", 4, []string{"docker.io/rancher/klipper-lb:v0.4.13", "docker.io/rancher/local-path-provisioner:v0.0.32"}},
		{"manifests.yaml", 9, []string{
			"docker.io/library/busybox:1.36",
			"ghcr.io/team/main@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			"quay.io/team/look:latest", "quay.io/team/data:v2", "registry.example:5000/ops/night:1",
			"quay.io/prometheus/prometheus:v3.7.3", "docker.io/library/postgres:17",
			"quay.io/team/operator:v1", "quay.io/team/worker:v1",
		}},
		{"helm.yaml", 2, []string{"quay.io/jetstack/cert-manager-controller:v1.19.1", "quay.io/jetstack/cert-manager-startupapicheck:v1.19.1"}},
	} {
		text, err := os.ReadFile("testdata/lists/" + row.file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ListImages(text)
		if err != nil {
			t.Errorf("%s: %v", row.file, err)
		}
		all, at := names(got), 0
		for _, want := range row.want {
			i := slices.Index(all[at:], want)
			if i < 0 {
				t.Errorf("%s: %s is missing, or in another order, among\n%s", row.file, want, strings.Join(all, "\n"))
				continue
			}
			at += i + 1
		}
		if len(all) != row.count {
			t.Errorf("%s: %d images, want %d:\n%s", row.file, len(all), row.count, strings.Join(all, "\n"))
		}
	}
}

func TestListImagesOfOtherTexts(t *testing.T) {
	for _, row := range []struct {
		name, text, want, err string
	}{
		{"nothing", "\n# nothing\n", "", ""},
		{"a list of Windows", "\ufeffbusybox\r\nalpine:3\r\n", "docker.io/library/busybox:latest docker.io/library/alpine:3", ""},
		{"JSON with tabs", "{\n\t\"kind\": \"Pod\",\n\t\"spec\": {\"containers\": [{\"image\": \"busybox\"}]}\n}", "docker.io/library/busybox:latest", ""},
		{"names in YAML", "- busybox\n- alpine:3 # a comment\n", "docker.io/library/busybox:latest docker.io/library/alpine:3", ""},
		{"manifests in a sequence", "- kind: Pod\n  spec: {containers: [{image: a}]}\n", "docker.io/library/a:latest", ""},
		{"a wrong line", "busybox\nteam/UPPER\nalpine\n", "docker.io/library/busybox:latest docker.io/library/alpine:latest", "line 2: "},
		{"a wrong container", "kind: Pod\nspec:\n  containers:\n  - image: '{{ .Values.image }}'\n", "", "line 4: "},
		{"prose", "what is this\n", "", "line 1: \"what is this\" is no list"},
		{"broken YAML", "kind: Pod\n  spec: {\n", "", "no YAML either: yaml: line 2"},
		{"an anchor in itself", "kind: Pod\nspec: &a\n  containers:\n  - image: busybox\n    more: *a\n", "docker.io/library/busybox:latest", ""},
	} {
		got, err := ListImages([]byte(row.text))
		if all := strings.Join(names(got), " "); all != row.want {
			t.Errorf("%s: got %q, want %q", row.name, all, row.want)
		}
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: error %v, want %q", row.name, err, row.err)
		}
	}
	_, err := ListImages([]byte(strings.Repeat("UPPER\n", 30)))
	if err == nil || strings.Count(err.Error(), "\n") != mostWrong || !strings.HasSuffix(err.Error(), "and 20 more lines like that") {
		t.Errorf("thirty wrong lines: %v", err)
	}
}

func FuzzListImages(f *testing.F) {
	f.Add([]byte("kind: Pod\nspec: {containers: [{image: a}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		listed, _ := ListImages(text)
		for _, l := range listed {
			if l.Host == "" || l.Name == "" || l.Reference() == "" || l.Line < 1 {
				t.Errorf("%+v is no image", l)
			}
		}
	})
}
