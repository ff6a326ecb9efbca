package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"roadstead/registry"
)

// Project is one proxied upstream and how it is to be cached.
type Project struct {
	Name     string          // first path segment of its repositories, "docker.io"
	Upstream registry.Reader // asked with Repo.Name; optional powers: StatBlob, Tagged, Kept

	TTL      time.Duration // a tag asked for longer ago is checked upstream; zero: 1 minute; negative: always
	Negative time.Duration // how long "unknown" is remembered; zero: 10 s; negative: not at all
	StaleFor time.Duration // how long after its last check a tag may be answered without upstream; zero: without end
	Keep     time.Duration // content is evicted only this long after its last use; zero: 7 days; negative: at once

	// Globs on "repository" or "repository:tag" without the project: '*' stays within a
	// component, '**' crosses slashes. Deny goes before Allow; an empty Allow allows all.
	// What a Pin matches is never evicted.
	Allow, Deny, Pin []string

	// Private: not everybody may read what it has, and so no other project lends from it.
	Private bool

	// Offline: upstream is never asked. A tag is what it is known to be, for ever, and nothing is warmed.
	Offline bool
	Verify  Verify // what is asked of signatures

	// Cooldown is how long upstream has to have a tag point to another digest before it does so here;
	// until then the tag stays where it was. Zero: it follows at once. A tag that was never seen before
	// is served at once, unless CooldownNew.
	Cooldown    time.Duration
	CooldownNew bool

	KeepGone         bool // a tag that upstream no longer has is still served
	DenyWithUpstream bool // upstream's denial is final even when there is an older answer
}

// Defaults of a Project's durations.
const (
	// A minute lets a hundred nodes that start the same workload ask upstream once, and is no
	// longer than people wait before they wonder where their new image is.
	defaultTTL = time.Minute

	// Ten seconds stop a storm of retries for a name that does not exist and are over before
	// somebody who has just pushed it tries again.
	defaultNegative = 10 * time.Second

	// A week is what Harbor keeps.
	defaultKeep = 7 * 24 * time.Hour
)

// project is a Project ready for use.
type project struct {
	Project
	rules   rules
	figures *figures
	health  health
}

// CheckProject says why a project could not be one of a cache, or nil.
func CheckProject(p Project) error {
	_, err := newProject(p, nil)
	return err
}

func newProject(p Project, log *slog.Logger) (*project, error) {
	if err := registry.CheckProject(p.Name); err != nil {
		return nil, err
	}
	if p.Upstream == nil {
		return nil, errors.New("it has no upstream")
	}
	if p.TTL == 0 {
		p.TTL = defaultTTL
	}
	if p.Negative == 0 {
		p.Negative = defaultNegative
	}
	if p.Keep == 0 {
		p.Keep = defaultKeep
	}
	if err := checkVerify(p.Verify); err != nil {
		return nil, err
	}
	rules, err := newRules(p)
	if err != nil {
		return nil, err
	}
	return &project{Project: p, rules: rules, figures: &figures{}, health: health{project: p.Name, log: log}}, nil
}

// keptElsewhere reports whether content that has just come is kept by another node that has the same
// store and catalog, from which it came.
func (p *project) keptElsewhere(d registry.Digest) bool {
	k, ok := p.Upstream.(interface{ Kept(registry.Digest) bool })
	return ok && k.Kept(d)
}

// fresh reports whether a tag's record answers without a question to upstream.
func (p *project) fresh(r tagRecord, now time.Time) bool {
	switch {
	case r.Evicted():
		return false // of what was evicted upstream has said nothing
	case p.Offline:
		return true
	}
	age := now.Sub(r.CheckedAt)
	if age < -skew {
		return false // the clock has been set back, and how old this is nobody knows
	}
	if r.Gone {
		return age < p.Negative
	}
	return age < p.TTL
}

// errOffline is asking for what is not here where nobody can be asked.
var errOffline = &registry.Fault{Code: registry.Unavailable, Message: "this server is offline, and has nothing of it", Answered: true}

// skew is how far in the future a check may lie and still count: clocks are corrected by
// seconds all the time (FAULTS P8).
const skew = time.Minute

// usable reports whether a tag's record may stand in for an upstream that does not answer.
func (p *project) usable(r tagRecord, now time.Time) bool {
	return !r.Gone && (p.StaleFor == 0 || now.Sub(r.CheckedAt) < p.StaleFor)
}

// standIn reports whether err leaves room for an older answer at all.
func (p *project) standIn(err error) bool {
	switch {
	case registry.Unknown(err):
		return p.KeepGone
	case errors.Is(err, registry.Denied):
		return !p.DenyWithUpstream
	}
	// Whatever else went wrong, upstream has not said that the old answer is wrong.
	return true
}

// patience is how long a request that has an older answer waits for upstream to confirm it.
// It covers a slow link and is short enough that no client gives up (FAULTS U19).
const patience = 2 * time.Second

// health remembers whether the last question to upstream was answered, so that an outage is
// felt by one request and not by each, and said once in the log.
type health struct {
	project  string
	log      *slog.Logger
	troubled atomic.Bool
}

// note takes the result of a question.
func (h *health) note(err error) {
	var fault *registry.Fault
	if errors.As(err, &fault) && fault.Answered {
		return
	}
	troubled := err != nil && registry.Passing(err)
	if h.troubled.Load() == troubled || !h.troubled.CompareAndSwap(!troubled, troubled) {
		return
	}
	if troubled {
		h.log.Warn("upstream does not answer, what is here is served without it", "project", h.project, "err", err)
	} else {
		h.log.Info("upstream answers again", "project", h.project)
	}
}

// patience is zero while upstream is known to be in trouble: the older answer goes out at
// once and the question goes on behind it, so that the first answer ends the trouble.
func (h *health) patience() time.Duration {
	if h.troubled.Load() {
		return 0
	}
	return patience
}

// corrupt makes an error out of content that is not what it should be. It is upstream's
// trouble, not the client's: another try may go well.
func corrupt(project string, d registry.Digest, err error) error {
	return &registry.Fault{
		Code:    registry.Unavailable,
		Message: fmt.Sprintf("upstream of project %s sent something else than %s; it was not kept", project, d),
		Err:     err,
	}
}
