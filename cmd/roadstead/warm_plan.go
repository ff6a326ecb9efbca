package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/registry/hosted"
	"roadstead/rewrite"
)

// Plan is a list of images that is warmed again and again.
type Plan struct {
	Name         string
	Images       []string
	File         string   // a list beside Images, which is read each time; "": none
	Platforms    []string // none: that of the server
	AllPlatforms bool
	Schedule     string // in cron's words
}

var planFields = []field[Plan]{
	{"images", func(v value, p *Plan) {
		for _, item := range v.list() {
			text, ok := item.text()
			if _, err := rewrite.ParseImage(text); ok && err != nil {
				item.fault(err.Error(), "write the name as a pod has it")
			} else if ok {
				p.Images = append(p.Images, text)
			}
		}
	}},
	{"file", func(v value, p *Plan) {
		v.setPath(&p.File)
		if _, err := readList(p.File); p.File != "" && err != nil {
			v.fault(err.Error(), "name a file that this user can read, with one image on a line, or with Kubernetes manifests")
		}
	}},
	{"platforms", func(v value, p *Plan) {
		for _, item := range v.list() {
			text, ok := item.text()
			if ok && text == "all" {
				p.AllPlatforms = true
			} else if ok {
				p.Platforms = append(p.Platforms, text)
			}
		}
		if p.AllPlatforms && len(p.Platforms) > 0 {
			v.fault("all and some platforms exclude each other", "leave one of them out")
		} else if err := estate.CheckPlatforms(p.Platforms); err != nil {
			v.fault(err.Error(), "write linux/amd64 and the like, or all")
		}
	}},
	{"schedule", func(v value, p *Plan) { v.setSchedule(&p.Schedule) }},
}

// readPlans reads what is warmed by plan.
func readPlans(v value, f *file) {
	v.pairs(func(name string, line int, child value) {
		p := Plan{Name: name}
		readMapping(child, planFields, &p)
		if !child.sound("images", "file", "schedule") {
			return
		}
		if p.Images == nil && p.File == "" {
			v.doc.fault(line, name+": there is no image to be warmed", "write images or file")
		}
		if p.Schedule == "" {
			v.doc.fault(line, name+": it is not said when", `write schedule, such as "0 0 3 * * *" for every night at three, UTC`)
		}
		f.Plans = append(f.Plans, p)
	})
}

// readList reads the list of a plan.
func readList(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := readText(path, f)
	if err == nil {
		_, err = rewrite.ListImages(text)
	}
	return string(text), err
}

// plans are those in force. A reload may change them.
type plans struct {
	mu      sync.Mutex
	all     []Plan
	changed chan struct{} // closed then; nil: nobody waits for that
}

func (p *plans) set(all []Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = all
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *plans) now() ([]Plan, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.all, p.changed
}

// due are the plans that are due next after a time, and when they are; zero: never.
func due(all []Plan, after time.Time) (at time.Time, which []Plan) {
	for _, p := range all {
		s, err := hosted.ParseSchedule(p.Schedule)
		if err != nil {
			continue // "never"
		}
		switch next := s.Next(after); {
		case next.IsZero():
		case at.IsZero() || next.Before(at):
			at, which = next, []Plan{p}
		case next.Equal(at):
			which = append(which, p)
		}
	}
	return at, which
}

// run has warmed what is due until ctx ends. What was due while no node led waits for the next time.
func (p *plans) run(ctx context.Context, e *estate.Estate, log *slog.Logger) {
	last := time.Now()
	for ctx.Err() == nil {
		all, changed := p.now()
		at, which := due(all, last)
		timer := time.NewTimer(time.Hour)
		if !at.IsZero() {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
			if at.IsZero() || time.Now().Before(at) {
				break // an hour has passed
			}
			last = at
			for _, plan := range which {
				plan.start(ctx, e, log)
			}
		}
		timer.Stop()
	}
}

// start has a plan warmed, as a job.
func (p Plan) start(ctx context.Context, e *estate.Estate, log *slog.Logger) {
	job, err := p.begin(ctx, e)
	switch {
	case errors.Is(err, registry.Conflict):
		log.Info("a planned warm-up still runs", "plan", p.Name)
	case err != nil:
		log.Warn("a planned warm-up could not begin", "plan", p.Name, "err", err)
	default:
		log.Info("a planned warm-up has begun", "plan", p.Name, "job", job.ID, "images", job.Images)
	}
}

func (p Plan) begin(ctx context.Context, e *estate.Estate) (estate.Job, error) {
	o := estate.WarmOrder{Images: p.Images, Platforms: p.Platforms, AllPlatforms: p.AllPlatforms}
	if p.File != "" {
		text, err := readList(p.File)
		if err != nil {
			return estate.Job{}, fmt.Errorf("its list: %w", err)
		}
		o.List = text
	}
	return e.WarmPlanned(ctx, p.Name, o)
}

// exportPlans writes them as the configuration has them.
func exportPlans(m *mapping, all []Plan) {
	for _, p := range all {
		m.part(p.Name, func(m *mapping) {
			m.list("images", p.Images)
			m.text("file", p.File)
			platforms := p.Platforms
			if p.AllPlatforms {
				platforms = []string{"all"}
			}
			m.list("platforms", platforms)
			m.text("schedule", p.Schedule)
		})
	}
}
