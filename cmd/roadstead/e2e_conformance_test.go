package main_test

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// versions of the distribution specification that its tests know: the one that is out, and the
// one to come, which asks for more.
var versions = []string{"1.1", "dev"}

// The specification's own tests make content of every kind, push it, and read it back. Here they
// push to the upstream and read through the node: whatever they have pushed has to come back
// from a proxy project as the specification wants it.
func TestConformanceOfReading(t *testing.T) {
	e2e(t)
	program := need(t, "conformance")
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, upstreamConfig{})
			n := startNode(t, nodeConfig{plain: true, projects: map[string]any{"quay.io": u.project(nil)}})
			dir := shortDir(t)
			out, _ := try(environment(dir,
				"OCI_VERSION="+version, "OCI_REGISTRY="+startFerry(t, u, n, "quay.io"), "OCI_TLS=disabled", "OCI_RESULTS_DIR="+dir,
				"OCI_REPO1=team/one", "OCI_REPO2=team/two",
				// A cache keeps what upstream has deleted, on purpose.
				"OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_TAGS_DELETE=false",
				// What the upstream itself cannot do. Referrers are read in the test below.
				"OCI_DATA_SHA512=false", "OCI_API_REFERRER=false", "OCI_API_BLOBS_UPLOAD_CANCEL=false", "OCI_API_MANIFESTS_TAG_PARAM=false",
			), program)
			checkResults(t, filepath.Join(dir, "junit.xml"), string(out), ofPushing)
		})
	}
}

// The same against hosted projects of the node, with nothing turned off: as a user, without TLS
// and with it.
func TestConformance(t *testing.T) {
	e2e(t)
	program := need(t, "conformance")
	for _, secure := range []bool{false, true} {
		w := startWharf(t, nodeConfig{tls: secure}, "maintainer")
		tls := map[bool]string{false: "disabled", true: "enabled"}[secure]
		for i, version := range versions {
			t.Run(version+" tls "+tls, func(t *testing.T) {
				t.Parallel()
				who, dir := w.members["maintainer"], shortDir(t)
				out, _ := try(environment(dir,
					"OCI_VERSION="+version, "OCI_REGISTRY="+w.addr, "OCI_TLS="+tls, "SSL_CERT_FILE="+w.ca, "OCI_RESULTS_DIR="+dir,
					"OCI_REPO1=production/"+versions[i]+"/one", "OCI_REPO2=other/"+versions[i]+"/two",
					"OCI_USERNAME="+who.name, "OCI_PASSWORD="+who.secret,
					// Of what is optional, the one thing that it leaves out unless it is asked for.
					"OCI_API_BLOBS_UPLOAD_CANCEL=true",
				), program)
				checkResults(t, filepath.Join(dir, "junit.xml"), string(out), nil)
			})
		}
	}
}

