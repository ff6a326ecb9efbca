package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// send sends one request with a body of a known size.
func (n *node) send(method, path, mediaType string, body io.Reader, size int64, headers ...string) (answer, error) {
	req, err := http.NewRequest(method, n.url+path, body)
	if err != nil {
		return answer{}, err
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	res, err := n.do(req, headers...)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	a.body, a.err = io.ReadAll(res.Body)
	return a, nil
}

// push pushes all of an image: its blobs, its manifests from the leaves up, and its tags. It
// returns what was not acknowledged.
func (n *node) push(repo string, img *image) error {
	for _, d := range img.blobOrder {
		if err := n.pushBlob(repo, d, img.blobs[d]); err != nil {
			return err
		}
	}
	for _, m := range img.manifests {
		if err := n.pushManifest(repo, string(m.digest), m); err != nil {
			return err
		}
	}
	for tag, m := range img.tags {
		if err := n.pushManifest(repo, tag, m); err != nil {
			return err
		}
	}
	return nil
}

// pushBlob pushes a blob that is in memory, in one piece.
func (n *node) pushBlob(repo string, d digest.Digest, c content) error {
	at, err := n.startUpload(repo)
	if err != nil {
		return err
	}
	a, err := n.send(http.MethodPut, withDigest(at, d), "application/octet-stream", bytes.NewReader(c.bytes), c.size)
	return expect(http.StatusCreated, a, err, "PUT", at)
}

// startUpload opens an upload and returns its path.
func (n *node) startUpload(repo string) (path string, err error) {
	a, err := n.send(http.MethodPost, uploadsPath(repo), "", http.NoBody, 0)
	if err := expect(http.StatusAccepted, a, err, "POST", uploadsPath(repo)); err != nil {
		return "", err
	}
	return a.location()
}

// pushManifest pushes a manifest under a tag or its digest.
func (n *node) pushManifest(repo, ref string, m manifest) error {
	a, err := n.send(http.MethodPut, manifestPath(repo, ref), m.mediaType, bytes.NewReader(m.bytes), int64(len(m.bytes)))
	return expect(http.StatusCreated, a, err, "PUT", manifestPath(repo, ref))
}

// remove deletes what is at a path.
func (n *node) remove(path string) error {
	a, err := n.tryAsk(http.MethodDelete, path)
	return expect(http.StatusAccepted, a, err, "DELETE", path)
}

// expect is an error if a request had no answer, or another one.
func expect(status int, a answer, err error, method, path string) error {
	switch {
	case err != nil:
		return err
	case a.status != status:
		return &refused{a, fmt.Sprintf("%s %s: %v, want %d", method, path, a, status)}
	}
	return nil
}

// refused is an error of a node that did answer.
type refused struct {
	answer answer
	text   string
}

func (r *refused) Error() string { return r.text }

func uploadsPath(repo string) string { return "/v2/" + repo + "/blobs/uploads/" }

// location is where the answer sends its client, without scheme and host.
func (a answer) location() (string, error) {
	to, err := url.Parse(a.header.Get("Location"))
	if err != nil || to.Path == "" {
		return "", fmt.Errorf("Location %q: %v", a.header.Get("Location"), err)
	}
	return to.RequestURI(), nil
}

// withDigest is the path that ends an upload.
func withDigest(path string, d digest.Digest) string {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return path + separator + "digest=" + string(d)
}

// decode reads JSON into v.
func decode(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%v: %.300q", err, b)
	}
}
