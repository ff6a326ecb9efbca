package hosted

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Order is a cleaning that somebody asks for, or that a plan has.
type Order struct {
	By       string // who asks; "" for a plan
	Project  string // retain the tags of this project, and that is all; "": retain in all of them, and collect
	Dry      bool   // only say what would go
	Untagged bool   // manifests without a tag go by the time of grace, also where no rule is
}

// Plan is when to clean, and how.
type Plan struct {
	Schedule Schedule
	Order    Order
}

// Cleaning is an order that is carried out.
type Cleaning struct {
	Order
	Began     time.Time
	Ended     time.Time // zero: it is under way
	Retired   []Retired
	Collected Collected
	Err       error
}

// cleaning is what is to be cleaned and when.
type cleaning struct {
	orders  chan Order
	changed chan struct{} // something is due at another time than before

	mu   sync.Mutex
	plan *Plan              // nil: retain and collect every so often, as Config says
	busy context.CancelFunc // ends the one that is under way; nil: none is
}

// SetPlan says when to clean from now on; nil: as Config says.
func (r *Registry) SetPlan(p *Plan) {
	r.cleaning.mu.Lock()
	r.cleaning.plan = p
	r.cleaning.mu.Unlock()
	r.replan()
}

func (r *Registry) replan() {
	select {
	case r.cleaning.changed <- struct{}{}:
	default: // the one that waits there is as good
	}
}

// Clean has an order carried out by Run, at once. registry.Conflict says that another one is under
// way.
func (r *Registry) Clean(o Order) error {
	r.cleaning.mu.Lock()
	defer r.cleaning.mu.Unlock()
	if r.cleaning.busy == nil {
		select {
		case r.cleaning.orders <- o:
			return nil
		default:
		}
	}
	return &registry.Fault{Code: registry.Conflict, Message: "another collection is under way: wait for its end"}
}

// StopCleaning ends the cleaning that is under way, and reports whether there was one. What is
// removed by then stays so, and nothing is left half done.
func (r *Registry) StopCleaning() bool {
	r.cleaning.mu.Lock()
	defer r.cleaning.mu.Unlock()
	if r.cleaning.busy == nil {
		return false
	}
	r.cleaning.busy()
	return true
}

// clean carries out orders, and those that are due.
func (r *Registry) clean(ctx context.Context) {
	a := agenda{registry: r}
	for {
		at := a.look(time.Now())
		next := time.NewTimer(time.Until(at))
		if at.IsZero() {
			next.Stop()
		}
		var orders []Order
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-r.cleaning.changed:
		case o := <-r.cleaning.orders:
			orders = append(orders, o)
		case now := <-next.C:
			orders = a.due(now)
		}
		next.Stop()
		for _, o := range orders {
			r.carryOut(ctx, o)
		}
	}
}

// carryOut is one cleaning.
func (r *Registry) carryOut(ctx context.Context, o Order) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.cleaning.mu.Lock()
	r.cleaning.busy = cancel
	r.cleaning.mu.Unlock()
	defer func() {
		r.cleaning.mu.Lock()
		r.cleaning.busy = nil
		r.cleaning.mu.Unlock()
	}()
	c := Cleaning{Order: o, Began: time.Now()}
	r.note(c)
	for _, p := range r.toRetain(o) {
		gone, err := r.retain(ctx, p, o.Dry)
		c.Retired, c.Err = append(c.Retired, gone...), errors.Join(c.Err, err)
		if err != nil && ctx.Err() == nil {
			r.fault("retain tags", err, "project", p.Name)
		}
	}
	if o.Project == "" {
		done, err := r.Collect(ctx, o.Dry)
		c.Collected, c.Err = done, errors.Join(c.Err, err)
		if err != nil && ctx.Err() == nil {
			r.fault("collect", err)
		}
	}
	c.Ended = time.Now()
	r.note(c)
}

// toRetain are the projects that an order retains tags in, with the rules to do it by.
func (r *Registry) toRetain(o Order) []*project {
	all := *r.projects.Load()
	var some []*project
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := *all[name]
		switch {
		case o.Project != "" && o.Project != name:
			continue
		case o.Project == "" && p.schedule != nil: // it has a time of its own, or none
			p.Retention = catalog.Retention{}
		}
		if p.untagged = o.Untagged; p.Retention.None() && !p.untagged {
			continue
		}
		some = append(some, &p)
	}
	return some
}

// agenda is what is due, and when. Only clean's goroutine has it.
type agenda struct {
	registry *Registry
	entries  map[string]entry // by project; "" is the plan
}

// entry is something that is due again and again.
type entry struct {
	schedule Schedule
	every    time.Duration // or so often, if it is more than nothing
	order    Order
	at       time.Time // zero: never
}

func (e entry) after(t time.Time) time.Time {
	if e.every > 0 {
		return t.Add(e.every)
	}
	return e.schedule.Next(t)
}

// look reads what is due when, and returns the first time of it; zero: never. What is as it was keeps
// its time, however often somebody looks.
func (a *agenda) look(now time.Time) (first time.Time) {
	wanted := map[string]entry{}
	a.registry.cleaning.mu.Lock()
	plan := a.registry.cleaning.plan
	a.registry.cleaning.mu.Unlock()
	if plan != nil {
		wanted[""] = entry{schedule: plan.Schedule, order: plan.Order}
	} else if a.registry.every > 0 {
		wanted[""] = entry{every: a.registry.every}
	}
	for name, p := range *a.registry.projects.Load() {
		if p.schedule != nil && !p.Retention.None() {
			wanted[name] = entry{schedule: *p.schedule, order: Order{Project: name}}
		}
	}
	for name, e := range wanted {
		was, there := a.entries[name]
		switch {
		case there && was.schedule == e.schedule && was.every == e.every:
			e.at = was.at
		case a.entries == nil && e.every > 0:
			e.at = now.Add(min(e.every, firstCollection))
		default:
			e.at = e.after(now)
		}
		wanted[name] = e
		if !e.at.IsZero() && (first.IsZero() || e.at.Before(first)) {
			first = e.at
		}
	}
	a.entries = wanted
	return first
}

// due takes what is due by now: retentions before the collection, which removes what they leave.
func (a *agenda) due(now time.Time) (orders []Order) {
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(a.entries))) {
		e := a.entries[name]
		if e.at.IsZero() || e.at.After(now) {
			continue
		}
		orders = append(orders, e.order)
		e.at = e.after(now)
		a.entries[name] = e
	}
	return orders
}
