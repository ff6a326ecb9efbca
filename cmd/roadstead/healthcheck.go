package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Healthcheck is the command of that name, for containers that have no curl.
type Healthcheck struct {
	settings
	Address string        `placeholder:"HOST:PORT" help:"Where the server's metrics and health are. Default: \"admin\" of the configuration."`
	Timeout time.Duration `default:"5s" help:"How long to wait for the answer."`
}

// Help is the long help.
func (h *Healthcheck) Help() string {
	return `Asks /readyz of the running server. The exit status is 0 when it is ready, be it degraded, and 1 with the reason when it is not, does not answer, or is shutting down.`
}

// Run asks once.
func (h *Healthcheck) Run(std streams) error {
	address := h.Address
	if address == "" {
		cfg, err := h.load()
		if err != nil {
			return err
		}
		address = cfg.Admin
	}
	if address == "" {
		return errors.New(`"admin" is off in the configuration, so there is nothing to ask; set it to an address such as "127.0.0.1:5001"`)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port: %w", address, err)
	}
	switch host { // what listens everywhere listens there too
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	// A proxy of the environment is for upstreams, never for one's own process.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w; is \"roadstead serve\" running, with the same \"admin\" address?", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why := cmp.Or(reasons(resp.Body, "reasons"), "what answers there is not roadstead's \"admin\" address")
		return fmt.Errorf("not ready (%s): %s", resp.Status, why)
	}
	if without := reasons(resp.Body, "degraded"); without != "" {
		fmt.Fprintln(std.out, "ready, but degraded:", without)
		return nil
	}
	fmt.Fprintln(std.out, "ready")
	return nil
}

// reasons reads one of the lists of a report; "" where there is none.
func reasons(body io.Reader, list string) string {
	var report map[string]any
	if err := json.NewDecoder(io.LimitReader(body, 64<<10)).Decode(&report); err != nil {
		return ""
	}
	all, _ := report[list].([]any)
	var text []string
	for _, one := range all {
		text = append(text, fmt.Sprint(one))
	}
	return strings.Join(text, "; ")
}
