package catalog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

func testBrowseAudit(t *testing.T, db *DB) {
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	entries := []Entry{
		{At: hour(0), Actor: "alice", Action: registry.Push, Kind: registry.Repository, Resource: "p/web", Outcome: registry.Done},
		{At: hour(1), Actor: "bob", Action: registry.Push, Kind: registry.Repository, Resource: "p/web", Outcome: registry.Refused},
		{At: hour(1), Actor: "alice", Action: registry.Delete, Kind: registry.Tags, Resource: "p/web/inner", Outcome: registry.Done},
		{At: hour(2), Actor: "", Action: registry.Pull, Kind: registry.Repository, Resource: "p2/web", Outcome: registry.Done},
		{At: hour(3), Actor: "alice", Action: registry.Create, Kind: "project", Resource: "p", Outcome: registry.Done},
		{At: hour(4), Actor: "alice", Action: registry.Create, Kind: "project", Resource: "p-2", Outcome: registry.Failed},
	}
	update(t, db, func(tx *Tx) error {
		for _, e := range entries {
			if err := tx.AddAudit(e); err != nil {
				return err
			}
		}
		return nil
	})
	for _, test := range []struct {
		name   string
		filter AuditFilter
		page   Page
		want   string // the numbers of the records
		total  int
	}{
		{"all, the newest first", AuditFilter{}, Page{}, "6 5 4 3 2 1", 6},
		{"a page", AuditFilter{}, Page{2, 2}, "4 3", 6},
		{"the last page", AuditFilter{}, Page{4, 2}, "2 1", 6},
		{"behind the end", AuditFilter{}, Page{6, 2}, "", 6},
		{"by actor", AuditFilter{Actor: "alice"}, Page{0, 2}, "6 5", 4},
		{"by nobody's name", AuditFilter{Actor: "ali%"}, Page{}, "", 0},
		{"by action", AuditFilter{Action: registry.Push}, Page{}, "2 1", 2},
		{"by kind", AuditFilter{Kinds: []registry.Kind{registry.Tags}}, Page{}, "3", 1},
		{"by kinds", AuditFilter{Kinds: []registry.Kind{registry.Tags, "project"}}, Page{0, 2}, "6 5", 3},
		{"of a project", AuditFilter{Under: "p"}, Page{}, "5 3 2 1", 4},
		{"of a repository and below it", AuditFilter{Under: "p/web"}, Page{1, 1}, "2", 3},
		{"of no project", AuditFilter{Under: "%"}, Page{}, "", 0},
		{"by outcome", AuditFilter{Outcome: registry.Failed}, Page{}, "6", 1},
		{"by time", AuditFilter{Since: hour(1), Until: hour(3)}, Page{}, "4 3 2", 3},
		{"by all", AuditFilter{"bob", registry.Push, []registry.Kind{registry.Repository}, "p/web", registry.Refused, hour(1), hour(2)}, Page{}, "2", 1},
	} {
		got, total, err := db.BrowseAudit(t.Context(), test.filter, test.page)
		if err != nil || numbers(got) != test.want || total != test.total {
			t.Errorf("%s: %q, %d in all, %v, want %q, %d", test.name, numbers(got), total, err, test.want, test.total)
		}
		for _, e := range got {
			want := entries[e.ID-1]
			want.ID = e.ID
			if e != want {
				t.Errorf("record %+v, want %+v", e, want)
			}
		}
	}
}

func numbers(entries []Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, fmt.Sprint(e.ID))
	}
	return strings.Join(all, " ")
}

func testPruneAudit(t *testing.T, db *DB) {
	const records = 2*pruned + 10
	update(t, db, func(tx *Tx) error {
		for i := range records {
			if err := tx.AddAudit(Entry{At: noon.Add(time.Duration(i) * time.Second), Actor: "alice"}); err != nil {
				return err
			}
		}
		return nil
	})
	by := Entry{At: noon.Add(24 * time.Hour), Actor: "root", Action: registry.Delete, Kind: "audit", Outcome: registry.Done}
	prune := func(before time.Time, want int64) {
		t.Helper()
		if n, err := db.PruneAudit(t.Context(), before, by); err != nil || n != want {
			t.Errorf("pruned %d, %v, want %d", n, err, want)
		}
	}
	refused := func(statement string) {
		t.Helper()
		err := db.Update(t.Context(), func(tx *Tx) error { _, err := tx.exec(statement); return err })
		if err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	prune(noon, 0) // and there is no record of nothing
	if n := rows(t, db, "audit"); n != records {
		t.Errorf("%d records, want %d", n, records)
	}
	prune(noon.Add((2*pruned+3)*time.Second), 2*pruned+3)
	prune(noon.Add((2*pruned+3)*time.Second), 0)
	left, _, err := db.BrowseAudit(t.Context(), AuditFilter{}, Page{})
	if err != nil || len(left) != 8 || left[0].Actor != "root" || !left[7].At.Equal(noon.Add((2*pruned+3)*time.Second)) {
		t.Errorf("left: %+v, %v", left, err)
	}
	refused(`DELETE FROM audit WHERE at < 0 OR id > 0`)
	refused(`UPDATE audit SET actor = 'bob'`)
	// Within the transaction that prunes, too, nothing but what is old goes, and nothing changes.
	for _, statement := range []string{`DELETE FROM audit`, `UPDATE audit SET at = 0`} {
		err := db.Update(t.Context(), func(tx *Tx) error {
			if _, err := tx.exec(`UPDATE audit_pruning SET before = $1`, millis(noon.Add((2*pruned+5)*time.Second))); err != nil {
				return err
			}
			_, err := tx.exec(statement)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s while pruning: %v", statement, err)
		}
	}
	if n, err := db.PruneAudit(t.Context(), by.At.Add(time.Second), by); err == nil || n != 0 {
		t.Errorf("the record of pruning could be pruned: %d, %v", n, err)
	}
	if n := rows(t, db, "audit"); n != 8 {
		t.Errorf("%d records afterwards, want 8", n)
	}
}
