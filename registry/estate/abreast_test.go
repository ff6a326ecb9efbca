package estate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Whoever starts more of them than upstream likes waits, and whoever starts more than anybody needs is
// refused; those of another project do not notice.
func TestJobsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j jobs
		running, most, ran := make(chan struct{}, 1000), 0, make(chan string, 1000)
		start := func(target string) (Job, error) {
			return j.start(access.Warming, target, "bob", "bytes", func(ctx context.Context, _ func(done, total int64)) (string, error) {
				running <- struct{}{}
				defer func() { <-running }()
				ran <- target
				select {
				case <-time.After(time.Minute):
					return "", nil
				case <-ctx.Done():
					return "", ctx.Err()
				}
			})
		}
		state := func(id int64) JobState { return j.list(func(one Job) bool { return one.ID == id })[0].State }
		var refused int
		for i := range 3 * mostUnended {
			one, err := start(fmt.Sprintf("hub/app:%d", i))
			switch {
			case errors.Is(err, registry.TooManyRequests):
				refused++
			case err != nil:
				t.Fatal(err)
			case i < mostAbreast && one.State != Running, i >= mostAbreast && one.State != Waiting:
				t.Errorf("job %d is %s", i, one.State)
			}
		}
		synctest.Wait()
		if refused != 2*mostUnended || len(running) != mostAbreast {
			t.Errorf("%d are refused and %d run, want %d and %d", refused, len(running), 2*mostUnended, mostAbreast)
		}
		if _, err := start("hub/app:50"); !errors.Is(err, registry.Conflict) {
			t.Errorf("one that waits already = %v, want CONFLICT", err)
		}
		other, err := start("quay.io/app:1")
		if synctest.Wait(); err != nil || state(other.ID) != Running {
			t.Errorf("of another project = %v, %s, want it running", err, state(other.ID))
		}
		j.mu.Lock()
		j.all[mostUnended-1].cancel(errStopped)
		j.mu.Unlock()
		if synctest.Wait(); state(mostUnended) != Stopped {
			t.Errorf("one that was stopped while it waited is %s", state(mostUnended))
		}
		for range mostUnended {
			time.Sleep(time.Minute)
			synctest.Wait()
			most = max(most, len(running))
		}
		if most > mostAbreast || len(ran) != mostUnended {
			t.Errorf("%d ran at once and %d in all, want %d and %d", most, len(ran), mostAbreast, mostUnended)
		}
		if one, err := start("hub/app:0"); err != nil || one.State != Running {
			t.Errorf("afterwards = %+v, %v", one, err)
		}
		j.close()
	})
}

// It is looked at where everybody passes, the console as well.
func TestWhatCannotBeWarmed(t *testing.T) {
	l := open(t)
	admin := l.as("admin")
	id, err := l.AddRegistry(t.Context(), admin, Registry{Registry: catalog.Registry{Name: "hub", Kind: DockerHub}})
	l.must(err)
	_, err = l.AddProject(t.Context(), admin, catalog.Project{Name: "hub", Registry: id})
	l.must(err)
	repo := registry.Repo{Project: "hub", Name: "app"}
	for _, reference := range []string{"", strings.Repeat("a", 200_000), "a b", "sha256:1"} {
		_, err := l.Warm(t.Context(), admin, repo, reference, nil)
		l.refuses(err, access.Invalid, "")
	}
	for _, platforms := range [][]string{{"linux"}, {"linux/" + strings.Repeat("a", 200)}, {"linux/a\n"}, make([]string, 51)} {
		_, err := l.Warm(t.Context(), admin, repo, "1", platforms)
		l.refuses(err, access.Invalid, "platforms")
	}
	if all, err := l.Jobs(t.Context(), admin, ""); err != nil || len(all) > 0 {
		t.Errorf("jobs %+v", all)
	}
}
