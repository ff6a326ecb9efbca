package estate

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// sharedJobs are the jobs of all processes that have the same catalog, as each tells the others of its
// own: whichever node is asked shows all of them and can have them stopped, and the same is done once.
// What they wait in for each other is of each node alone.
type sharedJobs struct {
	catalog *catalog.DB
	process string // this one
	node    string // what it is called; "" without a cluster

	ended chan struct{} // something has ended, which need not wait to be told; has room for one
}

// tellEvery is how often a process says how far its jobs are, and finds out which to stop.
const tellEvery = 2 * time.Second

// newSharedJobs returns nil where no other process has the catalog.
func newSharedJobs(db *catalog.DB, node string) *sharedJobs {
	if db == nil || !db.Shared() {
		return nil
	}
	return &sharedJobs{catalog: db, process: rand.Text(), node: node, ended: make(chan struct{}, 1)}
}

// add has a job known to all, unless one of them does the same.
func (s *sharedJobs) add(one Job, task string) (id int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // it is nobody's alone
	defer cancel()
	body, err := json.Marshal(one)
	if err != nil {
		return 0, err
	}
	id, err = s.catalog.AddJob(ctx, catalog.Job{Process: s.process, Node: s.node, Task: string(one.Kind) + " " + task, Body: string(body)})
	if errors.Is(err, catalog.ErrExists) {
		return 0, refuse(registry.Conflict, "job.elsewhere", "another node does just that already")
	}
	return id, err
}

// drop has a job ended that did not begin.
func (s *sharedJobs) drop(one Job) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	one.State, one.EndedAt = Stopped, time.Now()
	if body, err := json.Marshal(one); err == nil {
		s.catalog.KeepJob(ctx, one.ID, string(body), "", true) // else it goes on until the process ends
	}
}

// hurry has what has ended told soon.
func (s *sharedJobs) hurry() {
	if s == nil {
		return
	}
	select {
	case s.ended <- struct{}{}:
	default: // the one that waits there is as good
	}
}

// share tells others of the jobs of this process, and stops those that they want stopped, until ctx
// ends.
func (j *jobs) share(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-j.shared.ended:
		}
		j.tell(ctx)
	}
}

// tell is share once. What cannot be told is told the next time.
func (j *jobs) tell(ctx context.Context) {
	running, news, lists := j.untold()
	if running {
		stop, err := j.shared.catalog.BeatJobs(ctx, j.shared.process)
		if err != nil {
			return
		}
		for _, id := range stop {
			j.stop(id)
		}
	}
	for i, one := range news {
		body, err := json.Marshal(one)
		var detail []byte
		if l := lists[i]; err == nil && l != nil && (one.ended() || l.due()) {
			detail, err = json.Marshal(l.look(-1))
		}
		if err == nil {
			err = j.shared.catalog.KeepJob(ctx, one.ID, string(body), string(detail), one.ended())
		}
		if err == nil || errors.Is(err, catalog.ErrNotFound) {
			j.mark(one)
		}
	}
}

// untold are the jobs of which there is something to tell, with the list of each that has one, and
// whether one of all has not ended.
func (j *jobs) untold() (running bool, news []Job, lists []*warmList) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		running = running || !one.ended()
		if one.Job != one.told {
			news, lists = append(news, one.Job), append(lists, one.list)
		}
	}
	return running, news, lists
}

// mark notes what others know of a job.
func (j *jobs) mark(told Job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.ID == told.ID {
			one.told = told
		}
	}
}

// stop stops a job of this process, and reports whether it is one.
func (j *jobs) stop(id int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.ID == id {
			one.cancel(errStopped)
			return true
		}
	}
	return false
}

// everywhere lists the jobs of all processes that a test passes, the newest first.
func (j *jobs) everywhere(ctx context.Context, passes func(Job) bool) ([]Job, error) {
	if j.shared == nil {
		return j.list(passes), nil
	}
	rows, err := j.shared.catalog.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	here := map[int64]Job{}
	for _, one := range j.list(func(Job) bool { return true }) {
		here[one.ID] = one
	}
	var all []Job
	for _, row := range rows {
		one, ours := here[row.ID]
		if !ours {
			if one, err = ofAnother(row); err != nil {
				return nil, err
			}
		}
		if passes(one) {
			all = append(all, one)
		}
	}
	return all, nil
}

// ofAnother is a job of another process.
func ofAnother(row catalog.Job) (one Job, err error) {
	if err := json.Unmarshal([]byte(row.Body), &one); err != nil {
		return Job{}, fmt.Errorf("job %d of %s: %w", row.ID, row.Node, err)
	}
	one.ID, one.Node = row.ID, row.Node
	if row.Lost {
		one.State, one.EndedAt, one.Result = Failed, row.SeenAt, cmp.Or(row.Node, "the server")+" ended before it did"
	}
	return one, nil
}

// Run lets jobs run until ctx ends, and then ends them.
func (e *Estate) Run(ctx context.Context) error {
	var sharing sync.WaitGroup
	if e.jobs.shared != nil {
		sharing.Go(func() { e.jobs.share(ctx) })
	}
	<-ctx.Done()
	e.jobs.close()
	sharing.Wait()
	if e.jobs.shared != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		e.jobs.tell(last)
	}
	return nil
}
