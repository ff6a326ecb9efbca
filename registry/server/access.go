package server

import (
	"net/http"

	"roadstead/registry"
)

// Access decides who sent a request and whether they may do what it asks. All methods may be
// called concurrently.
type Access interface {
	// Identify says who sent a request. Wrong credentials are no error: they make a principal
	// that may do what anybody may, and to whom everything else is Unauthorized.
	// TooManyRequests and Unavailable are errors.
	Identify(r *http.Request) (registry.Principal, error)

	// Authorize returns nil, Unauthorized (credentials could help), Denied, or NameUnknown
	// (nothing says whether it exists). It looks at nothing but memory.
	Authorize(p registry.Principal, a registry.Action, r registry.Resource) error

	// Challenge is the WWW-Authenticate header of a 401. A scope is like
	// "repository:production/web:pull,push".
	Challenge(r *http.Request, scopes ...string) string

	// Login says whether GET /v2/ by this principal is answered 200 (nil) or is Unauthorized,
	// as it is as soon as something is not for everybody (RKE2 §3.4).
	Login(p registry.Principal) error

	// Record notes in the audit log what was done or refused. It does not wait for a disk.
	Record(e registry.Event)
}
