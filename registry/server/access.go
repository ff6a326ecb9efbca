package server

import (
	"errors"
	"net/http"
	"strings"

	"roadstead/registry"
)

// Access decides who sent a request and whether they may do what it asks. All methods may be
// called concurrently.
type Access interface {
	// Identify says who sent a request. Wrong credentials are no error: they make a principal
	// that may do what anybody may, and to whom everything else is Unauthorized.
	// TooManyRequests and Unavailable are errors.
	Identify(r *http.Request) (registry.Principal, error)

	// Authorize returns nil, Unauthorized (credentials could help), Denied, or NameUnknown
	// (nothing says whether it exists). It looks at nothing but memory.
	Authorize(p registry.Principal, a registry.Action, r registry.Resource) error

	// Elsewhere is as Authorize, for what is asked of a registry that no project here stands for. Nil: the
	// caller may be told so.
	Elsewhere(p registry.Principal, a registry.Action, k registry.Kind) error

	// Challenge is the WWW-Authenticate header of a 401. A scope is like
	// "repository:production/web:pull,push".
	Challenge(r *http.Request, scopes ...string) string

	// Login says whether GET /v2/ by this principal is answered 200 (nil) or is Unauthorized,
	// as it is as soon as something is not for everybody (RKE2 §3.4).
	Login(p registry.Principal) error

	// Record notes in the audit log what was done or refused. It does not wait for a disk.
	Record(e registry.Event)
}

// errNobody refuses what changes something where nobody can say who sent it.
var errNobody = &registry.Fault{Code: registry.Denied, Message: "nobody may push to or delete from this server: it has no accounts"}

// enter decides whether a request may go on, and names its repository. It comes before the
// registry is asked and before conditions and ranges are looked at, so that neither tells what
// is there (FAULTS C17); and what it answers is the same for a name that leads nowhere and for
// one that leads to what is not the caller's (C19).
func (s *Server) enter(res *response, r *http.Request, row *route) error {
	var unrouted error
	if belongs(res.target.kind) {
		ns, _ := param(r.URL.RawQuery, "ns")
		res.repo, unrouted = s.resolve(r.Host, ns, res.target.name)
		res.named = ns != ""
		res.elsewhere = res.named && errors.Is(unrouted, registry.NameUnknown) && !s.config.Known(first(res.target.name))
	}
	if s.config.Access == nil {
		switch {
		case unrouted != nil:
			res.repo = registry.Repo{}
			return unrouted
		case row.hosted && s.hosted(res.repo.Project):
			return errNobody
		}
		return s.writable(res, row)
	}
	p, err := s.config.Access.Identify(r)
	if err != nil {
		return err
	}
	res.principal = p
	if !belongs(res.target.kind) {
		return s.login(res, r)
	}
	if err := s.authorize(res, r, row); err != nil {
		return err
	}
	if unrouted != nil {
		return unrouted
	}
	return s.writable(res, row)
}

// resolve says which repository a name means. With an error comes what the name would mean if
// a project of that name were there.
func (s *Server) resolve(host, ns, name string) (registry.Repo, error) {
	repo, err := s.config.Route(host, ns, name)
	switch {
	case err == nil && repo.Name != "":
		return repo, nil
	case err == nil:
		return repo, invalid(registry.NameUnknown, "the name is that of a project: name a repository in it")
	}
	if ns = strings.TrimSuffix(strings.ToLower(ns), ":443"); ns != "" && registry.CheckProject(ns) == nil {
		return registry.Repo{Project: ns, Name: name}, err
	}
	return registry.SplitRepo(name), err
}

// first is the component of a name that may be a project.
func first(name string) string {
	project, _, _ := strings.Cut(name, "/")
	return project
}

// hosted reports whether a project can be pushed to.
func (s *Server) hosted(project string) bool {
	return s.config.Writer != nil && s.config.Uploader != nil && s.config.Hosted(project)
}

// writable refuses what only a hosted project has where there is none (FAULTS B6).
func (s *Server) writable(res *response, row *route) error {
	if !row.hosted || s.hosted(res.repo.Project) {
		return nil
	}
	return res.proxied()
}

