package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/s3"
)

const wholeBucket = `
storage:
  directory: data
  max_size: 2TiB
  s3:
    endpoint: https://s3.example.com:9000/
    region: eu-north-1
    bucket: images
    prefix: a/b
    access_key: somebody
    secret_key: ${KEY:-not-for-your-eyes}
    style: path
    encryption: sse-kms
    kms_key: ours
    part_size: 32MiB
    parallel: 8
    retries: 0
    stall: 5s
    redirect: 64MiB
  hot: { size: 40%, directory: /fast }
projects:
  quay.io: { redirect: true }
  production: { hosted: true, redirect: false }
`

func TestABucketIsConfigured(t *testing.T) {
	c := good(t, wholeBucket)
	want := s3.Config{
		Endpoint: "https://s3.example.com:9000", Region: "eu-north-1", Bucket: "images", Prefix: "a/b", AccessKey: "somebody", SecretKey: "not-for-your-eyes",
		Style: s3.Path, Encryption: s3.SSEKMS, KMSKey: "ours", Part: 32 << 20, Parallel: 8, Retries: -1, Stall: 5 * time.Second,
	}
	if got := c.Storage.S3.config(); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if c.Storage.S3.Redirect != 64<<20 || project(t, c, "quay.io").Redirect != 1 || project(t, c, "production").Redirect != -1 || project(t, c, "gcr.io").Redirect != 0 {
		t.Errorf("redirects are %+v", c)
	}
	if got := c.Storage.copies(); got != (storage.Hot{Dir: "/fast", Share: 40}) {
		t.Errorf("copies are %+v", got)
	}
	var out, said bytes.Buffer
	if err := summary(&out, c); err != nil || !strings.Contains(out.String(), "bucket images/a/b at https://s3.example.com:9000") {
		t.Errorf("%v\n%s", err, &out)
	}
	if err := export(streams{out: &out, err: &said}, c); err != nil || !strings.Contains(out.String(), "kms_key: ours") {
		t.Errorf("%v\n%s", err, &out)
	}
	_, text, _ := strings.Cut(out.String(), "listen:")
	if again := good(t, "listen:"+strings.Replace(text, "somebody\n", "somebody\n    secret_key: x\n", 1)); again.Storage.Hot != c.Storage.Hot || again.Storage.S3.Redirect != c.Storage.S3.Redirect || project(t, again, "production").Redirect != -1 || project(t, again, "quay.io").Redirect != 1 {
		t.Errorf("exported: %+v\n%s", again.Storage, text)
	}
	all := out.String() + said.String() + fmt.Sprintf("%v %+v %#v", c.Storage, c.Storage, c.Storage)
	if strings.Contains(all, "not-for-your-eyes") {
		t.Errorf("the secret is shown:\n%s", all)
	}
	if c := good(t, "storage: { s3: { bucket: images } }"); c.Storage.S3.config() != (s3.Config{Bucket: "images"}) {
		t.Errorf("got %+v", c.Storage.S3)
	}
	if got := good(t, "storage: { directory: data, s3: { bucket: images } }").Storage.copies(); got != (storage.Hot{Dir: "data/hot", Share: 20}) {
		t.Errorf("copies are %+v", got)
	}
	for _, none := range []string{"storage: { s3: { bucket: images }, hot: { size: 0B } }", ""} {
		if got := good(t, none).Storage.copies(); got != (storage.Hot{}) {
			t.Errorf("%s: copies are %+v", none, got)
		}
	}
	if good(t, "").Storage.S3.Bucket != "" {
		t.Error("there is a bucket without a configuration")
	}
}

