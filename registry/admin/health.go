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

// readyz answers 200 when the node should get requests and 503 with the reasons when not.
func readyz(ask func(context.Context) error) http.Handler {
	if ask == nil {
		ask = func(context.Context) error { return nil }
	}
	ready := check[error]{ask: ask}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		why, err := ready.answer(r.Context())
		if err != nil {
			why = err
		}
		report := struct {
			Status  string   `json:"status"`
			Reasons []string `json:"reasons,omitempty"`
		}{Status: "ready"}
		if why == nil {
			reply(w, http.StatusOK, report)
			return
		}
		report.Status = "not ready"
		report.Reasons = strings.Split(why.Error(), "\n") // as errors.Join joins them
		reply(w, http.StatusServiceUnavailable, report)
	})
}

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
