package estate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/hosted"
)

// broom is a Cleaner that takes what it is told down.
type broom struct {
	orders  []hosted.Order
	stopped int
	busy    error // what it says instead of taking an order
}

func (b *broom) Clean(o hosted.Order) error {
	if b.busy == nil {
		b.orders = append(b.orders, o)
	}
	return b.busy
}
func (b *broom) SetPlan(*hosted.Plan) {}
func (b *broom) StopCleaning() bool   { b.stopped++; return true }

// Nothing is deleted by an order that is not in the audit log.
func TestOrdersAreRecordedBefore(t *testing.T) {
	l := open(t)
	b := &broom{}
	l.Estate.config.Cleaner = b
	admin := l.as("admin")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Collect(gone, admin, false, true, nil); err == nil || len(b.orders) > 0 {
		t.Errorf("an order that cannot be recorded: %v, and carried out are %v", err, b.orders)
	}
	id, err := l.Collect(t.Context(), admin, false, true, nil)
	l.must(err, l.StopCollection(t.Context(), admin, id))
	if len(b.orders) != 1 || b.stopped != 1 {
		t.Errorf("orders %v, stopped %d times, want one of each", b.orders, b.stopped)
	}

	b.busy = &registry.Fault{Code: registry.Conflict, Message: "another collection is under way: wait for its end"}
	if _, err := l.Collect(t.Context(), admin, true, false, nil); !errors.Is(err, registry.Conflict) {
		t.Errorf("another one = %v, want CONFLICT", err)
	}
	all, err := l.Collections(t.Context(), admin)
	l.must(err)
	if len(all) != 2 || all[0].Error == "" || all[0].EndedAt.IsZero() || !all[1].EndedAt.IsZero() {
		t.Errorf("collections %+v, want one that did not begin, and the one under way", all)
	}
	log, err := l.db.Audit(t.Context(), time.Time{}, -1)
	l.must(err)
	var got []string
	for _, e := range log {
		if e.Kind == access.Collection {
			got = append(got, fmt.Sprint(e.Action, " ", e.Resource, " ", e.Outcome))
		}
	}
	want := []string{"operate now done", "stop " + fmt.Sprint(id) + " done", "operate now done", "operate now failed"}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("audit log %q, want %q", got, want)
	}
}
