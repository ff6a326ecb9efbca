package estate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
)

// Job is work that takes longer than a request: it goes on when whoever has started it leaves, and
// says how far it is. Jobs are known as long as the process lives; the newest hundred of those that
// have ended, and all that have not. Of one kind and one project a few run at once and the others wait
// for their turn.
type Job struct {
	ID     int64
	Kind   registry.Kind // access.Scrub, access.Warming or Eviction
	Target string        // what it is done to; "": all there is
	By     string        // who has started it
	State  JobState

	Done, Total int64  // in Unit; Total 0: not known
	Unit        string // "bytes" or "images"
	Result      string // what came of it, for people; the error of one that failed

	StartedAt time.Time // when somebody has started it, though it may have waited since
	EndedAt   time.Time // zero while it waits or runs
}

func (one Job) ended() bool { return !one.EndedAt.IsZero() }

// JobState is how a job stands.
type JobState string

// The states.
const (
	Waiting JobState = "waiting" // until others of its project have ended
	Running JobState = "running"
	Success JobState = "success"
	Failed  JobState = "failed"
	Stopped JobState = "stopped" // by somebody, or by the end of the process
)

// work is what a job does. It says how far it is with step, as often as it likes, and returns what
// came of it.
type work func(ctx context.Context, step func(done, total int64)) (result string, err error)

// jobs are what is under way and what was.
type jobs struct {
	mu      sync.Mutex
	last    int64
	all     []*job                 // the oldest first
	lanes   map[lane]chan struct{} // each holds one for each job that runs in it
	running sync.WaitGroup
	closed  bool
}

// lane is what jobs wait in for each other. There are no more of them than projects and kinds.
type lane struct {
	kind    registry.Kind
	project string
}

type job struct {
	Job
	lane   lane
	cancel context.CancelCauseFunc
}

const (
	// mostEnded bounds what is remembered of jobs that have ended.
	mostEnded = 100

	// mostAbreast is how many jobs of one kind and project run at once. A warm-up asks upstream for one
	// piece of content after the other, as one client does that pulls; a registry that many clients at
	// once ask turns us away, with those who wait for their pull.
	mostAbreast = 4

	// mostUnended is how many of them there may be in all, with those that wait: the images of a large
	// application, or of a release of Kubernetes with all that belongs to it, several times over.
	mostUnended = 100
)

// errStopped is why a job ends that somebody stops.
var errStopped = errors.New("stopped")

// start starts a job, unless one of its kind waits or runs on the same target: then that one is enough.
func (j *jobs) start(kind registry.Kind, target, by, unit string, do work) (Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return Job{}, refuse(registry.Unavailable, "job.closing", "the server is stopping: start it after the restart")
	}
	in, before := lane{kind, registry.SplitRepo(target).Project}, 0
	for _, other := range j.all {
		if other.ended() || other.lane != in {
			continue
		}
		if before++; other.Target == target {
			return Job{}, refuse(registry.Conflict, "job.same", "job %d does just that already", other.ID)
		}
	}
	if before >= mostUnended {
		return Job{}, refuse(registry.TooManyRequests, "job.many", "%d jobs of project %s wait or run already: start it when some have ended", before, in.project)
	}
	abreast := j.lanes[in]
	if abreast == nil {
		if j.lanes == nil {
			j.lanes = map[lane]chan struct{}{}
		}
		abreast = make(chan struct{}, mostAbreast)
		j.lanes[in] = abreast
	}
	// It outlives the request that has started it; close ends it.
	ctx, cancel := context.WithCancelCause(context.Background())
	j.last++
	one := &job{Job: Job{ID: j.last, Kind: kind, Target: target, By: by, State: Running, Unit: unit, StartedAt: time.Now()}, lane: in, cancel: cancel}
	if before >= mostAbreast {
		one.State = Waiting
	}
	j.all = append(j.all, one)
	j.forget()
	j.running.Go(func() {
		defer cancel(nil)
		if !j.turn(ctx, one, abreast) {
			j.end(one, "", ctx.Err(), context.Cause(ctx))
			return
		}
		defer func() { <-abreast }()
		result, err := do(ctx, func(done, total int64) {
			j.mu.Lock()
			defer j.mu.Unlock()
			one.Done, one.Total = done, total
		})
		j.end(one, result, err, context.Cause(ctx))
	})
	return one.Job, nil
}

