package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// healthz answers 200 as long as the process can answer at all: what is behind it restarts a
// process that does not, and no restart mends a disk or an upstream. How the parts are is in
// the body.
func healthz(ask func(context.Context) []Component) http.Handler {
	if ask == nil {
		ask = func(context.Context) []Component { return nil }
	}
	parts := check[[]Component]{ask: ask}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		components, err := parts.answer(r.Context())
		if err != nil {
			components = []Component{{Name: "health", Status: Unhealthy, Error: err.Error()}}
		}
		report := struct {
			Status     string      `json:"status"`
			Components []Component `json:"components"`
		}{Healthy, []Component{}}
		for _, c := range components {
			if c.Status != Healthy {
				report.Status = Unhealthy
			}
			report.Components = append(report.Components, c)
		}
		reply(w, http.StatusOK, report)
	})
}

// readyz answers 200 when the node should get requests and 503 with the reasons when not. What a node
// is degraded by it says with a 200: all nodes may be at once, and then they are what there is. To whoever
// asks with ?whole it says so with a 503, for a balancer that falls back on the others.
func readyz(ask, askMore func(context.Context) error) http.Handler {
	if ask == nil {
		ask = func(context.Context) error { return nil }
	}
	if askMore == nil {
		askMore = func(context.Context) error { return nil }
	}
	ready, whole := check[error]{ask: ask}, check[error]{ask: askMore}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		whole.join(r.Context()) // at the same time
		why := asked(&ready, r)
		report := struct {
			Status   string   `json:"status"`
			Reasons  []string `json:"reasons,omitempty"`
			Degraded []string `json:"degraded,omitempty"`
		}{Status: "ready"}
		if why != nil {
			report.Status, report.Reasons = "not ready", told(why)
			reply(w, http.StatusServiceUnavailable, report)
			return
		}
		status := http.StatusOK
		if why := asked(&whole, r); why != nil {
			report.Status, report.Degraded = "degraded", told(why)
			if r.URL.Query().Has("whole") {
				status = http.StatusServiceUnavailable
			}
		}
		reply(w, status, report)
	})
}

// asked is the answer to a question, be it that there is none.
func asked(c *check[error], r *http.Request) error {
	why, err := c.answer(r.Context())
	if err != nil {
		return err
	}
	return why
}

// told is an error as a list, as errors.Join joins them.
func told(err error) []string { return strings.Split(err.Error(), "\n") }

func reply(w http.ResponseWriter, status int, report any) {
	body, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		// The reports are structs of strings, which always have a form in JSON.
		panic(fmt.Sprintf("admin: %v", err))
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // whoever asked and left does not mind
}