// startFerry listens for clients that read from a project of the node and write to its upstream.
func startFerry(t *testing.T, u *upstream, n *node, project string) (addr string) {
	t.Helper()
	to := func(text, prefix string) *httputil.ReverseProxy {
		target, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			if rest, ok := strings.CutPrefix(r.In.URL.Path, "/v2/"); ok && rest != "" {
				r.Out.URL.Path = "/v2/" + prefix + rest
			}
		}}
	}
	reads, writes := to(n.url, project+"/"), to(u.url, "")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// An upload is read by GET too, to learn how far it has come.
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && !strings.Contains(r.URL.Path, "/uploads/") {
			reads.ServeHTTP(w, r)
		} else {
			writes.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// checkResults reads the report of a run. The program's exit code says nothing: it is 0 when the
// configuration was wrong and no test ran. may matches the tests that may be skipped; nil: none.
func checkResults(t *testing.T, file, output string, may *regexp.Regexp) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	var report struct {
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Suites   []struct {
			Cases []struct {
				Name   string `xml:"name,attr"`
				Status string `xml:"status,attr"`
				Out    string `xml:"system-out"`
				Err    string `xml:"system-err"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			switch {
			case c.Status == "passed":
				passed++
			case c.Status == "failure", c.Status == "error":
				t.Errorf("%s: %s\n%.4000s", c.Name, c.Out, c.Err)
			case may == nil || !may.MatchString(c.Name):
				t.Errorf("%s was skipped: %s", c.Name, c.Out)
			}
		}
	}
	if report.Failures != 0 || report.Errors != 0 || passed < 400 {
		t.Errorf("%d tests failed, %d had an error, %d passed: want 0, 0 and more than 400", report.Failures, report.Errors, passed)
	}
	t.Logf("%d passed", passed)
}

// ofPushing are the tests that may be skipped: those of deletion, which is turned off, and those
// of ways to push that the upstream does not have.
var ofPushing = regexp.MustCompile(`delete|post[ -]only|mount[ -]anonymous|manifest-put|blob-post|push|cancel|referrers|sha512|tag-param`)

// The same tests in their mode for a registry that cannot be pushed to: it names content that is
// there. It checks less of each answer, but also referrers, which the upstream has as tags.
func TestConformanceReadOnly(t *testing.T) {
	e2e(t)
	program := need(t, "conformance")
	u := startUpstream(t, upstreamConfig{})
	var tags, manifests, blobs []string
	images, subject := conformanceImages(t)
	for _, img := range images {
		u.push(t, "team/conformance", img)
		for tag := range img.tags {
			tags = append(tags, tag)
		}
		for _, m := range img.manifests {
			manifests = append(manifests, string(m.digest))
		}
		for _, d := range img.blobOrder {
			blobs = append(blobs, string(d))
		}
	}
	for _, version := range versions {
		n := startNode(t, nodeConfig{plain: true, projects: map[string]any{"quay.io": u.project(nil)}})
		for _, state := range []string{"cold", "cached"} {
			t.Run(version+" "+state, func(t *testing.T) {
				dir := shortDir(t)
				out, _ := try(environment(dir,
					"OCI_VERSION="+version, "OCI_REGISTRY="+n.addr, "OCI_TLS=disabled", "OCI_RESULTS_DIR="+dir,
					"OCI_REPO1=quay.io/team/conformance", "OCI_API_PUSH=false",
					"OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_TAGS_DELETE=false",
					// In this mode the program looks for the header in an answer that it has not kept.
					"OCI_API_MANIFESTS_DIGEST_HEADER=false",
					"OCI_RO_DATA_TAGS="+strings.Join(tags, " "), "OCI_RO_DATA_MANIFESTS="+strings.Join(manifests, " "),
					"OCI_RO_DATA_BLOBS="+strings.Join(blobs, " "), "OCI_RO_DATA_REFERRERS="+subject,
				), program)
				checkSummary(t, string(out), 2*len(tags)+2*len(manifests)+2*len(blobs))
			})
		}
	}
}

var summaryLine = regexp.MustCompile(`(?m)^  (Skip|Pass|FAIL|Error)\.+: +(\d+)$`)

// checkSummary reads what the program prints at its end. Its results file stays empty in this
// mode: it panics over the state of content that it has not pushed.
func checkSummary(t *testing.T, output string, least int) {
	t.Helper()
	counts := map[string]int{}
	for _, line := range summaryLine.FindAllStringSubmatch(output, -1) {
		n, err := strconv.Atoi(line[2])
		if err != nil {
			t.Fatal(err)
		}
		counts[line[1]] = n
	}
	if len(counts) != 4 || counts["FAIL"] != 0 || counts["Error"] != 0 || counts["Skip"] != 0 || counts["Pass"] < least {
		t.Errorf("counts %v; want no failure, error or skip, and at least %d passed\n%s", counts, least, output)
	}
}

// conformanceImages are an image with two referrers, which the tag of the specification's
// fallback lists, and images of the other kinds.
func conformanceImages(t *testing.T) (images []*image, subject string) {
	img := recipe{seed: 60000}.make(t, "image")
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociIndex}
	of := img.top()
	descriptor := of.descriptor(nil)
	empty := v1.DescriptorEmptyJSON
	img.addBlob(empty.Digest, content{bytes: []byte("{}"), size: 2})
	for _, artifactType := range []string{"application/vnd.example.sbom", "application/vnd.example.signature"} {
		annotations := map[string]string{"of": artifactType}
		m := img.addJSON(t, ociManifest, v1.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociManifest, ArtifactType: artifactType,
			Config: empty, Layers: []v1.Descriptor{empty}, Subject: &descriptor, Annotations: annotations,
		})
		referrer := m.descriptor(nil)
		referrer.ArtifactType, referrer.Annotations = artifactType, annotations
		index.Manifests = append(index.Manifests, referrer)
	}
	img.tags["sha256-"+of.digest.Encoded()] = img.addJSON(t, ociIndex, index)

	nested := recipe{seed: 60100, platforms: []string{"amd64", "arm64"}}.make(t)
	child := nested.top().descriptor(nil)
	nested.tags["nested"] = nested.addJSON(t, ociIndex, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ociIndex, Manifests: []v1.Descriptor{child}})
	return []*image{
		img, nested,
		recipe{seed: 60200, zstd: true}.make(t, "zstd"),
		recipe{seed: 60300, docker: true, platforms: []string{"amd64", "arm64"}}.make(t, "list"),
	}, string(of.digest)
}
