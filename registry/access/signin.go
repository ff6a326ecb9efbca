package access

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

const sessionCookie = "roadstead-session"

// Session is who is signed in by a browser, with a password or by the OIDC provider: which of them
// makes no difference.
type Session struct {
	Principal registry.Principal // a user
	Until     time.Time          // and no longer
}

// SignIn begins the session of a user who gives a password, and returns its id for KeepSession. It
// costs and is limited as a login with each request is, and is noted in the audit log. The error is
// Unauthorized, whatever is wrong, or TooManyRequests.
//
// A robot has no use for a browser. Neither has the secret for docker login: it is in files of many
// machines, and whoever finds one of those gets no pages with it.
func (a *Access) SignIn(ctx context.Context, name, password, remote string) (id string, err error) {
	if len(name) > maxUser || utf8.RuneCountInString(password) > maxPassword || password == "" || checkUser(name) != nil {
		return "", wrong.refusal
	}
	if a.unsure() {
		return "", errUnsure
	}
	u, stored, proven := a.candidate(name, password, false)
	if !proven {
		if err := a.prove(name, stored, password, remote); err != nil {
			return "", err
		}
	}
	err = a.catalog.Durable(ctx, func(tx *catalog.Tx) error {
		now := time.Now()
		if err := tx.LoggedIn(u.ID, now); err != nil {
			return err
		}
		return tx.AddAudit(tidy(catalog.Entry{
			At: now, Actor: u.Name, Action: login, Kind: Users, Resource: u.Name, Remote: remote, Outcome: registry.Done, Detail: "by password",
		}))
	})
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	return a.sessions.begin(ctx, u.ID, stored, time.Now())
}

// KeepSession has a browser keep a session that SignIn began, and ends the one that it had: an id
// that was known before somebody signed in must not be that of whoever did. The error says that it could
// not be ended, and the browser keeps what it has.
func (a *Access) KeepSession(w http.ResponseWriter, r *http.Request, id string) error {
	c := a.cookies(r)
	if old := c.read(r, sessionCookie); old != "" && old != id {
		if err := a.sessions.end(r.Context(), old); err != nil {
			return err
		}
	}
	c.write(w, sessionCookie, id, sessionAge)
	return nil
}

// SessionOf returns the session of the browser that sent a request. There is none in a request to
// the registry API or the token service, whatever cookie it has, and none once its user is disabled,
// has gone or has another password (FAULTS C14). An error says that it cannot be told whether there is
// one, because the database is away that they are in: then nobody is signed in.
func (a *Access) SessionOf(r *http.Request) (s Session, ok bool, err error) {
	u, one, ok, err := a.visitor(r)
	if !ok {
		return Session{}, false, err
	}
	return Session{&principal{name: u.Name, kind: aUser, id: u.ID}, one.until}, true, nil
}

// visitor returns who is signed in by a browser, and since when.
func (a *Access) visitor(r *http.Request) (*user, session, bool, error) {
	id := a.cookies(r).read(r, sessionCookie)
	if machines(r.URL.Path) || id == "" {
		return nil, session{}, false, nil
	}
	one, ok, err := a.sessions.find(r.Context(), id, time.Now())
	if !ok {
		return nil, session{}, false, err
	}
	u := a.now.Load().users[one.user]
	if !one.of(u) {
		// Elsewhere the user may have been given another password just now, and be signed in by it.
		a.refresh(r.Context())
		u = a.now.Load().users[one.user]
	}
	return u, one, one.of(u), nil
}

// machines reports whether a path is one that no browser asks for by itself: another site must not
// get anything there by somebody's cookie.
func machines(path string) bool {
	return path == "/v2" || strings.HasPrefix(path, "/v2/") || strings.HasPrefix(path, "/service/")
}

// SignOut ends the session of a browser, and has it forget it. The error says that it goes on, and the
// browser keeps it to sign out again.
func (a *Access) SignOut(w http.ResponseWriter, r *http.Request) error {
	c := a.cookies(r)
	if err := a.sessions.end(r.Context(), c.read(r, sessionCookie)); err != nil {
		return err
	}
	c.write(w, sessionCookie, "", 0)
	return nil
}

func (a *Access) cookies(r *http.Request) cookies {
	return cookies{secure: strings.HasPrefix(a.base(r), "https://")}
}

// Caller says who sent a request to the REST API: by its Authorization header, HTTP Basic of a user
// with a password or the secret for docker login, or of a robot; or else by the cookie of a browser
// that is signed in, and then byCookie is true and what changes something has to
// have passed http.CrossOriginProtection, too.
//
// Without credentials it is anybody, whom Authorize asks to log in where that is needed. Credentials
// that are wrong are an error, and so are tokens, which are for the registry API: Unauthorized, or
// TooManyRequests. A cookie never stands in for them; one that cannot be looked at is Unavailable.
func (a *Access) Caller(r *http.Request) (p registry.Principal, byCookie bool, err error) {
	if len(r.Header["Authorization"]) == 0 {
		s, ok, err := a.SessionOf(r)
		if ok {
			return s.Principal, true, nil
		}
		return anyone, false, err
	}
	switch who := a.identify(r); {
	case who.refusal != nil:
		return anyone, false, who.refusal
	case who.grants != nil:
		return anyone, false, errToken
	default:
		return who, false, nil
	}
}

var errToken error = &registry.Fault{Code: registry.Unauthorized, Message: "tokens are for the registry API: log in with a name and a password"}

// Describe says who a principal is: what it is called, "" for anybody; the user, a copy, or nil for
// who is none; whether it administers everything, by itself or by a group of the OIDC provider; and
// whether it is a robot. One whose account has gone or is disabled is anybody.
func (a *Access) Describe(p registry.Principal) (name string, user *catalog.User, admin, robot bool) {
	me := of(p)
	st, err := a.now.Load().stand(me, time.Now())
	switch {
	case err != nil || !st.known:
		return "", nil, false, false
	case st.robot != nil:
		return me.name, nil, false, true
	}
	u := st.user.User
	u.Groups = slices.Clone(u.Groups)
	return u.Name, &u, st.user.admin, false
}
