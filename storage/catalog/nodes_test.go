package catalog

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// A node is on the roll while it beats, whoever writes meanwhile, and not after it has left or been
// silent. A catalog in a file has one.
func TestNodesBeat(t *testing.T) {
	url := server.Database(t)
	one, other := openURL(t, url), openURL(t, url)
	a, b := Node{ID: "a", Address: "http://10.0.0.1:5002"}, Node{ID: "b", Address: "http://10.0.0.2:5002"}
	beat := func(db *DB, n Node, want ...Node) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if got, err := db.Beat(ctx, n, time.Second); err != nil || !slices.Equal(got, want) {
			t.Errorf("beat of %s: %v, %v, want %v", n.ID, got, err, want)
		}
	}
	beat(one, a, a)
	beat(other, b, a, b)
	// Somebody has the turn to write, and keeps it.
	if err := other.Update(t.Context(), func(*Tx) error {
		a.Address = "http://10.0.0.3:5002"
		beat(one, a, a, b)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	beat(one, a, a)
	beat(other, b, a, b)
	for range 2 {
		if err := other.Leave(t.Context(), b.ID); err != nil {
			t.Error(err)
		}
	}
	beat(one, a, a)

	// A process that takes the place of one that has ended is no twin of it; two that are alive are.
	third := openURL(t, url)
	beat(third, a, a)
	beat(third, a, a)
	twins := func(db *DB, where string) {
		t.Helper()
		if got, err := db.Beat(t.Context(), Node{ID: "a", Address: where}, time.Second); !errors.Is(err, ErrTwin) || !slices.Equal(got, []Node{{ID: "a", Address: where}}) {
			t.Errorf("beat of a twin: %v, %v, want itself and ErrTwin", got, err)
		}
	}
	twins(one, "http://10.0.0.3:5002")
	twins(third, "http://10.0.0.4:5002")
	// Who leaves does not take the other off the roll, and that one is alone then.
	if err := one.Leave(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if got, err := one.names(t.Context(), `SELECT address FROM nodes`); err != nil || !slices.Equal(got, []string{"http://10.0.0.4:5002"}) {
		t.Errorf("%q are on the roll after the twin has left, %v", got, err)
	}
	beat(third, a, a)
	twins(one, a.Address)

	// Who was seen a day ago has gone for good.
	for _, days := range []string{"0.9", "1.1"} {
		if err := one.runs(t, `INSERT INTO nodes (id, address, seen_at) VALUES ('`+days+`', '', `+databaseTime+` - (86400000 * `+days+`)::bigint) RETURNING 1`); err != nil {
			t.Fatal(err)
		}
	}
	beat(one, a, a)
	if got, err := one.names(t.Context(), `SELECT id FROM nodes ORDER BY id`); err != nil || !slices.Equal(got, []string{"0.9", "a"}) {
		t.Errorf("%q are on the roll, %v", got, err)
	}

	beat(openAt(t, t.TempDir()+"/catalog.db"), a, a)
}

// runs executes a statement that returns a number.
func (db *DB) runs(t *testing.T, statement string) error {
	t.Helper()
	var n int
	return db.read.one(t.Context(), statement, nil, &n)
}
