package console

import (
	"net/http"
	"strings"
)

// home is where the pages are.
const home = "/c/"

// Wants reports whether a request is the console's: below /c/ but for /c/oidc/, or a browser that
// asks for the root. No path of an API ever is.
func Wants(r *http.Request) bool {
	switch path := r.URL.Path; {
	case path == "/":
		return (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/html")
	case path == "/c" || path == "/c/oidc":
		return path == "/c"
	default:
		return strings.HasPrefix(path, home) && !strings.HasPrefix(path, home+"oidc/")
	}
}

// open are the pages for whoever is not signed in.
func (c *Console) open() map[string]func(*visit) error {
	return map[string]func(*visit) error{
		"GET /c/signin":        showSignIn,
		"POST /c/signin":       signIn,
		"POST /c/signout":      signOut,
		"POST /c/language":     switchLanguage,
		"GET /c/assets/{name}": serveAsset,
	}
}

// inside are the pages for whoever is.
func (c *Console) inside() map[string]func(*visit) error {
	return map[string]func(*visit) error{
		"GET /c/{$}":  showOverview,
		"GET /c/live": stream,

		"GET /c/registries":              listRegistries,
		"POST /c/registries":             addRegistry,
		"GET /c/registries/new":          newRegistry,
		"POST /c/registries/test":        testRegistry,
		"GET /c/registries/{id}":         editRegistry,
		"POST /c/registries/{id}":        changeRegistry,
		"GET /c/registries/{id}/delete":  confirmRegistry,
		"POST /c/registries/{id}/delete": deleteRegistry,

		"GET /c/projects":                                listProjects,
		"POST /c/projects":                               addProject,
		"GET /c/projects/new":                            newProject,
		"GET /c/projects/{project}":                      showProject,
		"GET /c/projects/{project}/settings":             editProject,
		"POST /c/projects/{project}/settings":            changeProject,
		"POST /c/projects/{project}/retention":           retain,
		"GET /c/projects/{project}/delete":               confirmProject,
		"POST /c/projects/{project}/delete":              deleteProject,
		"GET /c/projects/{project}/members":              listMembers,
		"POST /c/projects/{project}/members":             addMember,
		"POST /c/projects/{project}/members/{id}":        changeMember,
		"GET /c/projects/{project}/members/{id}/delete":  confirmMember,
		"POST /c/projects/{project}/members/{id}/delete": deleteMember,
		"GET /c/projects/{project}/robots":               listRobots,
		"POST /c/projects/{project}/robots":              addRobot,
		"POST /c/projects/{project}/robots/{id}":         changeRobot,
		"GET /c/projects/{project}/robots/{id}/delete":   confirmRobot,
		"POST /c/projects/{project}/robots/{id}/delete":  deleteRobot,

		"GET /c/robots":              listRobots,
		"POST /c/robots":             addRobot,
		"POST /c/robots/{id}":        changeRobot,
		"GET /c/robots/{id}/delete":  confirmRobot,
		"POST /c/robots/{id}/delete": deleteRobot,

		"GET /c/search":                 search,
		"GET /c/repositories/{name...}": showRepository,
		"GET /c/artifacts/{name...}":    showArtifact,
		"POST /c/refresh/{name...}":     refresh,
		"POST /c/pin/{name...}":         pin,
		"POST /c/overrule/{name...}":    overrule,
		"GET /c/remove/{name...}":       confirmRemoval,
		"POST /c/remove/{name...}":      remove,

		"GET /c/connect":            connect,
		"GET /c/explain":            askToExplain,
		"POST /c/explain":           explain,
		"GET /c/clients":            listClients,
		"GET /c/jobs":               listJobs,
		"GET /c/jobs/live":          streamJobs,
		"POST /c/jobs":              startCollection,
		"POST /c/jobs/{id}/stop":    stopCollection,
		"POST /c/warmups":           startWarmup,
		"GET /c/warmups/{id}":       showWarmup,
		"GET /c/warmups/{id}/live":  streamWarmup,
		"POST /c/tasks":             startTask,
		"POST /c/tasks/{id}/stop":   stopTask,
		"GET /c/audit":              showAudit,
		"GET /c/users":              listUsers,
		"POST /c/users":             addUser,
		"GET /c/users/new":          newUser,
		"GET /c/users/{id}":         showUser,
		"POST /c/users/{id}":        changeUser,
		"GET /c/users/{id}/delete":  confirmUser,
		"POST /c/users/{id}/delete": deleteUser,
		"GET /c/account":            showAccount,
		"POST /c/account/password":  changePassword,
	}
}

// routes are all pages.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, serve := range c.open() {
		mux.Handle(pattern, c.page(serve))
	}
	for pattern, serve := range c.inside() {
		mux.Handle(pattern, c.page(signedIn(serve)))
	}
	mux.Handle("/c/", c.page(signedIn(func(*visit) error { return errNoPage })))
	mux.Handle("/", http.RedirectHandler(home, http.StatusFound))
	return mux
}

// guarded is what every answer goes through. What changes something is a POST, and one that a
// browser was told to send by another site is refused (FAULTS C7), cookies or not.
func (c *Console) guarded(pages http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(c.page(func(*visit) error { return errForeign }))
	guarded := guard.Handler(pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // "no-referrer" has browsers say that a form comes from nowhere
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Vary", "Cookie, Accept-Language")
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, longest(r))
		}
		guarded.ServeHTTP(w, r)
	})
}

const (
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

	// maxForm is the longest body of a form, in bytes: one with a CA certificate in it.
	maxForm = 256 << 10

	// maxList is that of one with a list of images, of a mebibyte, in which each slash is three bytes.
	maxList = 3 << 20
)

// longest is the longest body of a request.
func longest(r *http.Request) int64 {
	if r.URL.Path == home+"warmups" {
		return maxList
	}
	return maxForm
}
