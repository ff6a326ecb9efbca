package estate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
)

func TestJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j jobs
		everything := func(Job) bool { return true }
		long := func(ctx context.Context, step func(done, total int64)) (string, error) {
			step(1, 2)
			select {
			case <-time.After(time.Minute):
				step(2, 2)
				return "all of it", nil
			case <-ctx.Done():
				return "a half", ctx.Err()
			}
		}
		one, err := j.start(access.Scrub, "", "admin", "bytes", long)
		if err != nil || one.State != Running || one.ID != 1 {
			t.Fatalf("start = %+v, %v", one, err)
		}
		if _, err := j.start(access.Scrub, "", "admin", "bytes", long); !errors.Is(err, registry.Conflict) {
			t.Errorf("the same again = %v, want CONFLICT", err)
		}
		synctest.Wait()
		if got := j.list(everything)[0]; got.Done != 1 || got.Total != 2 || got.State != Running {
			t.Errorf("under way = %+v", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := j.list(everything)[0]; got.State != Success || got.Result != "all of it" || got.EndedAt.Sub(got.StartedAt) != time.Minute {
			t.Errorf("ended = %+v", got)
		}

		if _, err := j.start(access.Warming, "a/b", "admin", "", func(context.Context, func(done, total int64)) (string, error) {
			return "", &registry.Fault{Code: registry.Unavailable, Message: "upstream does not answer", Err: errors.New("of the log")}
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := j.list(everything)[0]; got.State != Failed || got.Result != "upstream does not answer" {
			t.Errorf("failed = %+v", got)
		}
		for range 2 * mostEnded {
			if _, err := j.start(access.Collection, "", "admin", "", func(context.Context, func(done, total int64)) (string, error) { return "", nil }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if _, err := j.start(access.Scrub, "", "admin", "bytes", long); err != nil {
			t.Fatal(err)
		}
		if got := len(j.list(everything)); got != mostEnded+1 {
			t.Errorf("%d jobs are remembered, want %d", got, mostEnded+1)
		}
		j.close()
		if got := j.list(everything)[0]; got.State != Stopped || got.Result != "a half" {
			t.Errorf("at the end = %+v, want it stopped", got)
		}
		if _, err := j.start(access.Scrub, "", "admin", "bytes", long); !errors.Is(err, registry.Unavailable) {
			t.Errorf("start after the end = %v, want UNAVAILABLE", err)
		}
	})
}
