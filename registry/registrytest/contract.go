package registrytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Contract is an OpenAPI document that requests and answers are held to.
//
// Answers have to be as it says and nothing more: a property or a status that it does not have is an
// error. Requests may have more, and what it forbids must be refused.
type Contract struct {
	requests *openapi3.T
	answers  *openapi3.T // the same, with objects that have nothing more than they say

	mu   sync.Mutex
	seen map[string][]int
}

// NewContract is ReadContract of a document that has no fault.
func NewContract(t testing.TB, document []byte) *Contract {
	t.Helper()
	c, err := ReadContract(document)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ReadContract reads a document, YAML or JSON.
func ReadContract(document []byte) (*Contract, error) {
	c := &Contract{seen: map[string][]int{}}
	for _, to := range []**openapi3.T{&c.requests, &c.answers} {
		doc, err := openapi3.NewLoader().LoadFromData(document)
		if err != nil {
			return nil, err
		}
		if err := doc.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
			return nil, err
		}
		*to = doc
	}
	closed := map[*openapi3.Schema]bool{}
	if c.answers.Components != nil {
		for _, schema := range c.answers.Components.Schemas {
			closeObjects(schema, closed)
		}
	}
	for _, item := range c.answers.Paths.Map() {
		for _, op := range item.Operations() {
			for _, response := range op.Responses.Map() {
				for _, content := range response.Value.Content {
					closeObjects(content.Schema, closed)
				}
			}
		}
	}
	return c, nil
}

// closeObjects has all objects of a schema take nothing that is not among their properties.
func closeObjects(ref *openapi3.SchemaRef, done map[*openapi3.Schema]bool) {
	if ref == nil || done[ref.Value] {
		return
	}
	s := ref.Value
	done[s] = true
	if s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil && len(s.Properties) > 0 {
		no := false
		s.AdditionalProperties.Has = &no
	}
	for _, p := range s.Properties {
		closeObjects(p, done)
	}
	closeObjects(s.Items, done)
	closeObjects(s.AdditionalProperties.Schema, done)
}

// Operations are all that the document has, as "GET /path/{id}".
func (c *Contract) Operations() []string {
	var all []string
	for path, item := range c.answers.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// Seen are the statuses that an operation has been answered with.
func (c *Contract) Seen(operation string) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen[operation])
}

// elsewhere are the statuses that any call may have without its saying so.
var elsewhere = []int{
	http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests,
	http.StatusServiceUnavailable, http.StatusInsufficientStorage,
}

// Check says what of a request and its answer is not as the document says.
func (c *Contract) Check(r *http.Request, sent []byte, status int, header http.Header, answer []byte) error {
	pattern, params := c.find(r)
	if pattern == "" {
		if status >= 200 && status < 300 {
			return fmt.Errorf("%s %s is in no document, and was answered %d", r.Method, r.URL, status)
		}
		return nil
	}
	c.mu.Lock()
	c.seen[r.Method+" "+pattern] = append(c.seen[r.Method+" "+pattern], status)
	c.mu.Unlock()
	said := func(err error) error {
		return fmt.Errorf("%s %s %s: %d %s: %w", r.Method, r.URL, sent, status, answer, err)
	}

	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(sent))
	input := &openapi3filter.RequestValidationInput{
		Request: again, PathParams: params, Route: route(c.requests, pattern, r.Method),
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil && status < 400 {
		return said(fmt.Errorf("the document forbids the request: %w", err))
	}
	input.Route = route(c.answers, pattern, r.Method)
	op := input.Route.Operation
	if op.Responses.Status(status) == nil && !slices.Contains(elsewhere, status) {
		return said(errors.New("the document does not have this status"))
	}
	if mayBeEmpty, _ := op.Extensions["x-may-be-empty"].(bool); mayBeEmpty && status == 200 && len(answer) == 0 {
		return nil
	}
	if isStream(header) {
		return nil
	}
	err := openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: status, Header: header, Body: io.NopCloser(bytes.NewReader(answer)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		return said(err)
	}
	content := op.Responses.Status(status)
	if content != nil && len(content.Value.Content) == 0 && len(answer) > 0 {
		return said(errors.New("the document has no body for this answer"))
	}
	return nil
}

func route(doc *openapi3.T, pattern, method string) *routers.Route {
	item := doc.Paths.Value(pattern)
	return &routers.Route{Spec: doc, Path: pattern, PathItem: item, Method: method, Operation: item.GetOperation(method)}
}

// find returns the path of the document that a request is for, the one with the fewest parameters.
func (c *Contract) find(r *http.Request) (pattern string, params map[string]string) {
	asked := strings.Split(r.URL.EscapedPath(), "/")
	for candidate, item := range c.requests.Paths.Map() {
		parts := strings.Split(candidate, "/")
		if item.GetOperation(r.Method) == nil || len(parts) != len(asked) {
			continue
		}
		found := map[string]string{}
		fits := true
		for i, part := range parts {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				text, err := url.PathUnescape(asked[i])
				found[strings.TrimSuffix(name, "}")] = text
				fits = fits && err == nil && text != ""
			} else {
				fits = fits && part == asked[i]
			}
		}
		if fits && (pattern == "" || len(found) < len(params)) {
			pattern, params = candidate, found
		}
	}
	return pattern, params
}

// Transport sends requests, and reports what of those below /api/ is not as the document says.
func (c *Contract) Transport(report func(error)) http.RoundTripper { return transport{c, report} }

type transport struct {
	contract *Contract
	report   func(error)
}

// most bounds what is read of a body, in bytes.
const most = 16 << 20

// RoundTrip sends a request and looks at both it and its answer.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		return http.DefaultTransport.RoundTrip(r)
	}
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(io.LimitReader(r.Body, most)); err != nil {
			return nil, err
		}
		r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var body []byte
	if !isStream(answer.Header) {
		body, err = io.ReadAll(io.LimitReader(answer.Body, most))
		answer.Body.Close()
		if err != nil {
			return nil, err
		}
		answer.Body = io.NopCloser(bytes.NewReader(body))
	}
	if err := t.contract.Check(r, sent, answer.StatusCode, answer.Header, body); err != nil {
		t.report(err)
	}
	return answer, nil
}

// isStream reports whether an answer has no end.
func isStream(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "text/event-stream")
}
