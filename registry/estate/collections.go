package estate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/hosted"
	"roadstead/storage/catalog"
)

// Cleaner carries out orders to retain tags and to collect what nothing refers to.
type Cleaner interface {
	Clean(hosted.Order) error
	SetPlan(*hosted.Plan)
	StopCleaning() bool
}

// The words of a Cleaner, for those who have nothing to do with package hosted.
type (
	Order        = hosted.Order
	Cleaning     = hosted.Cleaning
	CleaningPlan = hosted.Plan
)

// noPlan is the type of a plan that takes back what was set.
const noPlan = "None"

// The names of settings.
const (
	planSetting    = "collect"
	historySetting = "collections"
)

// Plan is when the house collects, as somebody has set it.
type Plan struct {
	Type       string         `json:"type"` // Harbor's word for it: Hourly, Daily, Weekly, Custom or None
	Cron       string         `json:"cron"` // as in hosted.ParseSchedule; "" with None
	Untagged   bool           `json:"untagged,omitempty"`
	Dry        bool           `json:"dry,omitempty"`
	Parameters map[string]any `json:"parameters,omitempty"` // as they were sent
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
}

// Collection is a run of a cleaning, by order or by plan.
type Collection struct {
	ID         int64          `json:"id"`
	Manual     bool           `json:"manual"`
	By         string         `json:"by,omitempty"`
	Project    string         `json:"project,omitempty"` // the one whose tags were retained, and that was all
	Dry        bool           `json:"dry,omitempty"`
	Untagged   bool           `json:"untagged,omitempty"`
	Parameters map[string]any `json:"parameters,omitempty"`
	BeganAt    time.Time      `json:"began_at"`
	EndedAt    time.Time      `json:"ended_at"` // zero: not yet
	Retired    int            `json:"retired"`
	Blobs      int            `json:"blobs"`
	Bytes      int64          `json:"bytes"`
	Error      string         `json:"error,omitempty"`

	// Of a cluster: the node that carries it out, and what it has the lease of all cleanings by.
	Node string `json:"node,omitempty"`
	Held string `json:"held,omitempty"`

	Gone []string `json:"gone,omitempty"` // the first of what was retired, or would be
}

const (
	maxCollections = 100 // that are remembered: three months of nightly ones
	maxGoneLines   = 200 // of one, for whoever looks what a dry run would do
)

// Collecting returns the plan, and false when nobody has set one: then it is as the configuration
// says.
func (e *Estate) Collecting(ctx context.Context, p registry.Principal) (Plan, bool, error) {
	if err := e.may(p, registry.Read, access.Collection, ""); err != nil {
		return Plan{}, false, err
	}
	return PlanIn(ctx, e.catalog)
}

// PlanIn is Collecting for whoever has the catalog itself.
func PlanIn(ctx context.Context, db *catalog.DB) (plan Plan, set bool, err error) {
	err = db.Setting(ctx, planSetting, &plan)
	if errors.Is(err, catalog.ErrNotFound) {
		return Plan{}, false, nil
	}
	return plan, err == nil, err
}

// SetCollecting sets the plan, or with the type None takes back what was set: then it is again as the
// configuration says, which is where one writes down that nothing is to be collected by itself.
func (e *Estate) SetCollecting(ctx context.Context, p registry.Principal, plan Plan) error {
	if err := e.may(p, registry.Update, access.Collection, ""); err != nil {
		return err
	}
	made, err := plan.hosted()
	if err != nil {
		return invalid("plan.wrong", "%v", err)
	}
	was, set, err := PlanIn(ctx, e.catalog)
	if err != nil {
		return err
	}
	put := func(tx *catalog.Tx) error { return tx.PutSetting(planSetting, plan) }
	if plan.Type == noPlan {
		made, put = nil, func(tx *catalog.Tx) error { return tx.DropSetting(planSetting) }
	}
	plan.UpdatedAt = time.Now()
	plan.CreatedAt = plan.UpdatedAt
	if set {
		plan.CreatedAt = was.CreatedAt
	}
	err = e.access.Audited(ctx, p.Name(), registry.Update, access.Collection, "schedule", strings.TrimSpace(plan.Type+" "+plan.Cron), put)
	if err == nil {
		e.config.Cleaner.SetPlan(made)
	}
	return err
}

// Next is when it collects first after a time; zero: never.
func (p Plan) Next(after time.Time) time.Time {
	made, err := p.hosted()
	if err != nil {
		return time.Time{}
	}
	return made.Schedule.Next(after)
}

// Never is the schedule of a project whose tags are retained by order only.
const Never = hosted.Never

