package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"roadstead/registry"
)

func TestErrors(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7:443: password hunter2")
	tests := []struct {
		name   string
		err    error
		status int
		code   registry.Code
		says   string // part of the message
		retry  string
	}{
		{name: "unknown manifest", err: fmt.Errorf("resolve: %w", registry.ManifestUnknown), status: 404, code: registry.ManifestUnknown},
		{name: "unknown blob", err: registry.BlobUnknown, status: 404, code: registry.BlobUnknown},
		{name: "unknown name", err: &registry.Fault{Code: registry.NameUnknown, Message: "no such project", Err: secret}, status: 404, code: registry.NameUnknown, says: "no such project"},
		{name: "unknown upload", err: registry.BlobUploadUnknown, status: 404, code: registry.BlobUploadUnknown},
		{name: "unknown blob of a manifest", err: registry.ManifestBlobUnknown, status: 404, code: registry.ManifestBlobUnknown},
		{name: "invalid name", err: registry.NameInvalid, status: 400, code: registry.NameInvalid},
		{name: "invalid digest", err: registry.DigestInvalid, status: 400, code: registry.DigestInvalid},
		{name: "invalid tag", err: registry.TagInvalid, status: 400, code: registry.TagInvalid},
		{name: "invalid manifest", err: registry.ManifestInvalid, status: 400, code: registry.ManifestInvalid},
		{name: "invalid size", err: registry.SizeInvalid, status: 400, code: registry.SizeInvalid},
		{name: "invalid upload", err: registry.BlobUploadInvalid, status: 400, code: registry.BlobUploadInvalid},
		{name: "invalid page", err: registry.PaginationInvalid, status: 400, code: registry.PaginationInvalid},
		{name: "unauthorized", err: registry.Unauthorized, status: 401, code: registry.Unauthorized},
		{name: "denied", err: fmt.Errorf("manifest: %w", &registry.Fault{Code: registry.Denied, Message: "quay.io refuses", Err: secret}), status: 403, code: registry.Denied, says: "quay.io refuses"},
		{name: "unsupported", err: registry.Unsupported, status: 405, code: registry.Unsupported},
		{name: "too many requests", err: registry.TooManyRequests, status: 429, code: registry.TooManyRequests, retry: "5"},
		{name: "throttled upstream", err: &registry.Fault{Code: registry.Throttled, RetryAfter: 90 * time.Second}, status: 429, code: registry.TooManyRequests, retry: "90"},
		{name: "throttled for part of a second", err: &registry.Fault{Code: registry.Throttled, RetryAfter: time.Millisecond}, status: 429, code: registry.TooManyRequests, retry: "1"},
		{name: "unavailable upstream", err: fmt.Errorf("blob: %w: %w", registry.Unavailable, secret), status: 503, code: registry.Unavailable, retry: "5"},
		{name: "upstream out of time", err: &registry.Fault{Code: registry.Unavailable, Timeout: true}, status: 504, code: registry.Unavailable, retry: "5"},
		{name: "deadline", err: fmt.Errorf("blob: %w", context.DeadlineExceeded), status: 504, code: registry.Unavailable, retry: "5"},
		{name: "end of the server", err: context.Canceled, status: 503, code: registry.Unavailable, retry: "5"},
		{name: "no more files", err: &os.PathError{Op: "open", Path: "/secret/hunter2", Err: syscall.EMFILE}, status: 503, code: registry.Unavailable, retry: "5"},
		{name: "something else", err: secret, status: 500, code: unknown, says: "internal error"},
		{name: "a missing file is not a missing blob", err: &os.PathError{Op: "open", Path: "/secret/hunter2", Err: os.ErrNotExist}, status: 500, code: unknown},
		{name: "a code that is not known", err: &registry.Fault{Code: "HUNTER2", Message: "hunter2"}, status: 500, code: unknown},
	}
	p := newPier(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p.shelf.fail = test.err
			for _, path := range []string{"/manifests/1.35", "/blobs/" + string(p.blob), "/tags/list"} {
				resp, body := p.ask(t, "GET", "/v2/docker.io/library/busybox"+path)
				if resp.StatusCode != test.status || resp.Header.Get("Retry-After") != test.retry {
					t.Errorf("%s: %s, Retry-After %q; want %d, %q", path, resp.Status, resp.Header.Get("Retry-After"), test.status, test.retry)
				}
				checkError(t, resp, body, test.code)
				if !strings.Contains(string(body), test.says) || strings.Contains(string(body), "hunter2") {
					t.Errorf("%s: %s", path, body)
				}
				wantHeader(t, resp, map[string]string{"Etag": "", "Docker-Content-Digest": ""})

				resp, body = p.ask(t, "HEAD", "/v2/docker.io/library/busybox"+path)
				if resp.StatusCode != test.status || len(body) != 0 {
					t.Errorf("HEAD %s: %s %q, want %d", path, resp.Status, body, test.status)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	p := newPier(t)
	const repo = "/v2/docker.io/library/busybox"
	tests := []struct {
		name, method, path string
		status             int
		code               registry.Code
		allow              string
	}{
		{name: "push of a manifest", method: "PUT", path: repo + "/manifests/1", status: 403, code: registry.Denied},
		{name: "start of an upload", method: "POST", path: repo + "/blobs/uploads/", status: 403, code: registry.Denied},
		{name: "mount", method: "POST", path: repo + "/blobs/uploads/?mount=" + someDigest + "&from=a", status: 403, code: registry.Denied},
		{name: "part of an upload", method: "PATCH", path: repo + "/blobs/uploads/1", status: 403, code: registry.Denied},
		{name: "end of an upload", method: "PUT", path: repo + "/blobs/uploads/1?digest=" + someDigest, status: 403, code: registry.Denied},
		{name: "state of an upload", method: "GET", path: repo + "/blobs/uploads/1", status: 403, code: registry.Denied},
		{name: "deletion of a tag", method: "DELETE", path: repo + "/manifests/1", status: 403, code: registry.Denied},
		{name: "deletion of a blob", method: "DELETE", path: repo + "/blobs/" + someDigest, status: 403, code: registry.Denied},
		{name: "push to what is not known", method: "PUT", path: repo + "/manifests/1?ns=example.org", status: 404, code: registry.NameUnknown},
		{name: "push to a ping", method: "POST", path: "/v2/", status: 405, code: registry.Unsupported, allow: "GET, HEAD"},
		{name: "deletion of the catalog", method: "DELETE", path: "/v2/_catalog", status: 405, code: registry.Unsupported, allow: "GET, HEAD"},
		{name: "options", method: "OPTIONS", path: repo + "/manifests/1", status: 405, code: registry.Unsupported, allow: "GET, HEAD"},
		{name: "trace", method: "TRACE", path: "/v2/", status: 405, code: registry.Unsupported, allow: "GET, HEAD"},
		{name: "unheard of", method: "FETCH", path: repo + "/manifests/1", status: 405, code: registry.Unsupported, allow: "GET, HEAD"},
		{name: "unknown namespace", method: "GET", path: "/v2/x/manifests/1?ns=example.org", status: 404, code: registry.NameUnknown},
		{name: "no such path", method: "GET", path: "/v2/a/b", status: 404, code: registry.NameUnknown},
		{name: "impossible tag", method: "GET", path: repo + "/manifests/.x", status: 404, code: registry.ManifestUnknown},
		{name: "bad digest", method: "GET", path: repo + "/manifests/sha256:x", status: 400, code: registry.DigestInvalid},
		{name: "bad digest of a referrer", method: "GET", path: repo + "/referrers/x", status: 400, code: registry.DigestInvalid},
		{name: "bad name", method: "GET", path: "/v2/docker.io/Busybox/manifests/1", status: 400, code: registry.NameInvalid},
		{name: "encoded slash", method: "GET", path: "/v2/docker.io%2Flibrary%2Fbusybox/manifests/1.35", status: 400, code: registry.NameInvalid},
		{name: "encoded dots", method: "GET", path: "/v2/docker.io/%2e%2e/manifests/1.35", status: 400, code: registry.NameInvalid},
		{name: "negative page", method: "GET", path: repo + "/tags/list?n=-1", status: 400, code: registry.PaginationInvalid},
		{name: "bad page", method: "GET", path: repo + "/tags/list?n=x", status: 400, code: registry.PaginationInvalid},
		{name: "bad tag to go on from", method: "GET", path: repo + "/tags/list?last=a/b", status: 400, code: registry.TagInvalid},
		{name: "catalog of none", method: "GET", path: "/v2/_catalog?n=0", status: 400, code: registry.PaginationInvalid},
		{name: "bad name to go on from", method: "GET", path: "/v2/_catalog?last=..", status: 400, code: registry.NameInvalid},
		{name: "long query", method: "GET", path: "/v2/?" + strings.Repeat("x=y&", 2000), status: 414, code: uriTooLong},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p.shelf.questions()
			resp, body := p.ask(t, test.method, test.path)
			if resp.StatusCode != test.status || resp.Header.Get("Allow") != test.allow {
				t.Errorf("%s, Allow %q; want %d, %q", resp.Status, resp.Header.Get("Allow"), test.status, test.allow)
			}
			checkError(t, resp, body, test.code)
			if asked := p.shelf.questions(); len(asked) != 0 {
				t.Errorf("the registry was asked: %q", asked)
			}
		})
	}
	t.Run("the reason to refuse a push is told", func(t *testing.T) {
		for path, want := range map[string]string{
			repo + "/manifests/1":                           "project docker.io is a proxy cache: it cannot be pushed to or deleted from",
			"/v2/library/busybox/manifests/1?ns=docker.io":  "project docker.io is a proxy cache: it cannot be pushed to or deleted from",
			"/v2/other/app/manifests/1":                     `there is no project other here, so the name is taken for one in docker.io, a proxy cache, which cannot be pushed to or deleted from: make the project with \"roadstead project create other\", or write the name of another`,
			"/v2/app/manifests/1":                           "the name app has no project, so it is taken for one in docker.io, a proxy cache, which cannot be pushed to or deleted from: write PROJECT/app",
			"/v2/not__a--project/app/blobs/uploads/upload1": "the name not__a--project/app has no project",
		} {
			resp, body := p.ask(t, "PUT", path)
			checkError(t, resp, body, registry.Denied)
			if !strings.Contains(string(body), `"message":"`+want) {
				t.Errorf("%s: %s does not say %q", path, body, want)
			}
		}
	})
}

func TestNameOfAProjectAlone(t *testing.T) {
	resp, body := start(t, New(Config{Registry: newShelf()})).ask(t, "GET", "/v2/busybox/manifests/1")
	if resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
	checkError(t, resp, body, registry.NameUnknown)
}
