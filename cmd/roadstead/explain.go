package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"roadstead/cache"
	"roadstead/registry/estate"
	"roadstead/rewrite"
	"roadstead/rewrite/registries"
)

// Explain is the command of that name.
type Explain struct {
	onDirectory
	Images     []string `arg:"" name:"image" help:"As in a pod: busybox, quay.io/team/app:1.0, ghcr.io/a/b@sha256:…"`
	Registries string   `placeholder:"FILE" help:"The registries.yaml of a node, or \"-\" for standard input. Without it: what a client asks for that has this server in the image's name, or as its only mirror."`
	NoDefault  bool     `help:"The nodes have disable-default-registry-endpoint."`
	Server     []string `sep:"none" placeholder:"URL" help:"How nodes know this server, such as http://mirror.example.com:5000, beside \"url\" in the configuration. Without either every endpoint is taken for it that is none of the registries cached here. Can be given again."`
	Probe      bool     `help:"Ask the endpoints, with the credentials and certificates of the registries.yaml and by the proxy of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, until one answers as each client wants it."`
	JSON       bool     `help:"A list of JSON objects."`
}

// Help is the long help.
func (c *Explain) Help() string {
	return `Says hop by hop what becomes of an image: what containerd and wharfie (which pulls RKE2's own first images) make of its name, which endpoint they ask for what, and what this server makes of that: the project and how it was found, whether the image is here, fresh or stale, and which upstream would be asked.

It looks at the configuration and the catalog, beside a running server or without one. What a running server remembers of a tag reaches the catalog every ten minutes, so a tag may be fresher than it looks here. Nobody is asked anything without --probe.

A probe goes the way that a node goes if it runs on one and has the proxy of its service: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as they are in /etc/default/rke2-agent or beside it, and CONTAINERD_HTTPS_PROXY and its like as HTTPS_PROXY, for containerd obeys those first.

    roadstead explain --registries /etc/rancher/rke2/registries.yaml --probe rancher/mirrored-pause:3.6`
}

