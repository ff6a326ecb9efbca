package console

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// visit is one request of a browser. It lives as long as its handler.
type visit struct {
	*Console
	w    http.ResponseWriter
	r    *http.Request
	lang language

	me    registry.Principal // nil: nobody is signed in
	user  *catalog.User
	admin bool

	barred error // why it cannot be told whether somebody is
}

// page makes a handler of one that returns errors. It is the one place that makes a page of those.
func (c *Console) page(serve func(*visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{Console: c, w: w, r: r, lang: languageOf(r)}
		s, ok, err := c.config.Access.SessionOf(r)
		v.barred = err
		if ok {
			v.me = s.Principal
			_, v.user, v.admin, _ = c.config.Access.Describe(v.me)
		}
		if err := serve(v); err != nil {
			v.fail(err)
		}
	})
}

// signedIn lets only those through who are, and has others sign in and come back.
func signedIn(serve func(*visit) error) func(*visit) error {
	return func(v *visit) error {
		if v.barred != nil {
			return v.barred
		}
		if v.me == nil || v.user == nil {
			return errAway
		}
		return serve(v)
	}
}

var (
	errAway          = errors.New("nobody is signed in")
	errForeign       = errors.New("the request comes from another site")
	errForm    error = estate.Wrong("", "form.wrong", "the form cannot be read, or is too long")
	errNoPage  error = registry.Because(registry.NameUnknown, nil, "page.unknown", "there is no such page")
)

// statuses of errors that people can do something about, and the key of what is said of each.
var statuses = []struct {
	err    error
	status int
	key    string
}{
	{errForeign, http.StatusForbidden, "foreign"},
	{registry.Unauthorized, http.StatusUnauthorized, "denied"},
	{registry.Denied, http.StatusForbidden, "denied"},
	{registry.NameUnknown, http.StatusNotFound, "unknown"},
	{registry.ManifestUnknown, http.StatusNotFound, "unknown"},
	{registry.BlobUnknown, http.StatusNotFound, "unknown"},
	{catalog.ErrNotFound, http.StatusNotFound, "unknown"},
	{access.Invalid, http.StatusUnprocessableEntity, "invalid"},
	{registry.NameInvalid, http.StatusUnprocessableEntity, "invalid"},
	{registry.TagInvalid, http.StatusUnprocessableEntity, "invalid"},
	{registry.DigestInvalid, http.StatusUnprocessableEntity, "invalid"},
	{registry.ManifestInvalid, http.StatusUnprocessableEntity, "invalid"},
	{registry.Conflict, http.StatusConflict, "conflict"},
	{registry.Unsupported, http.StatusConflict, "conflict"},
	{estate.InUse, http.StatusConflict, "used"},
	{estate.Unhealthy, http.StatusUnprocessableEntity, "unhealthy"},
	{registry.TooLarge, http.StatusRequestEntityTooLarge, "large"},
	{catalog.ErrUnavailable, http.StatusServiceUnavailable, "away"},
	{registry.Unavailable, http.StatusBadGateway, "unavailable"},
	{registry.Throttled, http.StatusServiceUnavailable, "throttled"},
	{registry.TooManyRequests, http.StatusTooManyRequests, "throttled"},
}

// trouble is what people are told of an error.
type trouble struct {
	Status  int
	Title   string // in their language
	Message string // what is wrong, as a sentence; "" for nothing
	English bool   // the message is in English, whatever the page is in
	Field   string // of a form, that it is about; "" for none
}

// trouble says what to tell of an error. What is not meant for people is logged, and they are told
// that there is something in the log.
func (v *visit) trouble(err error) trouble {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			t := trouble{Status: s.status, Title: v.say("error." + s.key), Field: estate.FieldOf(err)}
			t.Message, t.English = v.why(err)
			return t
		}
	}
	v.log.Error("page failed", "path", v.r.URL.Path, "err", err)
	return trouble{Status: http.StatusInternalServerError, Title: v.say("error.internal")}
}

// why is what an error says, in the language of the visit or, where that has no words for it, in
// English.
func (v *visit) why(err error) (message string, inEnglish bool) {
	fault, ok := errors.AsType[*registry.Fault](err)
	if !ok || fault.Message == "" {
		return "", false
	}
	if reason, ok := errors.AsType[*registry.Reason](err); ok && v.lang != english && v.words[v.lang].has("why."+reason.Key) {
		return v.say("why."+reason.Key, v.named(reason.Args)...), false
	}
	return sentence(fault.Message), v.lang != english
}

// named are the arguments of a reason with the kinds of things among them in the language of the visit.
func (v *visit) named(args []any) []any {
	all := slices.Clone(args)
	for i, arg := range all {
		if kind, ok := arg.(registry.Kind); ok && v.words[v.lang].has("thing."+string(kind)) {
			all[i] = v.say("thing." + string(kind))
		}
	}
	return all
}

