package console

import (
	"errors"
	"net/http"
	"net/url"

	"roadstead/registry"
)

// door is what the page shows on which people sign in.
type door struct {
	Name  string
	Next  string
	OIDC  string // where the provider's way begins; "" without one
	Error *trouble
}

func (v *visit) door(name, next string) door {
	d := door{Name: name, Next: local(next)}
	if v.config.Issuer != "" {
		d.OIDC = home + "oidc/login?next=" + url.QueryEscape(d.Next)
	}
	return d
}

func showSignIn(v *visit) error {
	next := v.r.URL.Query().Get("next")
	if v.user != nil {
		v.redirect(local(next))
		return nil
	}
	return v.show(http.StatusOK, "signin", v.say("signin.title"), v.door("", next))
}

// signIn begins a session. Whatever is wrong with a name and a password, it says the same of it.
func signIn(v *visit) error {
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	name, next := v.r.PostFormValue("username"), v.r.PostFormValue("next")
	id, err := v.config.Access.SignIn(v.r.Context(), name, v.r.PostFormValue("password"), v.r.RemoteAddr)
	if err == nil {
		if err := v.config.Access.KeepSession(v.w, v.r, id); err != nil {
			return err
		}
		v.redirect(local(next))
		return nil
	}
	d := v.door(name, next)
	switch {
	case errors.Is(err, registry.Unauthorized):
		d.Error = &trouble{Status: http.StatusUnauthorized, Title: v.say("signin.wrong")}
	case errors.Is(err, registry.TooManyRequests):
		d.Error = &trouble{Status: http.StatusTooManyRequests, Title: v.say("signin.often")}
		if wait := retryAfter(err); wait != "" {
			v.w.Header().Set("Retry-After", wait)
		}
	default:
		return err
	}
	return v.show(d.Error.Status, "signin", v.say("signin.title"), d)
}

func signOut(v *visit) error {
	if err := v.config.Access.SignOut(v.w, v.r); err != nil {
		return err
	}
	v.redirect(home + "signin")
	return nil
}