// proxied says of a proxy that it cannot be pushed to, to whoever may know of it. Most who read it did not mean
// that one but a project that is not there, and so is nothing to be hidden: the name would have led to it.
func (res *response) proxied() error {
	const never = ", a proxy cache, which cannot be pushed to or deleted from: "
	proxy, name := res.repo.Project, res.target.name
	switch project, _, deeper := strings.Cut(name, "/"); {
	case project == proxy || res.named:
		return invalid(registry.Denied, "project "+proxy+" is a proxy cache: it cannot be pushed to or deleted from")
	case !deeper || registry.CheckProject(project) != nil:
		return invalid(registry.Denied, "the name "+name+" has no project, so it is taken for one in "+proxy+never+"write PROJECT/"+name)
	default:
		return invalid(registry.Denied, "there is no project "+project+" here, so the name is taken for one in "+proxy+never+
			"make the project with \"roadstead project create "+project+"\", or write the name of another")
	}
}

// login asks for credentials where a client looks whether it needs any.
func (s *Server) login(res *response, r *http.Request) error {
	err := s.config.Access.Login(res.principal)
	if errors.Is(err, registry.Unauthorized) {
		var scopes []string
		if res.target.kind == catalog {
			scopes = []string{"registry:catalog:*"}
		}
		return &challenge{s.config.Access.Challenge(r, scopes...)}
	}
	return err
}

// challenge is a 401. Its header says for what a token is needed, and the rest is always the
// same.
type challenge struct{ header string }

func (*challenge) Error() string { return errCredentials.Error() }

func (*challenge) Unwrap() error { return errCredentials }

var errCredentials = &registry.Fault{Code: registry.Unauthorized, Message: "credentials are needed: log in to this registry, or ask for a token as WWW-Authenticate says"}

// authorize asks whether the caller may do what row is about in the repository.
func (s *Server) authorize(res *response, r *http.Request, row *route) error {
	access := s.config.Access
	var err error
	if res.elsewhere {
		err = access.Elsewhere(res.principal, row.action, row.kind)
	} else {
		err = access.Authorize(res.principal, row.action, registry.Resource{Kind: row.kind, Repo: res.repo})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, registry.Unauthorized):
		// This is no refusal yet: most clients send everything without credentials first.
		return &challenge{access.Challenge(r, s.scopes(res, r, row)...)}
	case errors.Is(err, registry.NameUnknown):
		err = registry.NameUnknown // whatever else is said of it
	case errors.Is(err, registry.Denied) && (res.elsewhere || !s.may(res.principal, res.repo)):
		err = registry.Denied
	case errors.Is(err, registry.Denied) && s.config.Known(res.repo.Project) && !s.hosted(res.repo.Project):
		err = res.proxied()
	}
	if verbOf(r.Method).writes() && res.owner() != "" {
		// What nobody in particular is refused is in the ordinary log: anybody could fill the
		// audit log, of which nothing goes.
		access.Record(s.event(res, r, row, registry.Refused))
	}
	return err
}

// may reports whether p may pull from a repository.
func (s *Server) may(p registry.Principal, repo registry.Repo) bool {
	return s.config.Access.Authorize(p, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: repo}) == nil
}

// scopes are what a token has to be for, in the words of the token protocol.
func (s *Server) scopes(res *response, r *http.Request, row *route) []string {
	name := res.repo.String()
	if res.repo.Name == "" {
		name = res.target.name // a project alone, which is nothing to have a right to
	}
	scope := "repository:" + name + ":"
	switch row.action {
	case registry.Push:
		list := []string{scope + "pull,push"}
		// A mount needs the right to what it mounts from as well, and the client asks once.
		if from, given := param(r.URL.RawQuery, "from"); given && res.target.place() == uploads && registry.CheckName(from) == nil {
			source, _ := s.resolve(r.Host, "", from)
			list = append(list, "repository:"+source.String()+":pull")
		}
		return list
	case registry.Delete:
		return []string{scope + "delete"}
	}
	return []string{scope + "pull"}
}

// event is the record of a request.
func (s *Server) event(res *response, r *http.Request, row *route, outcome registry.Result) registry.Event {
	e := registry.Event{
		Principal: res.principal,
		Action:    row.action,
		Resource:  registry.Resource{Kind: row.kind, Repo: res.repo},
		Reference: res.target.tag,
		Remote:    r.RemoteAddr,
		Outcome:   outcome,
	}
	if e.Reference == "" {
		e.Reference = string(res.target.digest)
	}
	if res.push != nil {
		e.Digest = res.push.manifest.Digest
	}
	return e
}

// record notes what became of a request that changes something: the whole of it, and each
// further tag that it moved.
func (s *Server) record(res *response, r *http.Request, row *route, err error) {
	if s.config.Access == nil {
		return
	}
	outcome := registry.Done
	if err != nil {
		outcome = registry.Failed
	}
	e := s.event(res, r, row, outcome)
	s.config.Access.Record(e)
	for _, tag := range res.push.tags {
		e.Reference = tag
		s.config.Access.Record(e)
	}
}
