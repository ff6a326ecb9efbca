package estate

import (
	"cmp"
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
// says how far it is. Jobs are known as long as the process lives, or where several share a catalog, as
// long as that has them; the newest hundred of those that have ended, and all that have not. Of one kind and one project a few run at once and the others wait
// for their turn.
type Job struct {
	ID     int64
	Kind   registry.Kind // access.Scrub, access.Warming or Eviction
	Target string        // what it is done to; "": all there is
	Images int           // of a warm-up of a list: how many are on that; Target says it in words
	By     string        // who has started it
	Node   string        // that does it; "" without a cluster
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
	shared *sharedJobs // nil: no other process has the catalog

	mu      sync.Mutex
	last    int64
	all     []*job                 // the oldest first
	ended   map[outcome]int64      // how many there were since the start
	lanes   map[lane]chan struct{} // each holds one for each job that runs in it
	running sync.WaitGroup
	closed  bool
}

// outcome is how jobs of a kind have ended.
type outcome struct {
	kind  registry.Kind
	state JobState
}

// lane is what jobs wait in for each other. There are no more of them than projects and kinds.
type lane struct {
	kind    registry.Kind
	project string
}

type job struct {
	Job
	task   string // of which one is done at a time
	lane   lane
	list   *warmList // of a warm-up of a list; nil: it is none, or forgotten
	told   Job       // as others know it
	cancel context.CancelCauseFunc
}

// assignment is what is to be a job.
type assignment struct {
	Job         // its Kind, Target, Images, By and Unit
	task string // "": the target
	list *warmList
	do   work
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

	// mostListsAbreast is mostAbreast of lists, each of which brings several images at once.
	mostListsAbreast = 2

	// mostLists is mostUnended of lists, of which each may be thousands of images.
	mostLists = 10

	// mostRemembered is of how many images of lists it is known how each has ended; they are some
	// hundred bytes each.
	mostRemembered = 50_000
)

// errStopped is why a job ends that somebody stops.
var errStopped = errors.New("stopped")

// start starts a job, unless one of its kind waits or runs on the same target: then that one is enough.
func (j *jobs) start(kind registry.Kind, target, by, unit string, do work) (Job, error) {
	return j.assign(assignment{Job: Job{Kind: kind, Target: target, By: by, Unit: unit}, do: do})
}

// assign is start of whatever there is to know about a job.
func (j *jobs) assign(a assignment) (begun Job, err error) {
	next, do, task := a.Job, a.do, cmp.Or(a.task, a.Target)
	next.State, next.StartedAt = Running, time.Now()
	in := lane{kind: a.Kind}
	if a.Images == 0 {
		in.project = registry.SplitRepo(a.Target).Project
	}
	if j.shared != nil {
		// First what is known here, which costs nothing; the lock is not held over the question.
		j.mu.Lock()
		err = j.admit(in, task)
		j.mu.Unlock()
		if err != nil {
			return Job{}, err
		}
		next.Node = j.shared.node
		if next.ID, err = j.shared.add(next, task); err != nil {
			return Job{}, err
		}
		defer func() {
			if err != nil {
				j.shared.drop(next)
			}
		}()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err = j.admit(in, task); err != nil {
		return Job{}, err
	}
	if j.shared == nil {
		j.last++
		next.ID = j.last
	}
	abreast := j.lanes[in]
	if abreast == nil {
		if j.lanes == nil {
			j.lanes = map[lane]chan struct{}{}
		}
		abreast = make(chan struct{}, in.width())
		j.lanes[in] = abreast
	}
	// It outlives the request that has started it; close ends it.
	ctx, cancel := context.WithCancelCause(context.Background())
	one := &job{Job: next, task: task, told: next, lane: in, list: a.list, cancel: cancel}
	select {
	case abreast <- struct{}{}: // here, and not in its goroutine: those run in any order
	default:
		one.State = Waiting
	}
	waits := one.State == Waiting
	j.all = append(j.all, one)
	j.forget()
	j.running.Go(func() {
		defer cancel(nil)
		if waits && !j.turn(ctx, one, abreast) {
			if a.list != nil {
				a.list.run(ctx, func(int64, int64) {}) // which brings nothing any more, and lets go of what it had in mind
			}
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

// lists reports whether a lane is that of warm-ups of lists.
func (l lane) lists() bool { return l == lane{kind: access.Warming} }

// width is how many jobs run in a lane at once.
func (l lane) width() int {
	if l.lists() {
		return mostListsAbreast
	}
	return mostAbreast
}

// admit says why there may be no other job in a lane, or nil; j.mu is held.
func (j *jobs) admit(in lane, task string) error {
	if j.closed {
		return refuse(registry.Unavailable, "job.closing", "the server is stopping: start it after the restart")
	}
	before := 0
	for _, other := range j.all {
		if other.ended() || other.lane != in {
			continue
		}
		if before++; other.task == task {
			return refuse(registry.Conflict, "job.same", "job %d does just that already", other.ID)
		}
	}
	if in.lists() && before >= mostLists {
		return refuse(registry.TooManyRequests, "job.lists", "%d warm-ups of lists wait or run already: start it when some have ended", before)
	}
	if before >= mostUnended {
		return refuse(registry.TooManyRequests, "job.many", "%d jobs of project %s wait or run already: start it when some have ended", before, in.project)
	}
	return nil
}

// turn waits for a job's turn, and reports whether it came: it may be stopped before.
func (j *jobs) turn(ctx context.Context, one *job, abreast chan struct{}) bool {
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
	defer j.shared.hurry()
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
	if j.ended == nil {
		j.ended = map[outcome]int64{}
	}
	j.ended[outcome{one.Kind, one.State}]++
}

// JobFigures are the jobs of one kind that this process does now, and that it has done since its start.
type JobFigures struct {
	Kind                     registry.Kind
	Waiting, Running         int
	Success, Failed, Stopped int64
}

// JobFigures returns those of all kinds.
func (e *Estate) JobFigures() []JobFigures {
	e.jobs.mu.Lock()
	defer e.jobs.mu.Unlock()
	var all []JobFigures
	for _, kind := range []registry.Kind{access.Scrub, access.Warming, Eviction} {
		f := JobFigures{
			Kind:    kind,
			Success: e.jobs.ended[outcome{kind, Success}], Failed: e.jobs.ended[outcome{kind, Failed}], Stopped: e.jobs.ended[outcome{kind, Stopped}],
		}
		for _, one := range e.jobs.all {
			switch {
			case one.Kind != kind:
			case one.State == Waiting:
				f.Waiting++
			case one.State == Running:
				f.Running++
			}
		}
		all = append(all, f)
	}
	return all
}

// forget drops the oldest that have ended; j.mu is held.
func (j *jobs) forget() {
	ended, images := 0, 0
	for i := len(j.all) - 1; i >= 0; i-- {
		one := j.all[i]
		if !one.ended() {
			continue
		}
		if images += one.Images; images > mostRemembered {
			one.list = nil
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

// Jobs lists the jobs that somebody may look at, the newest first; of one kind unless it is "".
func (e *Estate) Jobs(ctx context.Context, p registry.Principal, kind registry.Kind) ([]Job, error) {
	return e.jobs.everywhere(ctx, func(one Job) bool {
		return (kind == "" || one.Kind == kind) && e.mayJob(p, registry.Read, one) == nil
	})
}

// Job returns one of them.
func (e *Estate) Job(ctx context.Context, p registry.Principal, id int64) (Job, error) {
	all, err := e.jobs.everywhere(ctx, func(one Job) bool { return one.ID == id && e.mayJob(p, registry.Read, one) == nil })
	if err != nil {
		return Job{}, err
	}
	if len(all) == 0 {
		return Job{}, unknown("job.unknown", "there is no job %d; the server forgets them when it restarts", id)
	}
	return all[0], nil
}

// StopJob stops a job, which at another node takes some seconds. One that has ended stays as it is.
func (e *Estate) StopJob(ctx context.Context, p registry.Principal, id int64) error {
	one, err := e.Job(ctx, p, id)
	if err != nil {
		return err
	}
	if err := e.mayJob(p, access.Stop, one); err != nil {
		return err
	}
	if one.ended() {
		return nil
	}
	if !e.jobs.stop(id) {
		if err := e.catalog.StopJob(ctx, id); err != nil {
			return err
		}
	}
	return e.record(ctx, deed{p, access.Stop, one.Kind, fmt.Sprint(id), one.Target})
}

// mayJob says why somebody may not do something to a job, or nil: those of a project's content are
// for whoever may do the same to its cache, and a list of several projects for whoever has given it.
func (e *Estate) mayJob(p registry.Principal, action registry.Action, one Job) error {
	if one.Images > 0 && one.By == p.Name() {
		return nil
	}
	if one.Kind == access.Warming && one.Images == 0 {
		return e.may(p, registry.Create, access.Cache, registry.SplitRepo(one.Target).Project)
	}
	return e.may(p, action, one.Kind, "")
}
