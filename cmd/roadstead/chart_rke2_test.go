package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func rke2Folder() string { return filepath.Join(moduleRoot(), "deploy", "rke2") }

// rke2Manifest is what RKE2 and K3s apply, but for the chart and its values.
const rke2Manifest = `# Roadstead in the cluster that pulls through it, for RKE2 and K3s: see README.md beside this file.
#
#     install -d -o 65532 -g 65532 /var/lib/roadstead                          # on the node that has the label
#     cp roadstead-chart.yaml /var/lib/rancher/rke2/server/manifests/          # K3s: /var/lib/rancher/k3s/…
#
# Made of deploy/helm/roadstead by "go test ./cmd/roadstead -run Chart -update-chart". Leave it as it is, so that
# the next one can take its place: values of your own go into a HelmChartConfig, as README.md shows.
apiVersion: v1
kind: PersistentVolume
metadata:
  name: roadstead
spec:
  # A directory has no size: persistence.size of the chart is what bounds it.
  capacity: { storage: 100Gi }
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: roadstead
  claimRef: { namespace: roadstead, name: data-roadstead-0 }
  local: { path: /var/lib/roadstead }
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{ key: roadstead, operator: In, values: [content] }]
---
apiVersion: helm.cattle.io/v1
kind: HelmChart
metadata:
  name: roadstead
  namespace: kube-system
spec:
  targetNamespace: roadstead
  createNamespace: true
  valuesContent: |-
%s  chartContent: %s
`

