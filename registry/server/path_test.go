package server

import (
	"net/url"
	"strings"
	"testing"

	"roadstead/registry"
)

const (
	someDigest  = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	otherDigest = "sha512:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func isDockerHub(project string) bool { return project == "docker.io" }

func TestParse(t *testing.T) {
	tests := []struct {
		name, path string
		want       target
		code       registry.Code
	}{
		{name: "tag", path: "/v2/a/b/manifests/1.0", want: target{kind: manifest, name: "a/b", tag: "1.0"}},
		{name: "manifest by digest", path: "/v2/a/manifests/" + someDigest, want: target{kind: manifest, name: "a", digest: someDigest}},
		{name: "sha512", path: "/v2/a/manifests/" + otherDigest, want: target{kind: manifest, name: "a", digest: otherDigest}},
		{name: "encoded colon", path: "/v2/a/blobs/" + strings.Replace(someDigest, ":", "%3A", 1), want: target{kind: blob, name: "a", digest: someDigest}},
		{name: "blob", path: "/v2/a/blobs/" + someDigest, want: target{kind: blob, name: "a", digest: someDigest}},
		{name: "referrers", path: "/v2/a/referrers/" + someDigest, want: target{kind: referrers, name: "a", digest: someDigest}},
		{name: "tags", path: "/v2/a/b/c/tags/list", want: target{kind: tags, name: "a/b/c"}},
		{name: "upload", path: "/v2/a/blobs/uploads/", want: target{kind: upload, name: "a"}},
		{name: "upload without its slash", path: "/v2/a/blobs/uploads", want: target{kind: upload, name: "a"}},
		{name: "running upload", path: "/v2/a/blobs/uploads/Ab_1", want: target{kind: upload, name: "a", id: "Ab_1"}},
		{name: "catalog", path: "/v2/_catalog", want: target{kind: catalog}},

		{name: "ping", path: "/v2/", want: target{kind: ping}},
		{name: "ping without a slash", path: "/v2", want: target{kind: ping}},
		{name: "ping of a project", path: "/v2/docker.io/", want: target{kind: ping}},
		{name: "ping of a project without a slash", path: "/v2/docker.io", want: target{kind: ping}},
		{name: "ping below a project", path: "/docker.io/v2/", want: target{kind: ping}},
		{name: "ping below a project below v2", path: "/v2/docker.io/v2/", want: target{kind: ping}},
		{name: "ping of a project without v2", path: "/docker.io/", want: target{kind: ping}},
		{name: "ping of something unknown", path: "/v2/quay.io/", want: target{}},

		{name: "root of a project", path: "/docker.io/v2/library/x/manifests/1", want: target{kind: manifest, name: "docker.io/library/x", tag: "1"}},
		{name: "root of a project after v2", path: "/v2/docker.io/v2/library/x/tags/list", want: target{kind: tags, name: "docker.io/library/x"}},
		{name: "organisation called v2", path: "/v2/docker.io/v2/v2/x/manifests/1", want: target{kind: manifest, name: "docker.io/v2/x", tag: "1"}},
		{name: "no v2 at all", path: "/docker.io/library/x/manifests/1", want: target{kind: manifest, name: "docker.io/library/x", tag: "1"}},
		{name: "v2 of an unknown project is a name", path: "/v2/quay.io/v2/x/manifests/1", want: target{kind: manifest, name: "quay.io/v2/x", tag: "1"}},
		{name: "project and no repository", path: "/docker.io/manifests/1", want: target{}},
		{name: "catalog of a project", path: "/docker.io/v2/_catalog", want: target{}},

		{name: "words of the API in a name", path: "/v2/a/blobs/manifests/tags/manifests/list", want: target{kind: manifest, name: "a/blobs/manifests/tags", tag: "list"}},
		{name: "name that ends in uploads", path: "/v2/blobs/uploads/manifests/x", want: target{kind: manifest, name: "blobs/uploads", tag: "x"}},
		{name: "repository called tags", path: "/v2/tags/tags/list", want: target{kind: tags, name: "tags"}},
		{name: "slashes are collapsed", path: "//v2///a//b/manifests//1.0", want: target{kind: manifest, name: "a/b", tag: "1.0"}},
		{name: "slash at the end", path: "/v2/a/tags/list/", want: target{kind: tags, name: "a"}},

		{name: "no repository", path: "/v2/manifests/latest", want: target{}},
		{name: "no reference", path: "/v2/a/manifests/", want: target{}},
		{name: "no endpoint", path: "/v2/a/b", want: target{}},
		{name: "uploads of nothing", path: "/v2/a/uploads/x", want: target{}},
		{name: "something else", path: "/console/", want: target{kind: other}},
		{name: "root", path: "/", want: target{kind: other}},
		{name: "v2 in capitals", path: "/V2/", want: target{kind: other}},
		{name: "encoded slash elsewhere", path: "/api/a%2Fb", want: target{kind: other}},

		{name: "dots", path: "/v2/../v2/a/manifests/1", code: registry.NameInvalid},
		{name: "dots in the name", path: "/v2/a/../b/manifests/1", code: registry.NameInvalid},
		{name: "dots at the end", path: "/v2/a/manifests/..", code: registry.NameInvalid},
		{name: "encoded dots", path: "/v2/a/%2e%2E/b/manifests/1", code: registry.NameInvalid},
		{name: "dots outside", path: "/x/../v2/", code: registry.NameInvalid},
		{name: "one dot", path: "/v2/./a/manifests/1", code: registry.NameInvalid},
		{name: "encoded slash in the name", path: "/v2/a%2Fb/manifests/1", code: registry.NameInvalid},
		{name: "encoded slash in the reference", path: "/v2/a/manifests%2fb", code: registry.NameInvalid},
		{name: "encoded slash below a project", path: "/docker.io%2Flibrary/x/manifests/1", code: registry.NameInvalid},
		{name: "slash encoded twice", path: "/v2/a%252Fb/manifests/1", code: registry.NameInvalid},
		{name: "backslash", path: `/v2/a%5Cb/manifests/1`, code: registry.NameInvalid},
		{name: "capitals", path: "/v2/A/manifests/1", code: registry.NameInvalid},
		{name: "zero byte", path: "/v2/a%00/manifests/1", code: registry.NameInvalid},
		{name: "long name", path: "/v2/" + strings.Repeat("a", 256) + "/manifests/1", code: registry.NameInvalid},
		{name: "impossible tag", path: "/v2/a/manifests/.INVALID_MANIFEST_NAME", code: registry.ManifestUnknown},
		{name: "long tag", path: "/v2/a/manifests/" + strings.Repeat("t", 129), code: registry.ManifestUnknown},
		{name: "bad digest of a manifest", path: "/v2/a/manifests/sha256:baddigeststring", code: registry.DigestInvalid},
		{name: "bad digest of a blob", path: "/v2/a/blobs/latest", code: registry.DigestInvalid},
		{name: "digest in capitals", path: "/v2/a/blobs/" + strings.ToUpper(someDigest), code: registry.DigestInvalid},
		{name: "unknown algorithm", path: "/v2/a/referrers/md5:d41d8cd98f00b204e9800998ecf8427e", code: registry.DigestInvalid},
		{name: "digest that climbs", path: "/v2/a/blobs/sha256:..%2F..%2Fx", code: registry.NameInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			u, err := url.ParseRequestURI(test.path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := parse(u.Path, u.RawPath, isDockerHub, isDockerHub)
			if code := codeIn(err); code != test.code {
				t.Fatalf("error %v, want %q", err, test.code)
			}
			if test.code == "" && got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func codeIn(err error) registry.Code {
	if err == nil {
		return ""
	}
	return judge(err).code
}

// What is parsed without an error is well formed, and means the same when it is written in
// the plain way.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"/v2/", "/v2/a/b/manifests/1", "/docker.io/v2/x/tags/list", "/v2/docker.io/v2/x/blobs/" + someDigest,
		"/v2/a%2Fb/manifests/..", "//v2//a/referrers/" + someDigest, "/v2/a/blobs/uploads/1", "/docker.io/x/manifests/1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.ParseRequestURI(s)
		if err != nil {
			return
		}
		got, err := parse(u.Path, u.RawPath, isDockerHub, isDockerHub)
		if err != nil {
			return
		}
		if !belongs(got.kind) {
			if got != (target{kind: got.kind}) {
				t.Fatalf("%q: %+v says more than its kind", s, got)
			}
			return
		}
		if err := registry.CheckName(got.name); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		var ref string
		switch {
		case got.tag != "":
			if err := registry.CheckTag(got.tag); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			ref = got.tag
		case got.digest != "":
			if _, err := registry.ParseDigest(string(got.digest)); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			ref = string(got.digest)
		}
		var plain string
		switch got.kind {
		case manifest:
			plain = "/v2/" + got.name + "/manifests/" + ref
		case blob:
			plain = "/v2/" + got.name + "/blobs/" + ref
		case referrers:
			plain = "/v2/" + got.name + "/referrers/" + ref
		case tags:
			plain = "/v2/" + got.name + "/tags/list"
		case upload:
			plain = "/v2/" + got.name + "/blobs/uploads/" + got.id
		}
		// Below a known project a component "v2" is a root and no part of the name.
		if strings.HasPrefix(got.name, "docker.io/v2/") {
			return
		}
		again, err := parse(plain, "", isDockerHub, isDockerHub)
		if err != nil || again != got {
			t.Fatalf("%q is %+v, and %q is %+v, %v", s, got, plain, again, err)
		}
	})
}

func TestParseAllocatesNothing(t *testing.T) {
	path := "/v2/docker.io/library/busybox/manifests/1.35"
	if n := testing.AllocsPerRun(100, func() {
		if _, err := parse(path, "", isDockerHub, isDockerHub); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
