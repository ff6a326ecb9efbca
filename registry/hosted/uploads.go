package hosted

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
)

const (
	// mostUploads bounds how many uploads are under way: a million empty ones would take no byte
	// that a limit counts, and a file each.
	mostUploads = 1 << 16

	// mostOfProject is how many of them may be in one project, so that nobody who may push to one
	// keeps the others from pushing to theirs.
	mostOfProject = mostUploads / 16

	// mostOpen is how many of them keep their file open while nobody appends. Most are gone on with
	// at once; one that is opened again costs hashing it again.
	mostOpen = 512

	// atOnce is how many are suspended when there are more, each for a sync or two.
	atOnce = 16

	// suspendAfter is how long a file stays open when there are few.
	suspendAfter = time.Minute
)

// limits are what uploads under way may take in bytes; zero is no limit.
type limits struct{ upload, project, node int64 }

// uploads are those under way. The store has their bytes and a note of whose they are; all else is
// found again from these.
type uploads struct {
	limits limits

	mu       sync.Mutex
	all      map[string]*session
	taken    int64
	projects map[string]int64 // what each has of it
	begun    map[string]int   // how many each has of all
	open     int              // how many have a draft
	ending   bool             // the registry's Run is over: nothing stays open
}

// session is an upload under way. What is not said to be guarded by uploads.mu belongs to whoever
// has made it busy.
type session struct {
	id    string
	whose whose

	busy    bool           // guarded
	away    chan struct{}  // guarded: not nil while busy is for the house's sake; closed when that ends
	ended   bool           // guarded: committed or thrown away
	size    int64          // guarded
	touched time.Time      // guarded
	draft   *storage.Draft // nil while it is suspended; written busy and guarded
}

// whose is the note that the store keeps with an upload. The zero whose is that of remains that
// nobody can go on with.
type whose struct {
	Repo      registry.Repo
	Project   int64 `json:",omitempty"` // its number: one that comes after it under its name is another
	Owner     string
	Algorithm digest.Algorithm
}

// find returns an upload if it is that of a repository of a project and of an owner (FAULTS B11).
func (u *uploads) find(id string, project int64, repo registry.Repo, owner string) (*session, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.all[id]
	if s == nil || s.whose.Repo != repo || s.whose.Project != project || s.whose.Owner != owner {
		return nil, unknownUpload(id)
	}
	return s, nil
}

func unknownUpload(id string) error {
	return fmt.Errorf("upload %s: %w", registry.Clip(id), registry.BlobUploadUnknown)
}

// add counts an upload, or refuses it.
func (u *uploads) add(s *session) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if project := s.whose.Repo.Project; u.begun[project] >= mostOfProject {
		return &registry.Fault{
			Code: registry.TooManyRequests, RetryAfter: time.Minute,
			Message: fmt.Sprintf("project %s has %d uploads under way: finish or cancel some", project, mostOfProject),
		}
	}
	if len(u.all) >= mostUploads {
		return &registry.Fault{Code: registry.TooManyRequests, Message: "too many uploads are under way", RetryAfter: time.Minute}
	}
	u.enter(s)
	return nil
}

// enter is add without a limit; mu is held.
func (u *uploads) enter(s *session) {
	if u.all == nil {
		u.all, u.projects, u.begun = map[string]*session{}, map[string]int64{}, map[string]int{}
	}
	u.all[s.id] = s
	u.begun[s.whose.Repo.Project]++
	u.count(s, s.size)
}

// count adds bytes to what an upload has taken; mu is held.
func (u *uploads) count(s *session, n int64) {
	u.taken += n
	project := s.whose.Repo.Project
	if u.projects[project] += n; u.projects[project] == 0 {
		delete(u.projects, project)
	}
}

// take makes room for n more bytes, or says which limit they are beyond.
func (u *uploads) take(s *session, n int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	beyond := func(limit, taken int64) bool { return limit > 0 && taken+n > limit }
	project := s.whose.Repo.Project
	switch {
	case beyond(u.limits.upload, s.size):
		return &registry.Fault{Code: registry.TooLarge, Message: "one upload may be " + size(u.limits.upload) + " at most"}
	case beyond(u.limits.project, u.projects[project]):
		return &registry.Fault{Code: registry.TooLarge, Message: fmt.Sprintf("uploads under way in project %s may take %s together: finish or cancel some", project, size(u.limits.project))}
	case beyond(u.limits.node, u.taken):
		return &registry.Fault{Code: registry.Full, Message: "uploads under way may take " + size(u.limits.node) + " together: try again when some are finished"}
	}
	s.size += n
	s.touched = time.Now()
	u.count(s, n)
	return nil
}

// giveBack takes back what was not written after all.
func (u *uploads) giveBack(s *session, n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.size -= n
	u.count(s, -n)
}

