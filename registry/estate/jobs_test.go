package estate

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/cache"
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

// A list that is stopped before its turn lets go of all that it had in mind, and says so of each image.
func TestAListThatIsStoppedBeforeItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j jobs
		var lists []*warmList
		hold := make(chan struct{})
		for n := range mostListsAbreast + 1 {
			target := cache.Target{Repo: registry.Repo{Project: "docker.io", Name: fmt.Sprintf("library/i%d", n)}, Reference: "1"}
			batch, err := new(cache.Cache).NewBatch(cache.BatchOrder{Targets: []cache.Target{target}})
			if err != nil {
				t.Fatal(err)
			}
			l := &warmList{names: map[cache.Target]string{target: "an image"}, batch: batch}
			lists = append(lists, l)
			_, err = j.assign(assignment{
				Job: Job{Kind: access.Warming, Target: fmt.Sprint(n), Images: 1}, task: fmt.Sprint(n), list: l,
				do: func(context.Context, func(done, total int64)) (string, error) { <-hold; return "", nil },
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		last := lists[len(lists)-1]
		if !j.stop(mostListsAbreast + 1) {
			t.Error("it cannot be stopped")
		}
		synctest.Wait()
		if last.batch != nil {
			t.Error("its batch is kept")
		}
		if w := last.look(-1); w.Count != 1 || w.Failed != 1 || len(w.Images) != 1 || w.Images[0].State != cache.ImageFailed || w.Images[0].Error != errStopped.Error() {
			t.Errorf("it has come to %+v", w)
		}
		close(hold)
		j.close()
	})
}
