package access

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roadstead/registry"
)

// limits bound how many passwords can be tried: for one user from one address, for one user from
// wherever, and from one address for whichever user (FAULTS C5). Only failures count.
type limits struct {
	mu    sync.Mutex
	users *simplelru.LRU[string, allowance]
	hosts *simplelru.LRU[string, allowance]
}

// allowance is how many failures are left at a time; it fills up again.
type allowance struct {
	left float64
	at   time.Time
}

// allowed is how many failures may come at once, and how long it takes until another one may.
type allowed struct {
	burst float64
	every time.Duration
}

// A user who has forgotten a password tries ten; a program that guesses from one address gets 360
// an hour. From wherever it is 3,600, which is nothing against eight characters of three kinds, and
// so much that nobody keeps others from logging in without a great many addresses. An address is
// often that of a whole site with stale passwords on many nodes.
var (
	perUserAndHost = allowed{10, 10 * time.Second}
	perUser        = allowed{200, time.Second}
	perHost        = allowed{50, time.Second}
)

// maxLimits is how many users, with and without an address, and how many addresses are watched. Whoever makes others be forgotten by
// making up user names is bounded by his address.
const maxLimits = 1 << 13

func newLimits() *limits {
	users, err := simplelru.NewLRU[string, allowance](maxLimits, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	hosts, err := simplelru.NewLRU[string, allowance](maxLimits, nil)
	if err != nil {
		panic(err)
	}
	return &limits{users: users, hosts: hosts}
}

// limit is one that an attempt is held to.
type limit struct {
	all *simplelru.LRU[string, allowance]
	key string
	allowed
}

func (l *limits) of(user, host string) []limit {
	if user == "" {
		return []limit{{l.hosts, host, perHost}}
	}
	// No name of a user has a space in it.
	return []limit{{l.hosts, host, perHost}, {l.users, user, perUser}, {l.users, user + " " + host, perUserAndHost}}
}

// take takes a failure from a user and an address before it has happened, so that a thousand
// attempts at once are no more than as many one by one. The error is TooManyRequests.
// An empty user has no limit of its own.
func (l *limits) take(user, host string, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.of(user, host)
	left := make([]allowance, len(all))
	var wait time.Duration
	for i, one := range all {
		left[i] = full(one.all, one.key, one.allowed, now)
		wait = max(wait, left[i].wait(one.allowed))
	}
	if wait > 0 {
		return &registry.Fault{Code: registry.TooManyRequests, Message: "too many failed logins: wait before you try again", RetryAfter: wait}
	}
	for i, one := range all {
		left[i].left--
		one.all.Add(one.key, left[i])
	}
	return nil
}

// give gives back what was taken for an attempt that did not fail.
func (l *limits) give(user, host string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.of(user, host) {
		is := full(one.all, one.key, one.allowed, now)
		is.left = min(is.left+1, one.burst)
		one.all.Add(one.key, is)
	}
}

// full is an allowance with what has come back since it was looked at.
func full(all *simplelru.LRU[string, allowance], key string, a allowed, now time.Time) allowance {
	was, ok := all.Get(key)
	if !ok {
		return allowance{left: a.burst, at: now}
	}
	back := float64(now.Sub(was.at)) / float64(a.every)
	return allowance{left: min(a.burst, was.left+max(back, 0)), at: now}
}

// wait is how long it takes until there is a failure left.
func (w allowance) wait(a allowed) time.Duration {
	if w.left >= 1 {
		return 0
	}
	return time.Duration((1 - w.left) * float64(a.every))
}

// hostOf is the address that a request came from, as failures are counted: a whole network of
// IPv6, of which anybody has more addresses than can be counted. Nothing that a client writes
// into a header changes it (FAULTS C18).
func hostOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			return network.String()
		}
	}
	return addr.String()
}
