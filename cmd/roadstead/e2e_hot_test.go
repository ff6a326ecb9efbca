package main_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/storage/s3test"
)

// What a node has served it serves again without its bucket, from copies that it can lose; and where
// the configuration says so it sends clients to the bucket, with clients' own tools following.
func TestHotCopiesAndRedirects(t *testing.T) {
	e2e(t)
	s := s3test.Versitygw(t)
	bucket, proxy := s.Bucket(t), s.Proxy(t)
	u := startUpstream(t, upstreamConfig{})
	cached := recipe{seed: 930000, layers: 2, layerSize: 3 << 20}.make(t, "1.0")
	u.push(t, "library/web", cached)
	store := bucketStorage(t, s, proxy.Endpoint, bucket)
	hot := shortDir(t)
	store["hot"] = map[string]any{"directory": hot, "size": "1GiB"}
	maps.Copy(store["s3"].(map[string]any), map[string]any{"stall": "2s", "retries": 1})
	w := startWharf(t, nodeConfig{
		projects: map[string]any{
			"mirror": u.project(map[string]any{"public": true}),
			"direct": u.project(map[string]any{"public": true, "redirect": "1MiB"}),
		},
		storage: store,
	})
	n := w.as(w.robot)
	own := recipe{seed: 930100, layers: 1, layerSize: 3 << 20}.make(t, "1.0")
	if err := n.push("production/web", own); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"mirror/library/web", "direct/library/web"} {
		if err := n.pull(repo, "1.0", cached); err != nil {
			t.Fatal(err)
		}
	}
	settleCopies(t, hot, cached, own)
	u.stop(t)
	restart := func() {
		w.terminate(10 * time.Second) // what is in memory is no proof
		w.start()
	}
	pull := func(when string, requests bool) {
		t.Helper()
		proxy.Requests()
		if err := n.pull("mirror/library/web", "1.0", cached); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if err := n.pull("production/web", "1.0", own); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if log := proxy.Requests(); len(log) > 0 != requests {
			t.Errorf("%s: the bucket was asked %v", when, log)
		}
		settleCopies(t, hot, cached, own)
	}
	restart()
	pull("what was pulled and pushed", false)
	if err := os.RemoveAll(hot); err != nil {
		t.Fatal(err)
	}
	restart()
	pull("copies that are lost", true)
	restart()
	pull("copies that were made again", false)

	t.Run("redirect", func(t *testing.T) {
		layer := cached.blobOrder[0]
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		ask := func(method, repo string, header ...string) *http.Response {
			t.Helper()
			r, err := http.NewRequest(method, w.url+blobPath(repo, layer), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || answer.StatusCode == http.StatusTemporaryRedirect && len(body) > 0 {
				t.Errorf("%s %s: a body of %d bytes, %v", method, repo, len(body), err)
			}
			return answer
		}
		var location string
		eventually(t, 10*time.Second, "a redirect, when the link is there that is made behind the first answer", func() bool {
			there := ask(http.MethodGet, "direct/library/web")
			location = there.Header.Get("Location")
			return there.StatusCode == http.StatusTemporaryRedirect
		})
		if !strings.Contains(location, "X-Amz-Signature=") {
			t.Fatalf("a redirect to %q", location)
		}
		answer, err := http.Get(location)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || int64(len(got)) != cached.blobs[layer].size || layer.Algorithm().FromBytes(got) != layer {
			t.Errorf("at the bucket: %s, %d bytes, %v", answer.Status, len(got), err)
		}
		for what, a := range map[string]*http.Response{
			"HEAD":           ask(http.MethodHead, "direct/library/web"),
			"another":        ask(http.MethodGet, "mirror/library/web"),
			"with condition": ask(http.MethodGet, "direct/library/web", "If-Match", `"`+string(layer)+`"`),
		} {
			if a.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", what, a.Status)
			}
		}
		home := shortDir(t)
		env := environment(home)
		proxy.Requests()
		run(t, env, need(t, "crane"), "pull", w.addr+"/direct/library/web:1.0", filepath.Join(home, "crane.tar"))
		run(t, env, need(t, "crane"), "validate", "--insecure", "--remote", w.addr+"/direct/library/web:1.0")
		run(t, env, need(t, "skopeo"), "copy", "--src-tls-verify=false", "docker://"+w.addr+"/direct/library/web:1.0", "dir:"+filepath.Join(home, "skopeo"))
		if gets := strings.Count(strings.Join(proxy.Requests(), " "), "GET"); gets < 6 {
			t.Errorf("two layers were fetched from the bucket %d times by three clients", gets)
		}
		secret := location[strings.Index(location, "X-Amz-Signature=")+len("X-Amz-Signature="):]
		secret, _, _ = strings.Cut(secret, "&")
		if log, err := os.ReadFile(w.log); err != nil || bytes.Contains(log, []byte("X-Amz-Signature")) || bytes.Contains(log, []byte(secret)) {
			t.Errorf("the log has a signed URL, or cannot be read: %v", err)
		}
	})

	t.Run("the bucket is away", func(t *testing.T) {
		restart()
		s.Stop()
		defer s.Start(t)
		pull("without a bucket", false)
	})
}

// settleCopies waits until there is a copy of all of some images, and none is being made.
func settleCopies(t *testing.T, dir string, images ...*image) {
	t.Helper()
	for _, img := range images {
		all := slices.Clone(img.blobOrder)
		for _, m := range img.manifests {
			all = append(all, m.digest)
		}
		for _, d := range all {
			file := filepath.Join(dir, "sha256", d.Encoded()[:2], d.Encoded())
			eventually(t, 10*time.Second, "a copy of "+string(d), func() bool { return isFile(file) })
		}
	}
	eventually(t, 10*time.Second, "copies that are made", func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "filling", "*"))
		return len(left) == 0
	})
}
