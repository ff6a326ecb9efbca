package registrytest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Harbor is a server that answers as Harbor's REST API does to whoever reads it. It is made from the
// shapes that its API document and its clients have; no real one is behind it. Everything but GET fails the
// test.
type Harbor struct {
	t      testing.TB
	server *httptest.Server

	Username, Password string // whom it knows

	mu       sync.Mutex
	data     map[string]json.RawMessage
	fault    HarborFault
	requests []string
}

// HarborFault may answer a request in place of a Harbor, and reports whether it has.
type HarborFault func(w http.ResponseWriter, r *http.Request) bool

// NewHarbor starts one that ends with the test. data is a JSON object of answers by what follows /api/v2.0,
// with an unescaped query but for that of pages: "/robots?q=Level=project,ProjectID=2". Arrays are lists, which
// have pages; null is an empty body. What is not there is an empty list where projects have one, and 404 else.
// certificates is nil for plain HTTP.
func NewHarbor(t testing.TB, data []byte, certificates *tls.Config) *Harbor {
	t.Helper()
	h := &Harbor{t: t, Username: "admin", Password: "Harbor12345"}
	if err := json.Unmarshal(data, &h.data); err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewUnstartedServer(h)
	h.server.TLS = certificates
	if certificates == nil {
		h.server.Start()
	} else {
		h.server.StartTLS()
	}
	t.Cleanup(h.server.Close)
	return h
}

// URL is that of its portal.
func (h *Harbor) URL() string { return h.server.URL }

// Fail has every request go by a fault first. nil: none.
func (h *Harbor) Fail(f HarborFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// Requests are the requests until now, as they came.
func (h *Harbor) Requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// ServeHTTP answers one request.
func (h *Harbor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	fault := h.fault
	h.requests = append(h.requests, r.Method+" "+r.URL.RequestURI())
	h.mu.Unlock()
	if r.Method != http.MethodGet {
		h.t.Errorf("Harbor was sent %s %s", r.Method, r.URL)
	}
	if fault != nil && fault(w, r) {
		return
	}
	path, below := strings.CutPrefix(r.URL.EscapedPath(), "/api/v2.0")
	if !below {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>Harbor</title>") // its portal answers everything
		return
	}
	username, password, _ := r.BasicAuth()
	if known := username == h.Username && password == h.Password; !known && path != "/systeminfo" {
		refuseAsHarbor(w, http.StatusUnauthorized, "UNAUTHORIZED", "unauthorized")
		return
	}
	query := r.URL.Query()
	page, size := query.Get("page"), query.Get("page_size")
	query.Del("page")
	query.Del("page_size")
	if len(query) > 0 {
		text, err := url.QueryUnescape(query.Encode())
		if err != nil {
			h.t.Error(err)
		}
		path += "?" + text
	}
	h.mu.Lock()
	answer, ok := h.data[path]
	h.mu.Unlock()
	if !ok && emptyList.MatchString(path) {
		answer, ok = json.RawMessage("[]"), true
	}
	if !ok {
		refuseAsHarbor(w, http.StatusNotFound, "NOT_FOUND", path+" not found")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	switch {
	case string(answer) == "null":
	case answer[0] == '[':
		h.page(w, r, answer, page, size)
	default:
		w.Write(answer)
	}
}

// emptyList are the lists that each project has.
var emptyList = regexp.MustCompile(`^/(projects/[^/]+/(members|immutabletagrules|webhook/policies|preheat/policies)|robots\?q=.*|labels\?.*)$`)

// page answers with one page of a list.
func (h *Harbor) page(w http.ResponseWriter, r *http.Request, list json.RawMessage, page, size string) {
	var all []json.RawMessage
	if err := json.Unmarshal(list, &all); err != nil {
		h.t.Error(err)
	}
	n, _ := strconv.Atoi(page)
	most, _ := strconv.Atoi(size)
	if n < 1 || most < 1 || most > 100 {
		h.t.Errorf("%s asks for page %q of %q", r.URL, page, size)
		n, most = 1, 10
	}
	w.Header().Set("X-Total-Count", strconv.Itoa(len(all)))
	from := min((n-1)*most, len(all))
	to := min(from+most, len(all))
	if to < len(all) {
		next := r.URL.Query()
		next.Set("page", strconv.Itoa(n+1))
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, next.Encode()))
	}
	json.NewEncoder(w).Encode(append([]json.RawMessage{}, all[from:to]...))
}

// Refused answers requests below a path with a status, as Harbor does to those who may not.
func Refused(path string, status int) HarborFault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/v2.0"+path) {
			return false
		}
		refuseAsHarbor(w, status, strings.ToUpper(strings.ReplaceAll(http.StatusText(status), " ", "_")), strings.ToLower(http.StatusText(status)))
		return true
	}
}

func refuseAsHarbor(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}
