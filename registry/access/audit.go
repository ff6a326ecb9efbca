package access

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// audit is what is on its way into the audit log. What is administered gets there together with
// what it changes; what happens on the hot path is queued, and written by Run within a second.
//
// Nothing is dropped silently: when the queue is full, whoever has something to record waits for
// up to maxBlock, and then the record goes to the ordinary log.
type audit struct {
	log   *slog.Logger
	queue chan record
	batch []record    // of Run
	stuck atomic.Bool // the last batch could not be written, so that a full queue stays full

	mu     sync.Mutex
	logins *simplelru.LRU[loginKey, time.Time]
}

// record is an entry, and with it the number of a user who has logged in, or 0.
type record struct {
	entry catalog.Entry
	login int64
}

type loginKey struct {
	kind kind
	id   int64
	host string
}

const (
	maxQueue = 1 << 10
	maxBatch = 1 << 8
	maxBlock = time.Second

	// loginEvery is how often a login is noted that comes with each request.
	loginEvery = time.Hour

	// maxLogins bounds the logins that are remembered as noted, some 200 bytes each. One that is
	// forgotten is noted again.
	maxLogins = 1 << 13
)

func newAudit(log *slog.Logger) *audit {
	logins, err := simplelru.NewLRU[loginKey, time.Time](maxLogins, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &audit{log: log, queue: make(chan record, maxQueue), logins: logins}
}

// Record notes in the audit log what was done or refused. It does not wait for a disk, unless
// very much is recorded at once (see audit).
func (a *Access) Record(e registry.Event) {
	name := ""
	if e.Principal != nil {
		name = e.Principal.Name()
	}
	detail := ""
	if e.Digest != "" && e.Digest.String() != e.Reference {
		detail = e.Digest.String()
	}
	a.audit.add(record{entry: catalog.Entry{
		At: time.Now(), Actor: name, Action: e.Action, Kind: e.Resource.Kind, Resource: e.Resource.Repo.String(),
		Reference: e.Reference, Remote: e.Remote, Outcome: e.Outcome, Detail: detail,
	}})
}

// Audit lists the newest n records of the audit log since a time, the oldest of them first.
// n < 0 means all of them.
func (a *Access) Audit(ctx context.Context, since time.Time, n int) ([]catalog.Entry, error) {
	return a.catalog.Audit(ctx, since, n)
}

func (q *audit) add(r record) {
	r.entry = tidy(r.entry)
	select {
	case q.queue <- r:
		return
	default:
	}
	wait := maxBlock
	if q.stuck.Load() {
		wait = 0 // for every request would be as good as an outage of what is known without the catalog
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case q.queue <- r:
	case <-timer.C:
		e := r.entry
		q.log.Error("a record that the audit log could not take", "actor", e.Actor, "action", e.Action, "kind", e.Kind,
			"resource", e.Resource, "reference", e.Reference, "remote", e.Remote, "outcome", e.Outcome, "detail", e.Detail)
	}
}

// tidy makes an entry of text from outside: short, and without anything that could be taken for
// a second record or for an order to a terminal (FAULTS C12).
func tidy(e catalog.Entry) catalog.Entry {
	for _, text := range []*string{&e.Actor, &e.Resource, &e.Reference, &e.Remote, &e.Detail} {
		*text = plain(*text)
	}
	return e
}

// plain is text without control characters, of at most 255 bytes.
func plain(s string) string {
	const most = 255
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// seen reports whether the login of an account from an address was noted lately, and notes it.
func (q *audit) seen(p *principal, host string, now time.Time) bool {
	key := loginKey{p.kind, p.id, host}
	q.mu.Lock()
	defer q.mu.Unlock()
	if at, ok := q.logins.Get(key); ok && now.Sub(at) < loginEvery {
		return true
	}
	q.logins.Add(key, now)
	return false
}

// source is where records are gathered from: nothing while there are many that could not be
// written, so that they wait in the queue, and who has more of them in front of it.
func (q *audit) source() <-chan record {
	if len(q.batch) >= maxBatch {
		return nil
	}
	return q.queue
}

// gather puts a record to those that are written next, and reports whether these are many.
func (q *audit) gather(r record) bool {
	q.batch = append(q.batch, r)
	return len(q.batch) >= maxBatch
}

// drain gathers all that is queued.
func (q *audit) drain() {
	for {
		select {
		case r := <-q.queue:
			q.batch = append(q.batch, r)
		default:
			return
		}
	}
}

// flush writes what was gathered, and keeps it if that fails.
func (a *Access) flush(ctx context.Context) error {
	if len(a.audit.batch) == 0 {
		return nil
	}
	err := a.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		for _, r := range a.audit.batch {
			if err := tx.AddAudit(r.entry); err != nil {
				return err
			}
			if r.login != 0 {
				if err := tx.LoggedIn(r.login, r.entry.At); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	clear(a.audit.batch)
	a.audit.batch = a.audit.batch[:0]
	return nil
}

// flushed is flush for Run, which tries again a second later.
func (a *Access) flushed(ctx context.Context) {
	err := a.flush(ctx)
	if ctx.Err() != nil {
		return
	}
	if was := a.audit.stuck.Swap(err != nil); err != nil && !was {
		a.log.Error("the audit log waits", "err", err, "records", len(a.audit.batch))
	}
}
