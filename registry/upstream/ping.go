package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"roadstead/registry"
)

// Ping asks an endpoint for the root of the API, with the credentials, and returns nil when what
// answers is a registry that takes them (OCI distribution specification 1.1, "Determining
// Support"). Its error may be shown to whoever administers: it says what went wrong on the way.
func (r *Registry) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	err := r.each(ctx, 0, func(ctx context.Context, t turn) error {
		res, err := t.ask(ctx, question{method: http.MethodGet, unknown: registry.NameUnknown})
		if err != nil {
			return err
		}
		kind := res.Header.Get("Content-Type")
		drain(res)
		if strings.HasPrefix(kind, "text/html") {
			return t.r.unexpected("a registry's answer", fmt.Errorf("%s answered with a page for people", t.base.Host))
		}
		return nil
	})
	fault, ok := errors.AsType[*registry.Fault](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return fmt.Errorf("ping: %w", err)
	case errors.Is(fault, registry.NameUnknown):
		return fmt.Errorf("%s is no registry: there is nothing at /v2/ (%v)", r.name, fault.Err)
	}
	return fmt.Errorf("%s (%v)", fault.Message, fault.Err) // not wrapped: it is an answer to whoever asked for it
}
