package access

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

//go:embed pages
var pages embed.FS

var templates = template.Must(template.ParseFS(pages, "pages/*.html"))

// portal is what people see of their accounts: logging in by the provider, and a page that says
// who they are and gives them a secret for docker login.
//
// The session that it begins is the one of signin.go, which nothing below /v2/ knows; the cookie of
// a login under way is read here and nowhere else.
type portal struct {
	access   *Access
	provider *provider
	sealer   sealer
	log      *slog.Logger
}

func newPortal(a *Access, o *OIDC) (*portal, error) {
	provider, err := newProvider(o)
	if err != nil {
		return nil, err
	}
	return &portal{access: a, provider: provider, sealer: newSealer(a.config.Secret), log: a.log}, nil
}

// handler serves /c/oidc/. What changes something is a POST, and one that a browser was told to
// send by another site is refused (FAULTS C7). There is no token in the forms for that: a request
// without the headers by which browsers say where it is from comes from no browser, and has no
// cookie that is not its sender's own.
func (p *portal) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+loginPath, p.page(p.login))
	mux.Handle("GET "+callbackPath, p.page(p.callback))
	mux.Handle("GET "+home+"{$}", p.page(p.show))
	mux.Handle("POST "+home+"secret", p.page(p.renew))
	mux.Handle("POST "+home+"secret/remove", p.page(p.remove))
	mux.Handle("POST "+home+"logout", p.page(p.logout))
	mux.Handle("GET "+home+"style.css", p.page(style))
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(p.page(func(http.ResponseWriter, *http.Request) error {
		return &registry.Fault{Code: registry.Denied, Message: "this request comes from another site"}
	}))
	guarded := guard.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		// Not "no-referrer": browsers then say that a form comes from nowhere.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		guarded.ServeHTTP(w, r.WithContext(From(r.Context(), r.RemoteAddr)))
	})
}

// page is the one place that makes a page of an error.
func (p *portal) page(serve func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := serve(w, r); err != nil {
			p.fail(w, r, err)
		}
	})
}

func (p *portal) fail(w http.ResponseWriter, r *http.Request, err error) {
	view := view{Title: "Error", Message: "Something went wrong here. The log of the server says more."}
	status, level := http.StatusInternalServerError, slog.LevelError
	var fault *registry.Fault
	if errors.As(err, &fault) {
		view.Message = sentence(fault.Message)
	}
	switch {
	case errors.Is(err, errFlow):
		status, level = http.StatusBadRequest, slog.LevelInfo
		view.Title, view.Message = "Begin again", "This login was not begun in this browser, or too long ago."
	case errors.Is(err, errHost):
		status, level = http.StatusBadRequest, slog.LevelInfo
		view.Title, view.Message = "Bad address", "The address of this page is none that the login provider could send you back to."
	case errors.Is(err, catalog.ErrUnavailable):
		status, level = http.StatusServiceUnavailable, slog.LevelWarn
		view.Title, view.Message = "No answer", "The database with the accounts gives no answer now. Try again in a moment."
	case errors.Is(err, registry.Unavailable):
		status, level = http.StatusServiceUnavailable, slog.LevelWarn
		view.Title, view.Message = "No answer", "The login provider gives no answer now. Try again in a moment; accounts that have a password here work all the same."
		w.Header().Set("Retry-After", strconv.Itoa(int(providerRest.Seconds())))
	case errors.Is(err, registry.Denied):
		status, level = http.StatusForbidden, slog.LevelWarn
		view.Title = "Not logged in"
	case errors.Is(err, registry.Unauthorized):
		status, level = http.StatusUnauthorized, slog.LevelInfo
		view.Title = "Not logged in"
	}
	p.log.Log(r.Context(), level, "login page failed", "path", r.URL.Path, "status", status, "err", err)
	p.render(w, status, "error.html", view)
}

// sentence makes one of the message of an error.
func sentence(message string) string {
	if message == "" {
		return message
	}
	return strings.ToUpper(message[:1]) + message[1:] + "."
}

// view is what the pages show.
type view struct {
	Title   string
	Message string
	Issuer  string // host of the provider
	Host    string // what docker login is told
	User    catalog.User
	Admin   bool
	Roles   []held
	Secret  string // one that was made just now
	HasOne  bool
	Until   time.Time // the secret works until then without another login
}

// render writes a page whole or not at all.
func (p *portal) render(w http.ResponseWriter, status int, name string, v view) {
	issuer, err := url.Parse(p.provider.config.Issuer)
	if err == nil {
		v.Issuer = issuer.Host
	}
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, v); err != nil {
		p.log.Error("page not rendered", "page", name, "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // a client that has left
}

func style(w http.ResponseWriter, _ *http.Request) error {
	css, err := pages.ReadFile("pages/style.css")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write(css) // a client that has left
	return nil
}