// hosted is a plan as hosted has it.
func (p Plan) hosted() (*hosted.Plan, error) {
	made := hosted.Plan{Order: hosted.Order{Dry: p.Dry, Untagged: p.Untagged}}
	if p.Cron == "" {
		return &made, nil // never
	}
	var err error
	made.Schedule, err = hosted.ParseSchedule(p.Cron)
	return &made, err
}

// Follow puts in force what the catalog says of the whole house, whoever has set it there: the plan of
// collections, and who may create projects.
func (e *Estate) Follow(ctx context.Context) error {
	creators, err := ReadCreators(ctx, e.catalog)
	if err != nil {
		return err
	}
	e.access.SetAnyoneCreates(creators.Anyone)
	plan, set, err := PlanIn(ctx, e.catalog)
	if err != nil {
		return err
	}
	if !set {
		e.config.Cleaner.SetPlan(nil)
		return nil
	}
	made, err := plan.hosted()
	if err != nil {
		return fmt.Errorf("the plan of collections: %w", err)
	}
	e.config.Cleaner.SetPlan(made)
	return nil
}

// Collect begins a collection, and returns its number.
func (e *Estate) Collect(ctx context.Context, p registry.Principal, dry, untagged bool, parameters map[string]any) (id int64, err error) {
	if err := e.may(p, registry.Create, access.Collection, ""); err != nil {
		return 0, err
	}
	return e.order(ctx, p, access.Collection, hosted.Order{By: p.Name(), Dry: dry, Untagged: untagged}, parameters)
}

// Retain begins to retain the tags of a project by its rules, and returns the number of that.
func (e *Estate) Retain(ctx context.Context, p registry.Principal, ref Ref, dry bool) (id int64, err error) {
	row, err := e.find(ctx, p, access.Operate, access.Retention, ref)
	if err != nil {
		return 0, err
	}
	if !row.Hosted() {
		return 0, invalid("retain.proxy", "project %s is a proxy: what it keeps is evicted when room is needed", row.Name)
	}
	return e.order(ctx, p, access.Retention, hosted.Order{By: p.Name(), Project: row.Name, Dry: dry}, nil)
}

// order has an order noted, and then carried out: what is deleted is in the audit log before.
func (e *Estate) order(ctx context.Context, p registry.Principal, kind registry.Kind, o hosted.Order, parameters map[string]any) (id int64, err error) {
	e.history.Lock() // whoever carries it out waits for the lock to note that it begins
	defer e.history.Unlock()
	c := Collection{Manual: true, By: o.By, Project: o.Project, Dry: o.Dry, Untagged: o.Untagged, Parameters: parameters, BeganAt: time.Now()}
	name := o.Project
	if name == "" {
		name = "now"
	}
	err = e.access.Audited(ctx, p.Name(), access.Operate, kind, name, dryness(o.Dry), func(tx *catalog.Tx) error {
		var err error
		id, err = e.keep(tx, ctx, c)
		return err
	})
	if err != nil {
		return 0, err
	}
	if err := e.config.Cleaner.Clean(o); err != nil {
		c.ID, c.EndedAt, c.Error = id, time.Now(), "it did not begin: another one was under way"
		return 0, errors.Join(err, e.catalog.Durable(context.WithoutCancel(ctx), func(tx *catalog.Tx) error {
			_, kept := e.keep(tx, ctx, c)
			return errors.Join(kept, tx.AddAudit(catalog.Entry{
				At: c.EndedAt, Actor: p.Name(), Action: access.Operate, Kind: kind, Resource: name, Outcome: registry.Failed, Detail: "another one was under way",
			}))
		}))
	}
	e.history.running = id
	return id, nil
}

func dryness(dry bool) string {
	if dry {
		return "dry"
	}
	return ""
}

// Collections lists those that are remembered, the newest first; of a project its retentions only.
func (e *Estate) Collections(ctx context.Context, p registry.Principal) ([]Collection, error) {
	if err := e.may(p, registry.List, access.Collection, ""); err != nil {
		return nil, err
	}
	return e.collections(ctx, "", time.Time{})
}

// Retentions is Collections of one project.
func (e *Estate) Retentions(ctx context.Context, p registry.Principal, ref Ref) ([]Collection, error) {
	row, err := e.find(ctx, p, registry.Read, access.Retention, ref)
	if err != nil {
		return nil, err
	}
	return e.collections(ctx, row.Name, row.CreatedAt)
}

