package main

import (
	"context"
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"roadstead/registry"
)

// redirect is how long a blob has to be, in bytes, for clients to be sent to the bucket for it. Zero:
// nobody has said; negative: none is.
type redirect int64

// redirected is how long a URL of the bucket is good, which nobody can take back: as long as a token for
// a pull, so that it gives nobody more than that does.
const redirected = 5 * time.Minute

// setRedirect reads true, false or a size.
func (v value) setRedirect(r *redirect) {
	switch text, ok := v.text(); {
	case !ok:
	case text == "true":
		*r = 1 // an empty blob is answered faster than it is located
	case text == "false":
		*r = -1
	default:
		n, instead := parseSize(text)
		if instead != "" {
			v.fault(fmt.Sprintf("%q is neither true nor false nor a size", registry.Clip(text)), "write how long a blob has to be for it, such as 64MiB, or true for all")
			return
		}
		*r = max(redirect(n), 1)
	}
}

// exportRedirect writes it.
func (m *mapping) redirect(r redirect) {
	switch {
	case r == 1 || r < 0:
		m.add("redirect", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(r == 1)}, "")
	default:
		m.size("redirect", int64(r), 0)
	}
}

// checkRedirects looks for projects that could redirect to no bucket.
func (f *file) checkRedirects(v value) {
	if f.Storage.S3.Bucket != "" {
		return
	}
	for _, p := range f.Projects {
		if line := v.doc.lines["/projects/"+p.Name+"/redirect"]; line > 0 && p.Redirect > 0 {
			v.doc.fault(line, "redirect: content is in a directory, which has no URL", "remove the line, or write storage.s3")
		}
	}
}

// locate says where a client fetches a blob by itself, or "". Which nodes ask is never asked here:
// they have the bucket themselves.
func (h *House) locate(ctx context.Context, repo registry.Repo, d registry.Digest) string {
	least := h.inForce.Load().redirect(repo.Project)
	if least <= 0 {
		return ""
	}
	if h.hosted.Has(repo.Project) {
		return h.hosted.Locate(ctx, repo, d, int64(least), redirected)
	}
	return h.cache.Locate(ctx, repo, d, int64(least), redirected)
}

// redirect is how long a blob of a project has to be for it; zero or less: never. A URL is good for
// whoever has it, so what is said for all projects is said of those that are for everybody: of a private
// one, and of whatever somebody makes private without knowing of a bucket, it is to be said by name.
func (f *inForce) redirect(project string) redirect {
	var public, private bool
	note := func(isPublic bool) { public, private = public || isPublic, private || !isPublic }
	for _, p := range f.cfg.Projects {
		if p.Name != project {
			continue
		}
		if p.Redirect != 0 {
			return p.Redirect
		}
		note(p.Public)
	}
	least := f.cfg.Storage.S3.Redirect
	if least <= 0 {
		return least // without a look for the project among thousands
	}
	// One that somebody has made may have the place of a built-in one.
	if row, ok := f.holding.project(project); ok {
		note(row.Public)
	}
	if private || !public {
		return 0
	}
	return least
}