// turn waits for a job's turn, and reports whether it came: it may be stopped before.
func (j *jobs) turn(ctx context.Context, one *job, abreast chan struct{}) bool {
	select {
	case abreast <- struct{}{}:
		return true
	default:
	}
	select {
	case abreast <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	one.State = Running
	return true
}

// end notes how a job has ended.
func (j *jobs) end(one *job, result string, err, cause error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	one.State, one.Result, one.EndedAt = Success, result, time.Now()
	switch {
	case err == nil:
	case errors.Is(cause, errStopped):
		one.State = Stopped
	default:
		one.State, one.Result = Failed, err.Error()
		if fault, ok := errors.AsType[*registry.Fault](err); ok && fault.Message != "" {
			one.Result = fault.Message
		}
	}
}

// forget drops the oldest that have ended; j.mu is held.
func (j *jobs) forget() {
	ended := 0
	for i := len(j.all) - 1; i >= 0; i-- {
		if !j.all[i].ended() {
			continue
		}
		if ended++; ended > mostEnded {
			j.all = slices.Delete(j.all, i, i+1)
		}
	}
}

// close ends what runs and waits for it.
func (j *jobs) close() {
	j.mu.Lock()
	j.closed = true
	for _, one := range j.all {
		one.cancel(errStopped)
	}
	j.mu.Unlock()
	j.running.Wait()
}

// list returns copies of those that a test passes, the newest first.
func (j *jobs) list(passes func(Job) bool) []Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Job
	for _, one := range slices.Backward(j.all) {
		if passes(one.Job) {
			all = append(all, one.Job)
		}
	}
	return all
}

// Run lets jobs run until ctx ends, and then ends them.
func (e *Estate) Run(ctx context.Context) error {
	<-ctx.Done()
	e.jobs.close()
	return nil
}

// Jobs lists the jobs that somebody may look at, the newest first; of one kind unless it is "".
func (e *Estate) Jobs(p registry.Principal, kind registry.Kind) []Job {
	return e.jobs.list(func(one Job) bool {
		return (kind == "" || one.Kind == kind) && e.mayJob(p, registry.Read, one) == nil
	})
}

// Job returns one of them.
func (e *Estate) Job(p registry.Principal, id int64) (Job, error) {
	all := e.jobs.list(func(one Job) bool { return one.ID == id && e.mayJob(p, registry.Read, one) == nil })
	if len(all) == 0 {
		return Job{}, unknown("job.unknown", "there is no job %d; the server forgets them when it restarts", id)
	}
	return all[0], nil
}

// StopJob stops a job. One that has ended stays as it is.
func (e *Estate) StopJob(ctx context.Context, p registry.Principal, id int64) error {
	one, err := e.Job(p, id)
	if err != nil {
		return err
	}
	if err := e.mayJob(p, access.Stop, one); err != nil {
		return err
	}
	if one.ended() {
		return nil
	}
	e.jobs.mu.Lock()
	for _, j := range e.jobs.all {
		if j.ID == id {
			j.cancel(errStopped)
		}
	}
	e.jobs.mu.Unlock()
	return e.record(ctx, deed{p, access.Stop, one.Kind, fmt.Sprint(id), one.Target})
}

// mayJob says why somebody may not do something to a job, or nil: those of a project's content are
// for whoever may do the same to its cache.
func (e *Estate) mayJob(p registry.Principal, action registry.Action, one Job) error {
	if one.Kind == access.Warming {
		return e.may(p, registry.Create, access.Cache, registry.SplitRepo(one.Target).Project)
	}
	return e.may(p, action, one.Kind, "")
}