func TestRedirects(t *testing.T) {
	cfg := Config{Projects: []Project{
		{Name: "public", Public: true}, {Name: "private"}, {Name: "told", Redirect: 5}, {Name: "never", Public: true, Redirect: -1},
		{Name: "docker.io", Public: true, Builtin: true}, {Name: "quay.io", Public: true, Builtin: true},
	}}
	made := holding{projects: []catalog.Project{{Name: "open", Public: true}, {Name: "closed"}, {Name: "docker.io"}, {Name: "public", Public: true}}}
	for project, want := range map[string]redirect{
		"public": 9, "private": 0, "told": 5, "never": -1, "quay.io": 9,
		"open": 9, "closed": 0, "docker.io": 0, "unheard.of": 0,
	} {
		cfg.Storage.S3.Redirect = 9
		if got := (&inForce{cfg: cfg, holding: made}).redirect(project); got != want {
			t.Errorf("%s is redirected from %d bytes on, want %d", project, got, want)
		}
		cfg.Storage.S3.Redirect = 0
		if got := (&inForce{cfg: cfg, holding: made}).redirect(project); want == 9 && got != 0 {
			t.Errorf("%s is redirected though nobody says so", project)
		}
	}
}

func TestABucketIsMisconfigured(t *testing.T) {
	for text, says := range map[string]string{
		"storage: { s3: { region: x } }":                                            "no bucket is named",
		"storage: { s3: { bucket: b, style: virtuel } }":                            "style",
		"storage: { s3: { bucket: b, encryption: rot13 } }":                         "encryption",
		"storage: { s3: { bucket: b, kms_key: x } }":                                "sse-kms",
		"storage: { s3: { bucket: b, secret_key: x } }":                             "no access key",
		"storage: { s3: { bucket: b, access_key: x } }":                             "without its secret key",
		"storage: { s3: { bucket: b, part_size: 1MiB } }":                           "5 MiB",
		"storage: { s3: { bucket: b, endpoint: s3.example.com } }":                  "endpoint",
		"storage: { s3: { bucket: b, endpoint: \"https://s3.example.com/path\" } }": "endpoint",
		"storage: { s3: { bucket: b, secret_key_file: none } }":                     "secret_key_file",
		"storage: { s3: { bucket: b }, max_size: 80% }":                             "a bucket is no filesystem",
		"storage: { s3: { bucket: b, buckets: c } }":                                "buckets",
		"storage: { s3: { bucket: b, redirect: perhaps } }":                         "neither true nor false nor a size",
		"storage: { s3: { bucket: b }, hot: { size: 95% } }":                        "1% to 90%",
		"storage: { hot: { size: 10GiB } }":                                         "without a bucket",
		"projects: { quay.io: { redirect: 1MiB } }":                                 "which has no URL",
	} {
		_, faults := parse(t, text)
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), says) {
			t.Errorf("%s: %v, want that it says %q", text, faults, says)
		}
	}
}

// What is wrong elsewhere hides nothing of it.
func TestABucketIsMisconfiguredToo(t *testing.T) {
	for text, says := range map[string]string{
		"listen: nowhere\nstorage: { s3: { region: x } }":          "write bucket: images",
		"listen: nowhere\nstorage: { hot: { size: 10GiB } }":       "without a bucket",
		"storage: { s3: { bucket: [] }, hot: { size: 95% } }":      "1% to 90%",
		"storage: { s3: { bucket: b, style: x }, max_size: 120% }": "1% to 100%",
	} {
		_, faults := parse(t, text)
		if all := fmt.Sprint(faults); len(faults) != 2 || !strings.Contains(all, says) {
			t.Errorf("%s: %s, want that it says %q, too", text, all, says)
		}
	}
}

// Who adds a bucket to a node that has content is told how that gets there.
func TestBucketBesideContent(t *testing.T) {
	tr := newTree(t)
	tr.blob("production/web", "layer")
	s := Storage{Directory: tr.dir}
	if err := s.lonely(); err != nil {
		t.Error(err)
	}
	s.S3.Bucket = "images"
	want := "name another storage.directory, and move what is in " + tr.dir + ` with "roadstead migrate ` + tr.dir + `", which needs storage.catalog too`
	if err := s.lonely(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}
