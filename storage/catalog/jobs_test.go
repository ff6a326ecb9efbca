package catalog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// Jobs are seen and stopped from elsewhere, the same is done once, and those of a process that is gone
// are lost, and forgotten in the end.
func TestJobsOfOthers(t *testing.T) {
	url := server.Database(t)
	one, other := openURL(t, url), openURL(t, url)
	if !one.Shared() || openAt(t, t.TempDir()+"/catalog.db").Shared() {
		t.Error("a catalog in a file is shared, or one in a database is not")
	}
	add := func(db *DB, process, task string) int64 {
		t.Helper()
		id, err := db.AddJob(t.Context(), Job{Process: process, Node: "node of " + process, Task: task, Body: "0"})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	ours, theirs := add(one, "a", "scrub"), add(other, "b", "warm")
	if _, err := other.AddJob(t.Context(), Job{Process: "b", Task: "scrub"}); !errors.Is(err, ErrExists) {
		t.Errorf("the same once more: %v", err)
	}
	if err := one.KeepJob(t.Context(), ours, "1", "", false); err != nil {
		t.Error(err)
	}
	all, err := other.Jobs(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != theirs || all[1].Body != "1" || all[1].Node != "node of a" || all[1].Lost || all[1].SeenAt.IsZero() {
		t.Errorf("jobs %+v, %v", all, err)
	}
	if err := errors.Join(one.KeepJob(t.Context(), ours, "1", "much", false), one.KeepJob(t.Context(), ours, "1", "", false)); err != nil {
		t.Error(err)
	}
	if detail, err := other.JobDetail(t.Context(), ours); err != nil || detail != "much" {
		t.Errorf("the detail is %q, %v", detail, err)
	}
	if detail, err := other.JobDetail(t.Context(), theirs); err != nil || detail != "" {
		t.Errorf("the detail of one that has none is %q, %v", detail, err)
	}
	if err := other.StopJob(t.Context(), ours); err != nil {
		t.Error(err)
	}
	if stop, err := one.BeatJobs(t.Context(), "a"); err != nil || !slices.Equal(stop, []int64{ours}) {
		t.Errorf("to be stopped are %v, %v", stop, err)
	}
	if stop, err := other.BeatJobs(t.Context(), "b"); err != nil || len(stop) > 0 {
		t.Errorf("to be stopped are %v, %v", stop, err)
	}
	// The process is silent for too long.
	if err := one.runs(t, fmt.Sprintf(`UPDATE jobs SET seen_at = seen_at - 10001 WHERE id = %d RETURNING 1`, ours)); err != nil {
		t.Fatal(err)
	}
	if all, err = other.Jobs(t.Context()); err != nil || !all[1].Lost || all[0].Lost {
		t.Errorf("jobs %+v, %v", all, err)
	}
	next := add(other, "b", "scrub")
	if err := other.KeepJob(t.Context(), next, "done", "", true); err != nil {
		t.Error(err)
	}
	if err := one.runs(t, fmt.Sprintf(`WITH made AS (INSERT INTO jobs (process, node, task, body, seen_at, ended, stopping)
		SELECT 'a', '', 'warm ' || i, '', `+databaseTime+`, 1, 0 FROM generate_series(1, %d) AS i RETURNING 1) SELECT COUNT(*) FROM made`, mostJobs+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.BeatJobs(t.Context(), "b"); err != nil {
		t.Error(err)
	}
	add(one, "a", "the last")
	all, err = other.Jobs(t.Context())
	if err != nil || len(all) != mostJobs+2 || all[len(all)-1].ID != theirs {
		t.Errorf("%d jobs, the last of them %+v, %v", len(all), all[len(all)-1], err)
	}
	if err := one.KeepJob(t.Context(), ours, "2", "", true); !errors.Is(err, ErrNotFound) {
		t.Errorf("keep what is forgotten: %v", err)
	}
}