// sentence makes one of the message of an error.
func sentence(message string) string {
	return strings.ToUpper(message[:1]) + message[1:] + "."
}

// fail answers with an error, as a page of its own.
func (v *visit) fail(err error) {
	if errors.Is(err, errAway) {
		v.askToSignIn()
		return
	}
	t := v.trouble(err)
	if wait := retryAfter(err); wait != "" {
		v.w.Header().Set("Retry-After", wait)
	}
	if err := v.show(t.Status, "error", t.Title, t); err != nil {
		v.log.Error("page not rendered", "page", "error", "err", err)
		http.Error(v.w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

func retryAfter(err error) string {
	if errors.Is(err, catalog.ErrUnavailable) {
		return "5" // it is found within a second when it is back, and nobody clicks more often than that
	}
	fault, ok := errors.AsType[*registry.Fault](err)
	if !ok || fault.RetryAfter <= 0 {
		return ""
	}
	return strconv.Itoa(int(fault.RetryAfter.Seconds()) + 1)
}

// askToSignIn sends a browser to where people sign in, and from there back to what it wanted to see.
func (v *visit) askToSignIn() {
	target := home + "signin"
	if v.r.Method == http.MethodGet && v.r.URL.RequestURI() != home {
		target += "?next=" + url.QueryEscape(v.r.URL.RequestURI())
	}
	v.redirect(target)
}

// redirect goes on to another page of ours.
func (v *visit) redirect(target string) {
	http.Redirect(v.w, v.r, target, http.StatusSeeOther)
}

// done goes on to a page of ours and has it say what was done.
func (v *visit) done(target, what string) error {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	v.redirect(target + separator + "done=" + what)
	return nil
}

// view is what the layout of all pages shows.
type view struct {
	Title   string
	Lang    language
	Other   language // that can be chosen instead
	Here    string   // where this page is, to come back to it
	Nav     string   // the part of the house that this page is in
	User    *catalog.User
	Admin   bool
	Offline bool   // no upstream is ever asked
	Done    string // what was done by coming here, in words
	Issuer  string
	Version string
	Query   string // what was searched for
	Style   string // addresses of assets
	Script  string
	Icon    string
	Page    any // what the page itself shows
}

// show writes a page whole or not at all.
func (v *visit) show(status int, name, title string, page any) error {
	at := view{
		Title: title, Lang: v.lang, Other: v.lang.other(), Here: v.here(), Nav: v.section(), User: v.user, Admin: v.admin,
		Issuer: v.config.Issuer, Version: v.config.Version, Page: page,
		Offline: v.config.Offline != nil && v.config.Offline(),
		Style:   v.assets["style.css"].path, Script: v.assets["console.js"].path, Icon: v.assets["icon.svg"].path,
	}
	if key := "done." + v.r.URL.Query().Get("done"); status == http.StatusOK && v.words[v.lang].has(key) {
		at.Done = v.say(key)
	}
	if v.section() == "search" {
		at.Query = v.r.URL.Query().Get("q")
	}
	var body sheet
	if err := v.render(&body, name, "layout", at); err != nil {
		return err
	}
	v.write(status, body.text.Bytes())
	return nil
}

// render writes a part of a page in the language of the visit.
func (v *visit) render(w io.Writer, page, part string, data any) error {
	pages, err := v.pages()
	if err != nil {
		return err
	}
	return pages[v.lang][page].ExecuteTemplate(w, part, data)
}

// showPart writes one part of a page, for a script that asks for it.
func (v *visit) showPart(status int, name, part string, data any) error {
	var body sheet
	if err := v.render(&body, name, part, data); err != nil {
		return err
	}
	v.write(status, body.text.Bytes())
	return nil
}

func (v *visit) write(status int, body []byte) {
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(v.lang))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(body) // a browser that has left
	}
}

// part reports whether a script of ours asks for a part of the page only.
func (v *visit) part() bool { return v.r.Header.Get("X-Part") != "" }

// here is where the browser is, as far as it can be shown again by a GET.
func (v *visit) here() string {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		return home
	}
	u := *v.r.URL
	q := u.Query()
	q.Del("done")
	u.RawQuery = q.Encode()
	if u.Path == home+"signin" {
		return local(q.Get("next"))
	}
	return u.RequestURI()
}

// section is the part of the house that a page is in: the first word of its path.
func (v *visit) section() string {
	first, _, _ := strings.Cut(strings.TrimPrefix(v.r.URL.Path, home), "/")
	switch first {
	case "repositories", "artifacts":
		return "projects"
	}
	return first
}

// local is an address of ours that a browser may be sent to, or home: a path below /c/ that no
// browser takes for that of another host.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(next, home) ||
		strings.ContainsAny(next, "\\\r\n\t") || strings.HasPrefix(next, home+"/") {
		return home
	}
	return next
}

// say is a message in the language of the visit.
func (v *visit) say(key string, args ...any) string { return v.words[v.lang].say(key, args...) }