// What RKE2 and K3s are given is the chart as it is here, with the values of its example; the volume is the
// one that it claims; and nodes are told to pull where it is.
func TestChartForRKE2(t *testing.T) {
	e2e(t)
	values, err := os.ReadFile(valuesFile("rke2"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(rke2Folder(), "roadstead-chart.yaml")
	var chart struct {
		Spec struct {
			TargetNamespace string `yaml:"targetNamespace"`
			ChartContent    string `yaml:"chartContent"`
			ValuesContent   string `yaml:"valuesContent"`
		}
	}
	text, err := os.ReadFile(file)
	if err != nil && !*updateChart {
		t.Fatal(err)
	}
	var packed []byte
	for _, doc := range documents(t, text) {
		if err := doc.Decode(&chart); err != nil {
			t.Fatal(err)
		}
		if packed, err = base64.StdEncoding.DecodeString(chart.Spec.ChartContent); err != nil {
			t.Fatal(err)
		}
	}
	// Compressed anew the same files are other bytes with another version of Go.
	if is, want := unpackChart(t, packed), chartFiles(t); !maps.Equal(is, want) {
		packed = packChart(t, want)
		if !*updateChart {
			t.Error("the chart in it is another one than that in deploy/helm; write it by: go test ./cmd/roadstead -run Chart -update-chart")
		}
	}
	indented := regexp.MustCompile(`(?m)^`).ReplaceAllString(string(values), "    ")
	want := fmt.Sprintf(rke2Manifest, strings.TrimSuffix(indented, "    "), base64.StdEncoding.EncodeToString(packed))
	same(t, file, want)

	// Helm takes the archive, and renders it as the folder.
	archive := filepath.Join(shortDir(t), "roadstead.tgz")
	if err := os.WriteFile(archive, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := try(environment(shortDir(t)), need(t, "helm"), "template", "roadstead", archive, "--namespace", "roadstead", "--values", valuesFile("rke2"))
	if err != nil {
		t.Fatal(err)
	}
	r := readRelease(t, out)
	r.wired(t)
	var volume, claims struct {
		Spec struct {
			StorageClass string                `yaml:"storageClassName"`
			ClaimRef     struct{ Name string } `yaml:"claimRef"`
			Capacity     struct{ Storage string }
			Claims       []struct {
				Spec struct {
					StorageClass string `yaml:"storageClassName"`
					Resources    struct{ Requests struct{ Storage string } }
				}
			} `yaml:"volumeClaimTemplates"`
		}
	}
	if err := documents(t, []byte(want))[0].Decode(&volume); err != nil {
		t.Fatal(err)
	}
	set := r.of("StatefulSet")[0]
	if err := set.Spec.Decode(&claims.Spec); err != nil {
		t.Fatal(err)
	}
	claim := claims.Spec.Claims[0].Spec
	if v := volume.Spec; v.ClaimRef.Name != "data-"+set.Metadata.Name+"-0" || v.StorageClass != claim.StorageClass || v.Capacity.Storage != claim.Resources.Requests.Storage {
		t.Errorf("the volume is %+v, and claimed is %+v", v, claim)
	}
	r.pointedTo(t)

	// The values of its own that the README gives as an example are understood, and that resource is.
	page, err := os.ReadFile(filepath.Join(rke2Folder(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(page), "```yaml\napiVersion: helm.cattle.io/v1\n")
	example, _, _ = strings.Cut("apiVersion: helm.cattle.io/v1\n"+example, "```")
	more, own := filepath.Join(shortDir(t), "config.yaml"), filepath.Join(shortDir(t), "values.yaml")
	if err := documents(t, []byte(example))[0].Decode(&chart); !found || err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(more, []byte(example), 0o600), os.WriteFile(own, []byte(chart.Spec.ValuesContent), 0o600)); err != nil {
		t.Fatal(err)
	}
	conform(t, file, more)
	out, err = try(environment(shortDir(t)), need(t, "helm"), "template", "roadstead", archive, "--values", valuesFile("rke2"), "--values", own)
	if err != nil {
		t.Fatal(err)
	}
	r = readRelease(t, out)
	r.wired(t)
	r.checked(t)
}

// pointedTo compares the registries.yaml of deploy/rke2 with what the release's own node would write.
func (r *chartRelease) pointedTo(t *testing.T) {
	t.Helper()
	dir := shortDir(t)
	config, _ := r.settle(t, dir, map[string]any{"storage": map[string]any{"directory": filepath.Join(dir, "data")}})
	out := run(t, environment(dir), roadsteadCommand(t), "registries", "--config", config)
	file := filepath.Join(rke2Folder(), "registries.yaml")
	same(t, file, string(out))
	for _, args := range [][]string{{"--config", config}, {"--no-projects"}} {
		if out := run(t, environment(dir), roadsteadCommand(t), append([]string{"lint", file}, args...)...); len(out) > 0 {
			t.Errorf("the linter says of it: %s", out)
		}
	}
	mirrors := readRegistries(t, file).Mirrors
	var service struct {
		Ports []struct {
			NodePort int `yaml:"nodePort"`
		}
	}
	for _, s := range r.of("Service") {
		if !strings.HasSuffix(s.Metadata.Name, "-metrics") {
			if err := s.Spec.Decode(&service); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := fmt.Sprintf("http://127.0.0.1:%d", service.Ports[0].NodePort)
	for host, mirror := range mirrors {
		if !slices.Equal(mirror.Endpoint, []string{want}) {
			t.Errorf("%s is pulled from %q, and the service is at %s of each node", host, mirror.Endpoint, want)
		}
	}
	if len(mirrors) < 9 {
		t.Errorf("only %d registries have a mirror", len(mirrors))
	}
}

// chartFiles are the files that a packaged chart has, by their names in it.
func chartFiles(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(chartFolder(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "examples" {
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(chartFolder(), path)
		all["roadstead/"+filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil || len(all) < 15 {
		t.Fatalf("the chart has %d files, %v", len(all), err)
	}
	return all
}

func packChart(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}))
		_, wrote := io.WriteString(w, files[name])
		err = errors.Join(err, wrote)
	}
	if err = errors.Join(err, w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unpackChart(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return all
	}
	for r := tar.NewReader(zip); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[header.Name] = string(text)
	}
}

// A cluster that starts has no mirror yet, which is in it: its nodes pull from the registries themselves,
// by the same registries.yaml, and from the mirror as soon as there is one.
func TestRKE2StartsWithoutItsMirror(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	images := map[string]*image{}
	for i, name := range []string{"before", "after"} {
		images[name] = recipe{seed: uint64(971_000 + 100*i), docker: true}.make(t, "1.0")
		u.push(t, "team/"+name, images[name])
	}
	ref := func(name string) reference { return reference{project: u.addr, repo: "team/" + name, tag: "1.0"} }
	n := newNode(t, nodeConfig{projects: map[string]any{"quay.io": u.project(map[string]any{"names": []string{u.addr}})}})
	file := filepath.Join(shortDir(t), "registries.yaml")
	out, err := n.command("registries", "--url", n.url)
	if err == nil {
		err = os.WriteFile(file, out, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := startContainerd(t)
	if err := os.CopyFS(c.dir+"/hosts", os.DirFS(renderAsK3s(t, readRegistries(t, file)))); err != nil {
		t.Fatal(err)
	}
	wharfiePullBy(t, file, ref("before"), images["before"])
	c.pull(t, ref("before"), images["before"])
	n.start()
	wharfiePullBy(t, file, ref("after"), images["after"])
	// This containerd has no rewrites, and says ns: where they lead, TestRKE2PullsWhatWasPushed tests.
	c.pull(t, ref("after"), images["after"])
	for _, agent := range []string{"go-containerregistry", "containerd/"} {
		n.logs(t, agent+" pulling from the mirror that there is now", 1, "repo=quay.io/team/after ", "status=200", "agent="+agent)
	}
	if n.logged(t, "repo=quay.io/team/before ") > 0 {
		t.Error("the mirror was asked before it was there")
	}
}