// collections are those of a project, or of all with "", since a time: a name may have been another's
// before.
func (e *Estate) collections(ctx context.Context, project string, since time.Time) ([]Collection, error) {
	var all []Collection
	err := e.catalog.Setting(ctx, historySetting, &all)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	running, err := e.running(ctx, all)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c Collection) bool { return c.Project != project || c.BeganAt.Before(since) })
	for i := range all {
		if c := &all[i]; c.EndedAt.IsZero() && c.ID != running.ID {
			c.EndedAt, c.Error = c.BeganAt, cmp.Or(c.Node, "the server")+" ended before it did"
		}
	}
	slices.Reverse(all)
	return all, nil
}

// running is the collection of these that is under way, here or at another node; the zero one if none is.
func (e *Estate) running(ctx context.Context, all []Collection) (Collection, error) {
	e.history.Lock()
	here := e.history.running
	e.history.Unlock()
	unended := slices.DeleteFunc(slices.Clone(all), func(c Collection) bool { return !c.EndedAt.IsZero() })
	if i := slices.IndexFunc(unended, func(c Collection) bool { return c.ID == here }); i >= 0 || len(unended) == 0 {
		if i < 0 {
			return Collection{}, nil
		}
		unended[i].Held = ""
		return unended[i], nil
	}
	who, err := e.catalog.Holder(ctx, hosted.Lease)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return Collection{}, err
	}
	if i := slices.IndexFunc(unended, func(c Collection) bool { return err == nil && c.Held == who.ID }); i >= 0 {
		return unended[i], nil
	}
	return Collection{}, nil
}

// StopCollection ends the collection of a number, if it is under way.
func (e *Estate) StopCollection(ctx context.Context, p registry.Principal, id int64) error {
	if err := e.may(p, access.Stop, access.Collection, ""); err != nil {
		return err
	}
	var all []Collection
	if err := e.catalog.Setting(ctx, historySetting, &all); err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	running, err := e.running(ctx, all)
	if err != nil {
		return err
	}
	gone := unknown("collection.unknown", "no collection %d is under way", id)
	switch {
	case running.ID != id || id == 0:
		return gone
	case running.Held == "":
		e.config.Cleaner.StopCleaning()
	default:
		err = e.catalog.Recall(ctx, hosted.Lease, running.Held)
	}
	if errors.Is(err, catalog.ErrNotFound) {
		return gone
	}
	if err != nil {
		return err
	}
	return e.record(ctx, deed{p, access.Stop, access.Collection, fmt.Sprint(id), ""})
}

// Note keeps what a cleaner says of a cleaning that begins or has ended. It is for hosted.Config.
// A catalog in trouble loses it; the log has it too.
func (e *Estate) Note(c hosted.Cleaning) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e.history.Lock()
	defer e.history.Unlock()
	row := Collection{
		ID: e.history.running, Manual: c.By != "", By: c.By, Project: c.Project, Dry: c.Dry, Untagged: c.Untagged,
		BeganAt: c.Began, EndedAt: c.Ended, Retired: len(c.Retired), Blobs: c.Collected.Blobs, Bytes: c.Collected.Bytes,
		Node: c.Node, Held: c.Held,
	}
	if c.Err != nil {
		row.Error = "it ended early: the log of the server says why"
		if errors.Is(c.Err, context.Canceled) {
			row.Error = "it was stopped"
		}
		if errors.Is(c.Err, catalog.ErrHeld) {
			row.Error = "it did not begin: another one was under way"
		}
	}
	for _, gone := range c.Retired[:min(len(c.Retired), maxGoneLines)] {
		name := gone.Repo.String() + "@" + gone.Digest.String()
		if gone.Tag != "" {
			name = gone.Repo.String() + ":" + gone.Tag
		}
		row.Gone = append(row.Gone, name)
	}
	err := e.catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		e.history.running, err = e.keep(tx, ctx, row)
		return err
	})
	if !c.Ended.IsZero() {
		e.history.running = 0
	}
	return err
}

// keep writes a collection, over the one of its number, and returns the number. The caller has the
// lock of the history.
func (e *Estate) keep(tx *catalog.Tx, ctx context.Context, c Collection) (int64, error) {
	var all []Collection
	if err := e.catalog.Setting(ctx, historySetting, &all); err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return 0, err
	}
	i := slices.IndexFunc(all, func(old Collection) bool { return old.ID == c.ID })
	if i >= 0 {
		c.Parameters = all[i].Parameters
		all[i] = c
		return c.ID, tx.KeepSetting(historySetting, all)
	}
	c.ID = 1
	if n := len(all); n > 0 {
		c.ID = all[n-1].ID + 1
		all = all[max(0, n+1-maxCollections):]
	}
	return c.ID, tx.KeepSetting(historySetting, append(all, c))
}
