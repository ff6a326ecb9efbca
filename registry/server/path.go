package server

import (
	"strings"

	"roadstead/registry"
)

// kind is what a request asks for. The set is closed, because it labels metrics.
type kind uint8

const (
	nothing   kind = iota // a path of ours that names no endpoint
	ping                  // GET /v2/
	catalog               // GET /v2/_catalog
	manifest              // …/manifests/<tag or digest>
	blob                  // …/blobs/<digest>
	upload                // …/blobs/uploads/[<id>]
	tags                  // …/tags/list
	referrers             // …/referrers/<digest>
	other                 // not a path of ours
	kinds                 // how many there are
)

// names are the kinds' names in logs and metrics.
var names = [kinds]string{"nothing", "ping", "catalog", "manifest", "blob", "upload", "tags", "referrers", "other"}

// target is what a path names. name is well formed for every kind that belongs to a
// repository; of tag, digest and id at most the one that the kind has is set.
type target struct {
	kind   kind
	name   string // the full repository name as the client wrote it, roots removed
	tag    string
	digest registry.Digest
	id     string // of an upload; not checked
}

// parse reads a request path. raw is its encoded form where that says more than path
// (url.URL.RawPath), else empty.
//
// A registry is found at /v2/…, and for a project that is known also at /<project>/v2/…
// (Docker's mirrors with a path), at /v2/<project>/v2/… (the same clients, given the other
// form) and at /<project>/… without any /v2 (containerd's override_path). Whoever has an
// organisation called "v2" finds it below one more of them, at /v2/<project>/v2/v2/….
//
// Repository names may contain every word of the API, so the endpoint is found from the
// right: "a/blobs/manifests/latest" is the tag latest of "a/blobs".
//
// A root and a ping are there for every name that mine says could be a project, there or not:
// else they would tell of a private one that it is there (FAULTS C19).
func parse(path, raw string, known, mine func(project string) bool) (target, error) {
	path = collapse(path)
	if climbs(path) {
		return target{kind: nothing}, invalid(registry.NameInvalid, "the path contains \"..\"")
	}
	root, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	rest = strings.TrimSuffix(rest, "/")
	project := ""
	switch {
	case root == "v2":
		first, after, _ := strings.Cut(rest, "/")
		if below, ok := cutSegment(after, "v2"); ok && known(first) {
			project, rest = first, below
		} else if first != "" && after == "" && mine(first) {
			return target{kind: ping}, nil
		}
	case root != "" && mine(root):
		project = root
		if below, ok := cutSegment(rest, "v2"); ok {
			rest = below
		}
	default:
		return target{kind: other}, nil
	}
	// An encoded slash would be a separator here and none to whoever looked at the path
	// before us: a proxy in front, or its access rules.
	if strings.Contains(strings.ToLower(raw), "%2f") {
		return target{kind: nothing}, invalid(registry.NameInvalid, "the path contains an encoded slash")
	}
	if rest == "" {
		return target{kind: ping}, nil
	}
	if rest == "_catalog" && project == "" {
		return target{kind: catalog}, nil
	}
	t, ref := endpoint(rest)
	if t.kind == nothing || t.name == "" {
		return target{kind: nothing}, nil
	}
	if project != "" {
		t.name = project + "/" + t.name
	}
	if err := registry.CheckName(t.name); err != nil {
		return target{kind: t.kind}, invalid(registry.NameInvalid, text(err, registry.NameInvalid))
	}
	return reference(t, ref)
}

// endpoint splits what follows the root into repository, endpoint and reference.
func endpoint(rest string) (t target, ref string) {
	rest, last := cutLast(rest)
	name, word := cutLast(rest)
	switch {
	case word == "manifests":
		return target{kind: manifest, name: name}, last
	case word == "blobs" && last == "uploads":
		return target{kind: upload, name: name}, ""
	case word == "blobs":
		return target{kind: blob, name: name}, last
	case word == "referrers":
		return target{kind: referrers, name: name}, last
	case word == "tags" && last == "list":
		return target{kind: tags, name: name}, ""
	case word == "uploads":
		if name, word := cutLast(name); word == "blobs" {
			return target{kind: upload, name: name, id: last}, ""
		}
	}
	return target{kind: nothing}, ""
}

// reference puts a tag or digest into t.
func reference(t target, ref string) (target, error) {
	switch {
	case t.kind == tags, t.kind == upload:
		return t, nil
	case t.kind == manifest && !strings.Contains(ref, ":"):
		if err := registry.CheckTag(ref); err != nil {
			// No manifest can have such a tag, so none has it. Clients probe with impossible
			// tags and expect 404 (the conformance suite of specification 1.0 does).
			return t, invalid(registry.ManifestUnknown, text(err, registry.TagInvalid))
		}
		t.tag = ref
		return t, nil
	}
	d, err := registry.ParseDigest(ref)
	if err != nil {
		return t, invalid(registry.DigestInvalid, text(err, registry.DigestInvalid))
	}
	t.digest = d
	return t, nil
}

// invalid is an error that the client may read.
func invalid(code registry.Code, message string) error {
	return &registry.Fault{Code: code, Message: message}
}

// text is what err says, without the code at its end.
func text(err error, code registry.Code) string {
	return strings.TrimSuffix(err.Error(), ": "+string(code))
}

// collapse makes one slash of several, so that "//v2//x" is "/v2/x". A redirect would do the
// same, but containerd follows none that changes a HEAD, and a path beginning with two
// slashes would be a host in it.
func collapse(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

// climbs reports whether a segment of path is "..".
func climbs(path string) bool {
	return strings.Contains(path, "/../") || strings.HasSuffix(path, "/..") || strings.HasPrefix(path, "../")
}

// cutLast cuts off the last segment.
func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// cutSegment cuts off the first segment of path if it is the given one.
func cutSegment(path, segment string) (after string, ok bool) {
	first, after, _ := strings.Cut(path, "/")
	return after, first == segment
}