// seize makes an upload the caller's alone, until he calls release or end. One that is just being
// suspended is waited for: that is nothing a client has done, and takes a sync or two.
func (u *uploads) seize(ctx context.Context, s *session) error {
	for {
		away, err := u.trySeize(s)
		if away == nil {
			return err
		}
		select {
		case <-away:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// trySeize returns what to wait for when it is the house that has the upload.
func (u *uploads) trySeize(s *session) (away <-chan struct{}, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case s.ended:
		return nil, unknownUpload(s.id)
	case s.away != nil:
		return s.away, nil
	case s.busy:
		return nil, &registry.Fault{Code: registry.Conflict, Message: "another request is at this upload"}
	}
	s.busy = true
	return nil, nil
}

// let ends that an upload is busy; mu is held.
func (s *session) let() {
	s.busy = false
	if s.away != nil {
		close(s.away)
		s.away = nil
	}
}

func (u *uploads) release(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.let()
	s.touched = time.Now()
}

// end removes an upload that the caller has seized, and returns its draft if that is open.
func (u *uploads) end(s *session) *storage.Draft {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.let()
	s.ended = true
	delete(u.all, s.id)
	project := s.whose.Repo.Project
	if u.begun[project]--; u.begun[project] == 0 {
		delete(u.begun, project)
	}
	u.count(s, -s.size)
	return u.detach(s)
}

// detach takes the draft from an upload; mu is held.
func (u *uploads) detach(s *session) *storage.Draft {
	draft := s.draft
	if draft != nil {
		u.open--
	}
	s.draft = nil
	return draft
}

// attach gives an upload that the caller has seized its draft, whose length is the truth. It
// reports whether there are too many open.
func (u *uploads) attach(s *session, draft *storage.Draft) (many bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open++
	u.count(s, draft.Len()-s.size)
	s.draft, s.size = draft, draft.Len()
	return u.open > mostOpen
}

// seizeIdle seizes at most n uploads that nobody is at and that want allows, those untouched for
// longest first.
func (u *uploads) seizeIdle(n int, want func(*session) bool) []*session {
	u.mu.Lock()
	defer u.mu.Unlock()
	var idle []*session
	for _, s := range u.all {
		if !s.busy && want(s) {
			idle = append(idle, s)
		}
	}
	slices.SortFunc(idle, func(a, b *session) int { return a.touched.Compare(b.touched) })
	idle = idle[:min(n, len(idle))]
	for _, s := range idle {
		s.busy, s.away = true, make(chan struct{})
	}
	return idle
}

// recall finds the uploads that the store has from before.
func (r *Registry) recall(ctx context.Context) error {
	return r.store.Uploads(ctx, func(id string, size int64, touched time.Time) error {
		s := &session{id: id, size: size, touched: touched}
		note, err := r.store.UploadNote(id)
		if err == nil {
			err = json.Unmarshal(note, &s.whose)
		}
		if err != nil {
			// It expires. Until then its bytes count for the node.
			s.whose = whose{}
		}
		// However many a crash has left: a node that does not start could not throw them away.
		r.uploads.mu.Lock()
		defer r.uploads.mu.Unlock()
		r.uploads.enter(s)
		return nil
	})
}

// suspend closes the files of uploads that the caller has seized, and lets go of them.
func (r *Registry) suspend(all []*session) {
	for _, s := range all {
		r.uploads.mu.Lock()
		draft := r.uploads.detach(s)
		r.uploads.mu.Unlock()
		if draft == nil {
			r.uploads.free(s)
			continue
		}
		if err := draft.Suspend(); err != nil {
			r.uploads.end(s)
			r.fault("suspend an upload", err, "repo", s.whose.Repo.String(), "upload", s.id)
			continue
		}
		r.uploads.free(s)
	}
}

// free is release without a touch: nobody has appended.
func (u *uploads) free(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.let()
}

func isOpen(s *session) bool { return s.draft != nil }

// spare suspends some uploads when many are open.
func (r *Registry) spare() { r.suspend(r.uploads.seizeIdle(atOnce, isOpen)) }

// expire throws away uploads that nobody has appended to for too long, and suspends those that
// nobody appends to.
func (r *Registry) expire(now time.Time) {
	for _, s := range r.uploads.seizeIdle(mostUploads, func(s *session) bool { return now.Sub(s.touched) > r.idle }) {
		if err := r.throwAway(s); err != nil {
			r.fault("throw away an upload", err, "repo", s.whose.Repo.String(), "upload", s.id)
		}
		r.totals.expired.Add(1)
	}
	// A few at a time, so that whoever goes on with one waits for these and not for all.
	for {
		some := r.uploads.seizeIdle(atOnce, func(s *session) bool { return isOpen(s) && now.Sub(s.touched) > suspendAfter })
		if len(some) == 0 {
			return
		}
		r.suspend(some)
	}
}

// throwAway ends an upload that the caller has seized.
func (r *Registry) throwAway(s *session) error {
	if draft := r.uploads.end(s); draft != nil {
		return draft.Close()
	}
	return r.store.RemoveUpload(s.id)
}

// suspendAll is the end of Run: from now on no upload stays open.
func (r *Registry) suspendAll() {
	r.uploads.mu.Lock()
	r.uploads.ending = true
	r.uploads.mu.Unlock()
	r.suspend(r.uploads.seizeIdle(mostUploads, isOpen))
}
