package access

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"roadstead/registry"
)

// maxQuery is the longest query of the token service, in bytes. Clients that mount send three
// scopes of at most 255 bytes each.
const maxQuery = 8 << 10

// serveToken answers GET /service/token (distribution, "Token Authentication Specification").
func (a *Access) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := a.token(w, r); err != nil {
		a.refuse(w, err)
	}
}

func (a *Access) token(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		// containerd tries POST first, and GET after a 405.
		return &registry.Fault{Code: registry.Unsupported, Message: "tokens are fetched with GET"}
	}
	if len(r.URL.RawQuery) > maxQuery {
		return invalid("the query is too long")
	}
	var (
		p     = a.identify(r)
		query = r.URL.Query()
		asked = parseScopes(query["scope"])
		ns    = query.Get("ns") // of the realm that a ping was answered with
	)
	if p.grants != nil {
		// A token is no credential for another one: it would never end.
		p = wrong
	}
	if p.refusal != nil {
		// Foreign credentials reach a mirror: pods' imagePullSecrets, and Docker's login at the
		// Hub. Where anybody may pull they count for nothing (RKE2 §3.6). Without a scope it is
		// "docker login" that asks, whether they are right.
		if !a.harmless(r.Host, ns, asked) {
			return p.refusal
		}
		p = anyone
	}
	now := time.Now()
	token, err := a.issue(p, a.grant(p, r.Host, ns, asked), now)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"` // seconds
		IssuedAt    string `json:"issued_at"`
	}{token, token, int(tokenLife.Seconds()), now.UTC().Format(time.RFC3339)})
}

// harmless reports whether only pulling is asked for, and from something that anybody may pull
// from. What else is asked for with that does not matter, or it could be told whether it exists.
func (a *Access) harmless(host, ns string, asked []scope) bool {
	for _, s := range asked {
		if s.kind != "repository" || !slices.Equal(s.verbs, []string{"pull"}) {
			return false
		}
	}
	return len(a.grant(anyone, host, ns, asked)) > 0
}

// statuses of the errors that are answered here.
var statuses = map[registry.Code]int{
	registry.Unauthorized:    http.StatusUnauthorized,
	registry.NameUnknown:     http.StatusNotFound,
	registry.Unsupported:     http.StatusMethodNotAllowed,
	registry.TooManyRequests: http.StatusTooManyRequests,
	registry.Unavailable:     http.StatusServiceUnavailable,
	Invalid:                  http.StatusBadRequest,
}

// refuse answers with err, in the form that the registry API has for errors. What is not meant
// for clients is logged.
func (a *Access) refuse(w http.ResponseWriter, err error) {
	fault, ok := errors.AsType[*registry.Fault](err)
	status := 0
	if ok {
		status = statuses[fault.Code]
	}
	if status == 0 {
		a.log.Error("request failed", "err", err)
		fault, status = &registry.Fault{Code: "UNKNOWN", Message: "internal error"}, http.StatusInternalServerError
	}
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="`+service+`"`)
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(int((fault.RetryAfter+time.Second-1)/time.Second)))
	}
	type entry struct {
		Code    registry.Code `json:"code"`
		Message string        `json:"message"`
	}
	// The client may be gone, and then there is nobody to tell.
	_ = writeJSON(w, status, struct {
		Errors []entry `json:"errors"`
	}{[]entry{{fault.Code, fault.Message}}})
}

// writeJSON writes an answer that no cache keeps.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
	return nil
}
