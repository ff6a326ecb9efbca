package server

import (
	"context"
	"net/http"
	"strings"

	"roadstead/registry"
)

// verb is a method that the API has.
type verb uint8

const (
	get verb = iota
	head
	post
	put
	patch
	del
	verbs // how many there are; a method that is none of them
)

// methods are the verbs as requests have them.
var methods = [verbs]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

func verbOf(method string) verb {
	for v, name := range methods {
		if method == name {
			return verb(v)
		}
	}
	return verbs
}

// writes reports whether v changes something.
func (v verb) writes() bool { return v != get && v != head && v != verbs }

// Two kinds of target have two places each: a right to delete a tag is none to delete what it
// points to, and an upload that has not begun can do nothing but begin.
const (
	manifestTag = kinds + iota // …/manifests/<tag>; manifest is …/manifests/<digest> here
	uploads                    // …/blobs/uploads/
	places                     // how many there are
)

// place is where t is in routes.
func (t *target) place() kind {
	switch {
	case t.kind == manifest && t.digest == "":
		return manifestTag
	case t.kind == upload && t.id == "":
		return uploads
	}
	return t.kind
}

// route is what a method does at a place, and what right that takes.
type route struct {
	action registry.Action
	kind   registry.Kind
	serve  func(*Server, context.Context, *response, *http.Request) error // nil: the method is not allowed

	hosted  bool // only a hosted project has it
	audited bool // the audit log gets what became of it
}

// routes are all routes there are. What has no row is refused, so a new kind or method can do
// nothing before somebody has said here who may.
var routes = [...][verbs]route{
	{}, // nothing
	{ // ping: who may is asked of Access.Login
		get:  {action: registry.Read, serve: (*Server).ping},
		head: {action: registry.Read, serve: (*Server).ping},
	},
	{ // catalog: the same, and each name in it takes the right to pull
		get:  {action: registry.List, kind: registry.Catalog, serve: (*Server).catalog},
		head: {action: registry.List, kind: registry.Catalog, serve: (*Server).catalog},
	},
	{ // manifest, by its digest
		get:  {action: registry.Pull, kind: registry.Repository, serve: (*Server).manifest},
		head: {action: registry.Pull, kind: registry.Repository, serve: (*Server).manifest},
		put:  {action: registry.Push, kind: registry.Repository, serve: (*Server).putManifest, hosted: true, audited: true},
		del:  {action: registry.Delete, kind: registry.Artifact, serve: (*Server).deleteManifest, hosted: true, audited: true},
	},
	{ // blob
		get:  {action: registry.Pull, kind: registry.Repository, serve: (*Server).blob},
		head: {action: registry.Pull, kind: registry.Repository, serve: (*Server).blob},
		del:  {action: registry.Delete, kind: registry.Artifact, serve: (*Server).deleteBlob, hosted: true, audited: true},
	},
	{ // upload that has begun
		get:   {action: registry.Push, kind: registry.Repository, serve: (*Server).uploadStatus, hosted: true},
		head:  {action: registry.Push, kind: registry.Repository, serve: (*Server).uploadStatus, hosted: true},
		patch: {action: registry.Push, kind: registry.Repository, serve: (*Server).appendUpload, hosted: true},
		put:   {action: registry.Push, kind: registry.Repository, serve: (*Server).commitUpload, hosted: true},
		del:   {action: registry.Push, kind: registry.Repository, serve: (*Server).cancelUpload, hosted: true},
	},
	{ // tags
		get:  {action: registry.List, kind: registry.Tags, serve: (*Server).tags},
		head: {action: registry.List, kind: registry.Tags, serve: (*Server).tags},
	},
	{ // referrers
		get:  {action: registry.Pull, kind: registry.Repository, serve: (*Server).referrers},
		head: {action: registry.Pull, kind: registry.Repository, serve: (*Server).referrers},
	},
	{}, // other
	{ // manifestTag
		get:  {action: registry.Pull, kind: registry.Repository, serve: (*Server).manifest},
		head: {action: registry.Pull, kind: registry.Repository, serve: (*Server).manifest},
		put:  {action: registry.Push, kind: registry.Repository, serve: (*Server).putManifest, hosted: true, audited: true},
		del:  {action: registry.Delete, kind: registry.Tags, serve: (*Server).deleteManifest, hosted: true, audited: true},
	},
	{ // uploads
		post: {action: registry.Push, kind: registry.Repository, serve: (*Server).startUpload, hosted: true},
	},
}

// A kind without its rows does not compile: routes has one line for each place, in their order.
var _ = [1]struct{}{}[len(routes)-int(places)]

// refusal stands for the routes that a server has not which is no more than a cache: there
// whatever changes something is answered with why it cannot.
var refusal = route{action: registry.Push, kind: registry.Repository, hosted: true}

// route finds what a request is to do, or nil.
func (s *Server) route(t *target, v verb) *route {
	if v == verbs {
		return nil
	}
	row := &routes[t.place()][v]
	switch {
	case row.serve != nil:
		return row
	case s.config.Writer == nil && v.writes() && belongs(t.kind):
		return &refusal
	}
	return nil
}

// allow is the Allow header for the place of t.
func (s *Server) allow(t *target) string {
	var list []string
	for v, row := range routes[t.place()] {
		if row.serve != nil && (s.config.Writer != nil || !verb(v).writes()) {
			list = append(list, methods[v])
		}
	}
	return strings.Join(list, ", ")
}

// belongs reports whether k is about a repository.
func belongs(k kind) bool {
	switch k {
	case manifest, blob, upload, tags, referrers:
		return true
	}
	return false
}