// Run explains all images.
func (c *Explain) Run(std streams) error {
	// As lint does: what is read may never end, and nothing is open yet.
	var f *registries.File
	if c.Registries != "" {
		text, err := readRegistries(c.Registries)
		if err != nil {
			return err
		}
		if f, err = registries.Parse(text); err != nil {
			return fmt.Errorf("%s: %w", c.Registries, err)
		}
		f.NoDefault = c.NoDefault
	}
	var images []rewrite.Image
	for _, name := range c.Images {
		image, err := rewrite.ParseImage(name)
		if err != nil {
			return err
		}
		images = append(images, image)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	v, err := c.look(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	x, done, err := v.explainer(c.Server)
	if err != nil {
		return err
	}
	defer done()
	all, patience := []estate.Explanation{}, hearsay
	for _, image := range images {
		one, err := x.Explain(ctx, image, f)
		if err != nil {
			return err
		}
		if c.Probe {
			if f == nil && x.URL == "" {
				return errors.New("nobody knows where this server is: give --server URL, or set \"url\" in the configuration")
			}
			probe(ctx, one)
			known, err := lookAfter(ctx, x, image, one, patience)
			if err != nil {
				return err
			}
			if !known {
				patience = 0 // whoever answers has another catalog, and the next image would wait in vain too
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		all = append(all, one)
	}
	if hosts := guessed(x, f, all); len(hosts) > 0 {
		fmt.Fprintf(std.err, "%s is taken for this server, as no registry cached here is called that; --server URL, or \"url\" in the configuration, says which is\n", strings.Join(hosts, ", "))
	}
	if c.JSON {
		out := json.NewEncoder(std.out)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(all)
	}
	return printExplanations(std.out, all)
}

// guessed are the endpoints of a registries.yaml that are taken for this server because nobody has said where
// it is.
func guessed(x estate.Explainer, f *registries.File, all []estate.Explanation) (hosts []string) {
	if f == nil || len(x.Self) > 0 {
		return nil
	}
	for _, e := range all {
		for _, w := range e.Ways {
			for _, s := range w.Steps {
				if u, err := url.Parse(s.Endpoint); err == nil && s.Self && !slices.Contains(hosts, u.Host) {
					hosts = append(hosts, u.Host)
				}
			}
		}
	}
	return hosts
}

// hearsay is how long the catalog may take to hear of what a probe has had the server do: that waits up to
// three seconds for a quiet moment before it writes down what has come.
const hearsay = 4 * time.Second

// lookAfter looks again at what is here, after a probe, for that has changed it. It reports whether the
// catalog has heard of that in time.
func lookAfter(ctx context.Context, x estate.Explainer, image rewrite.Image, e estate.Explanation, patience time.Duration) (known bool, err error) {
	for end := time.Now().Add(patience); ctx.Err() == nil; {
		err = x.Look(ctx, image, e)
		if known = heard(e); err != nil || x.Cache == nil || known || time.Now().After(end) {
			return known, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return false, context.Cause(ctx)
}

// heard reports whether the catalog has all that the answers of this server have brought into it.
func heard(e estate.Explanation) bool {
	for _, w := range e.Ways {
		for _, s := range w.Steps {
			for _, o := range s.Outcomes {
				if o.Here == nil || o.Here.Hosted || o.Here.Refused != "" || len(o.Probes) == 0 {
					continue
				}
				status, p := o.Probes[len(o.Probes)-1].Status, o.Here.Policy
				judged := p == nil || p.Verify == "" || p.Verified || p.Why != ""
				if status == http.StatusOK && !(o.Here.Stored && judged) || status == http.StatusForbidden && !judged {
					return false
				}
			}
		}
	}
	return true
}

// explainer says what becomes of images in a house that is only looked at.
func (v view) explainer(server []string) (x estate.Explainer, done func(), err error) {
	var u upstreams
	x = estate.Explainer{
		Table: v.table, Upstream: u.urls, Offline: v.cfg.Offline, Self: selves(v.cfg, server), Plain: v.cfg.TLS.Certificate == "",
	}
	for _, s := range append(server, v.cfg.URL) {
		if u, err := url.Parse(s); err == nil && u.Host != "" && x.URL == "" {
			x.URL = u.Scheme + "://" + u.Host
		}
	}
	if x.URL == "" && len(x.Self) > 0 {
		x.URL = estate.Scheme(x.Plain) + x.Self[0]
	}
	x.Hosted = func(project string) bool { return !v.cfg.proxy(project) }
	if v.data == nil {
		next, err := u.connect(v.cfg.proxies())
		if err != nil {
			return x, nil, err
		}
		u.replace(next)
		return x, u.Close, nil
	}
	x.Catalog, x.Read = v.data.Catalog, v.data.Store.Read
	// It runs nothing, and so only looks.
	x.Cache, err = newCache(v.cfg, v.data, &u, cache.Config{Log: slog.New(slog.DiscardHandler)})
	return x, u.Close, err
}

// printExplanations writes them for people.
func printExplanations(w io.Writer, all []estate.Explanation) error {
	p := &printer{w: w}
	for i, e := range all {
		if i > 0 {
			p.line("")
		}
		p.line("%s", e.Image)
		for _, way := range e.Ways {
			p.way(way)
		}
	}
	return p.err
}

// printer writes lines until one cannot be written.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) way(w estate.Way) {
	switch w.Client {
	case "direct":
		p.line("\nwith this server in its name")
	case "ns":
		p.line("\nwith this server as a mirror, by ns")
	default:
		p.line("\n%s, %s", w.Client, either(w.Mirror != "", fmt.Sprintf("by mirrors.%q on line %d", w.Mirror, w.Line), "which finds no mirror for it"))
	}
	for _, n := range w.Notes {
		p.line("  ! %s", n)
	}
	probed := slices.ContainsFunc(w.Steps, func(s estate.Step) bool { return s.Probed() })
	for i, s := range w.Steps {
		at := s.Endpoint
		if s.Line > 0 {
			at += fmt.Sprintf(" (line %d)", s.Line)
		}
		if s.User != "" {
			at += ", as " + s.User
		}
		if s.Default {
			at += ", the registry itself"
		}
		p.line("  %d. %s", i+1, at)
		if probed && !s.Probed() {
			p.line("     not asked, as the one before has it")
			continue
		}
		if len(s.Outcomes) > 1 {
			p.line("     ! %d rules match: which one counts is random, anew for each pull", len(s.Outcomes))
		}
		for _, o := range s.Outcomes {
			p.outcome(o)
		}
	}
}

func (p *printer) outcome(o estate.Outcome) {
	if o.Rule != "" {
		p.line("     rewritten by %q (line %d) to %s", o.Rule, o.Line, o.Repository)
	}
	if len(o.Probes) > 0 {
		for _, a := range o.Probes {
			p.probed(a)
		}
	} else {
		for _, r := range o.Requests {
			if r.Kind == "ping" || r.Kind == "tag" {
				p.line("     %s %s", r.Method, r.URL)
			}
		}
	}
	p.line("     token repository:%s:pull", o.Scope)
	if o.Here != nil {
		for _, text := range hereTexts(*o.Here) {
			p.line("     here: %s", text)
		}
	}
}

// answerHeaders are those of an answer that tell anything, in the order in which they are shown.
var answerHeaders = []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Www-Authenticate", "Location", "Retry-After", "Age", "Warning", "Server"}

func (p *printer) probed(a estate.Answer) {
	answer := fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	if a.Status == 0 {
		answer = a.Error
	}
	p.line("     %s %s", a.Method, a.URL)
	p.line("       %s, %.0f ms", answer, a.Took*1000)
	if a.Token != "" {
		p.line("       token: %s", a.Token)
	}
	for _, name := range answerHeaders {
		if value := a.Headers[name]; value != "" {
			p.line("       %s: %s", name, value)
		}
	}
}
