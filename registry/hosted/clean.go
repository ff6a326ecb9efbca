package hosted

import (
	"context"
	"errors"
	"fmt"
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

// Lease is that of the catalog which who carries out an order has: there is one cleaning at a time, on
// all nodes together.
const Lease = "cleaning"

const (
	// Whoever leads after another one looks so far back: what was due when that one ended may not have
	// begun, and to begin a cleaning again does no harm.
	handover = 15 * time.Second

	// putOff is how long something waits that is due while another node has the lease.
	putOff = 10 * time.Second

	// A cleaning says that it has ended before it gives back what it was alone by: an order waits for
	// so long, and looks so often, whether that is all that is in its way.
	givenBack, lookAgain = time.Second, 5 * time.Millisecond
)

// Cleaning is an order that is carried out.
type Cleaning struct {
	Order
	Node      string // that carries it out; "" without a cluster
	Held      string // what it has the lease by, see catalog.Holder; "" without a cluster
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

	mu      sync.Mutex
	plan    *Plan              // nil: retain and collect every so often, as Config says
	busy    context.CancelFunc // ends the one that is under way; nil: none is
	leading bool               // it is here that is done what is due
}

func (c *cleaning) lead(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading = yes
}

func (c *cleaning) leads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leading
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
// way, here or at another node.
func (r *Registry) Clean(o Order) error {
	patience := time.Now().Add(givenBack)
	for {
		err := r.order(o)
		fault, ok := errors.AsType[*registry.Fault](err)
		if !ok || fault.Code != registry.Conflict || time.Now().After(patience) {
			return err
		}
		time.Sleep(lookAgain)
	}
}

// order is Clean of one who does not wait.
func (r *Registry) order(o Order) error {
	// Should another node begin between this look and ours, the history says of this one that it did
	// not.
	switch h, err := r.catalog.Holder(context.Background(), Lease); {
	case err == nil:
		return &registry.Fault{Code: registry.Conflict, Message: fmt.Sprintf("another collection is under way at %s: wait for its end", h.Node)}
	case !errors.Is(err, catalog.ErrNotFound):
		return err
	}
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
			r.alone(ctx, o)
		}
	}
}

// alone carries out an order as soon as no other node cleans, or says why it cannot. What somebody asks
// for does not wait.
func (r *Registry) alone(ctx context.Context, o Order) {
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
	for {
		began := false
		err := r.catalog.Hold(ctx, Lease, r.node, func(ctx context.Context, id string) {
			began = true
			r.carryOut(ctx, o, id)
		})
		switch {
		case err == nil || began || ctx.Err() != nil:
			return
		case o.By != "" || !errors.Is(err, catalog.ErrHeld):
			now := time.Now()
			r.note(Cleaning{Order: o, Node: r.node, Began: now, Ended: now, Err: err})
			if !errors.Is(err, catalog.ErrHeld) { // another node makes that room just now
				r.totals.uncollected.Add(1)
			}
			r.fault("clean", err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(putOff):
		}
		if !r.cleaning.leads() {
			return // whoever does has it due
		}
	}
}

// carryOut is one cleaning, by a lease of this ID.
func (r *Registry) carryOut(ctx context.Context, o Order, id string) {
	c := Cleaning{Order: o, Node: r.node, Held: id, Began: time.Now()}
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
	cause := context.Cause(ctx)
	if errors.Is(cause, catalog.ErrLost) {
		c.Err = cause // nobody has stopped it
		r.fault("clean", cause)
	}
	if c.Err != nil && (cause == nil || c.Err == cause) {
		r.totals.uncollected.Add(1)
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
	plan, leading := a.registry.cleaning.plan, a.registry.cleaning.leading
	a.registry.cleaning.mu.Unlock()
	if !leading {
		a.entries = nil
		return time.Time{}
	}
	from := now
	if a.entries == nil && a.registry.node != "" {
		from = now.Add(-handover)
	}
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
			e.at = e.after(from)
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
