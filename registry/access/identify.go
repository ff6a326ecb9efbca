package access

import (
	"crypto/subtle"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Identify says who sent a request, by its Authorization header and nothing else: neither a
// cookie nor what a proxy may have written into it. Credentials that are wrong, or that nobody
// looks at because too many were, make a principal that is anybody.
func (a *Access) Identify(r *http.Request) (registry.Principal, error) {
	return a.identify(r), nil
}

func (a *Access) identify(r *http.Request) *principal {
	headers := r.Header["Authorization"]
	switch len(headers) {
	case 0:
		return anyone
	case 1:
	default:
		return wrong
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if strings.EqualFold(scheme, "bearer") {
		return a.bearer(strings.TrimSpace(token))
	}
	name, password, ok := r.BasicAuth()
	switch {
	case !ok:
		return wrong
	case name == "" && password == "":
		return anyone
	}
	return a.basic(name, password, r.RemoteAddr)
}

// basic says who logs in with a name and a password or secret.
func (a *Access) basic(name, password, remote string) *principal {
	if a.unsure() {
		return &principal{refusal: errUnsure} // which counts as no failure
	}
	// A name or password that cannot be one costs nothing, as its length tells nothing of who
	// has an account.
	if len(name) > maxUser+registry.MaxName || utf8.RuneCountInString(password) > maxPassword || password == "" {
		return wrong
	}
	if strings.HasPrefix(name, "robot$") {
		return a.robot(name, password, remote)
	}
	u, stored, proven := a.candidate(name, password, true)
	if !proven {
		if err := a.prove(name, stored, password, remote); err != nil {
			return &principal{refusal: err}
		}
	}
	return a.welcome(&principal{name: u.Name, kind: aUser, id: u.ID}, remote)
}

// candidate returns the user of a name, nil if there is none, the hash that a password has to be of, "" if
// none will do, and whether it is known to be: secrets says whether the one for clients like docker login is
// as good. Whom we do not know by this password a command beside us may just have made known.
func (a *Access) candidate(name, password string, secrets bool) (u *user, stored string, proven bool) {
	for {
		u, stored = a.now.Load().named[name], ""
		if u != nil && !u.Disabled {
			if secrets && u.has(password) {
				return u, "", true
			}
			stored = u.password
		}
		if right, _ := a.proofs.look(a.proofs.key(name, stored, password)); right && stored != "" {
			return u, stored, true
		}
		if !a.caughtUp() {
			return u, stored, false
		}
	}
}

// has reports whether a secret is the one that a user has for clients like docker login.
func (u *user) has(secret string) bool {
	return u.secret != nil && !u.stale(time.Now()) && subtle.ConstantTimeCompare(sumOf(secret), u.secret) == 1
}

// prove returns nil if a password is that of a stored hash. Otherwise the error is Unauthorized, or
// TooManyRequests when it was not looked at. Without a hash nothing matches, and that takes as long
// to find out: whoever is unknown, disabled or without a password has none.
func (a *Access) prove(name, stored, password, remote string) error {
	key := a.proofs.key(name, stored, password)
	ok, known := a.proofs.look(key)
	if !known {
		host := hostOf(remote)
		if err := a.limits.take(name, host, time.Now()); err != nil {
			return err
		}
		var (
			first bool
			err   error
		)
		ok, first, err = a.proofs.check(key, func() bool { return matches(stored, password, a.config.cost) })
		if ok || err != nil || !first {
			a.limits.give(name, host, time.Now())
		}
		if err != nil {
			return err
		}
		if !ok && first {
			a.failed(name, remote)
		}
	}
	if !ok || stored == "" {
		return wrong.refusal
	}
	return nil
}

// robot says which robot logs in. A secret that we made cannot be guessed and costs nothing to
// compare, so that no number of failures keeps the right one out.
func (a *Access) robot(name, secret, remote string) *principal {
	var (
		s *snapshot
		r *robot
	)
	for again := true; again; again = a.caughtUp() {
		s = a.now.Load()
		r = s.called[name]
		var sum [32]byte
		if r != nil {
			copy(sum[:], r.secret)
		}
		if subtle.ConstantTimeCompare(sumOf(secret), sum[:]) == 1 && r != nil && r.usable(time.Now()) {
			return a.welcome(&principal{name: name, kind: aRobot, id: r.ID}, remote)
		}
	}
	if s.chosen {
		// With one secret that somebody chose, all that are wrong take as long: it is not to be
		// told by the time which robots there are (FAULTS C5).
		stored := ""
		if r != nil && r.usable(time.Now()) {
			stored = r.password
		}
		if err := a.prove(name, stored, secret, remote); err != nil {
			return &principal{refusal: err}
		}
		return a.welcome(&principal{name: name, kind: aRobot, id: r.ID}, remote)
	}
	// The limit comes first: what is remembered pushes out of memory which passwords were right.
	key := a.proofs.key(name, "", secret)
	if _, known := a.proofs.look(key); known {
		return wrong
	}
	if err := a.limits.take("", hostOf(remote), time.Now()); err != nil {
		return &principal{refusal: err}
	}
	if a.proofs.keep(key, false) {
		a.failed(name, remote)
	}
	return wrong
}

// welcome notes a login, of which there is one with each request.
func (a *Access) welcome(p *principal, remote string) *principal {
	if !a.audit.seen(p, hostOf(remote), time.Now()) {
		r := record{entry: catalog.Entry{
			At: time.Now(), Actor: p.name, Action: login, Kind: registry.Kind(p.kind), Resource: p.name, Remote: remote, Outcome: registry.Done,
		}}
		if p.kind == aUser {
			r.login = p.id
		}
		a.audit.add(r)
	}
	return p
}

// failed notes a login that failed. As many are noted as limits let be tried, and the same one
// once.
func (a *Access) failed(name, remote string) {
	a.audit.add(record{entry: catalog.Entry{
		At: time.Now(), Actor: name, Action: login, Kind: Users, Resource: name, Remote: remote, Outcome: registry.Refused,
	}})
}

// login is the action of whoever logs in.
const login registry.Action = "login"
