package console

import (
	"net/http"
	"strconv"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// userList is the page of who there is.
type userList struct {
	Users  []catalog.User
	Filter string
	Pager  pager
	Me     int64
}

func listUsers(v *visit) error {
	page := userList{Filter: strings.TrimSpace(v.r.URL.Query().Get("q")), Me: v.user.ID}
	slice := v.slice()
	var (
		total int
		err   error
	)
	if page.Users, total, err = v.config.Estate.Users(v.r.Context(), v.me, catalog.UserFilter{Text: page.Filter}, slice.Offset, slice.Limit); err != nil {
		return err
	}
	page.Pager = v.pager(slice, len(page.Users), total)
	return v.show(http.StatusOK, "users", v.say("nav.users"), page)
}

// userForm is the page on which a user is made.
type userForm struct {
	User  access.NewUser
	Error *trouble
}

func newUser(v *visit) error {
	if !v.may(registry.Create, access.Users, "") {
		return &registry.Fault{Code: registry.Denied}
	}
	return v.show(http.StatusOK, "user_new", v.say("user.new"), userForm{})
}

func addUser(v *visit) error {
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	form := v.r.PostForm
	u := access.NewUser{Name: strings.TrimSpace(form.Get("name")), Profile: catalog.Profile{Email: strings.TrimSpace(form.Get("email"))},
		Admin: form.Get("admin") != "", Password: form.Get("password")}
	if _, err := v.config.Estate.AddUser(v.r.Context(), v.me, u); err != nil {
		t := v.trouble(err)
		if !t.amends() {
			return err
		}
		u.Password = ""
		return v.show(t.Status, "user_new", v.say("user.new"), userForm{u, &t})
	}
	return v.done(home+"users", "user.created")
}

// userPage is the page of one user.
type userPage struct {
	Of    catalog.User
	Self  bool
	Error *trouble
}

// shownUser is the user that the address names.
func (v *visit) shownUser() (catalog.User, error) {
	id, err := v.number("id")
	if err != nil {
		return catalog.User{}, err
	}
	if !v.may(registry.Read, access.Users, "") {
		return catalog.User{}, &registry.Fault{Code: registry.Denied}
	}
	return v.config.Estate.User(v.r.Context(), v.me, id)
}

func showUser(v *visit) error {
	u, err := v.shownUser()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "user", u.Name, userPage{Of: u, Self: u.ID == v.user.ID})
}

func changeUser(v *visit) error {
	u, err := v.shownUser()
	if err != nil {
		return err
	}
	ctx := v.r.Context()
	switch v.r.PostFormValue("do") {
	case "admin":
		err = v.config.Estate.SetAdmin(ctx, v.me, u.ID, true)
	case "no-admin":
		err = v.config.Estate.SetAdmin(ctx, v.me, u.ID, false)
	case "password":
		if u.ID == v.user.ID {
			v.redirect(home + "account") // one's own takes the old one
			return nil
		}
		err = v.config.Estate.SetPassword(ctx, v.me, u.ID, "", v.r.PostFormValue("password"), v.r.RemoteAddr)
	default:
		return errForm
	}
	if err == nil {
		return v.done(home+"users/"+strconv.FormatInt(u.ID, 10), "user.changed")
	}
	t := v.trouble(err)
	if !t.amends() && t.Status != http.StatusForbidden { // the last administrator stays one
		return err
	}
	if v.r.PostFormValue("do") == "password" {
		t.Field = "password"
	}
	return v.show(t.Status, "user", u.Name, userPage{Of: u, Self: u.ID == v.user.ID, Error: &t})
}

func (v *visit) userConfirmation(u catalog.User) confirmation {
	base := home + "users/" + strconv.FormatInt(u.ID, 10)
	return confirmation{
		What: "user.delete", Name: u.Name, Consequence: v.say("user.delete.consequence"),
		Action: base + "/delete", Back: base, Button: v.say("delete"),
	}
}

func confirmUser(v *visit) error {
	u, err := v.shownUser()
	if err != nil {
		return err
	}
	return v.confirm(v.userConfirmation(u))
}

func deleteUser(v *visit) error {
	u, err := v.shownUser()
	if err != nil {
		return err
	}
	if err := v.config.Estate.DeleteUser(v.r.Context(), v.me, u.ID); err != nil {
		return v.refuse(v.userConfirmation(u), err)
	}
	return v.done(home+"users", "user.deleted")
}

// accountPage is what somebody sees of the own account.
type accountPage struct {
	Password bool // there is one here
	OIDC     string
	Host     string
	Error    *trouble
}

func (v *visit) account() accountPage {
	page := accountPage{Password: v.user.Issuer == "", Host: v.address().Host}
	if v.user.Issuer != "" && v.config.Issuer != "" {
		page.OIDC = home + "oidc/"
	}
	return page
}

func showAccount(v *visit) error {
	return v.show(http.StatusOK, "account", v.say("account.title"), v.account())
}

// changePassword ends all sessions of the user but this one, which begins anew.
func changePassword(v *visit) error {
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	old, password := v.r.PostFormValue("old"), v.r.PostFormValue("password")
	name := v.user.Name
	err := v.config.Estate.SetPassword(v.r.Context(), v.me, v.user.ID, old, password, v.r.RemoteAddr)
	if err == nil {
		id, err := v.config.Access.SignIn(v.r.Context(), name, password, v.r.RemoteAddr)
		if err != nil {
			return errAway
		}
		if err := v.config.Access.KeepSession(v.w, v.r, id); err != nil {
			return err
		}
		return v.done(home+"account", "password.changed")
	}
	t := v.trouble(err)
	switch {
	case t.Status == http.StatusForbidden:
		t.Field = "old"
	case t.amends():
		t.Field = "password"
	default:
		return err
	}
	page := v.account()
	page.Error = &t
	return v.show(t.Status, "account", v.say("account.title"), page)
}
