package console

import (
	"net/http"
	"strconv"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// registryList is the page of all registries elsewhere.
type registryList struct {
	Registries []registryRow
	CanCreate  bool
}

type registryRow struct {
	estate.Registry
	UsedBy []string // proxy projects
	Asked  bool     // one of them was, since the start
	Down   bool     // every endpoint of one of them is
}

func listRegistries(v *visit) error {
	all, err := v.config.Estate.Registries(v.r.Context(), v.me)
	if err != nil {
		return err
	}
	projects, err := v.config.Estate.Projects(v.r.Context(), v.me)
	if err != nil {
		return err
	}
	health := v.config.Upstreams()
	page := registryList{CanCreate: v.may(registry.Create, access.Registries, "")}
	for _, r := range all {
		row := registryRow{Registry: r}
		for _, p := range projects {
			if p.Registry != r.ID || p.Hosted() {
				continue
			}
			row.UsedBy = append(row.UsedBy, p.Name)
			endpoints, up := health[p.Name].Endpoints, false
			for _, e := range endpoints {
				up = up || !e.Down
				row.Asked = row.Asked || e.Asked
			}
			row.Down = row.Down || len(endpoints) > 0 && !up
		}
		page.Registries = append(page.Registries, row)
	}
	return v.show(http.StatusOK, "registries", v.say("nav.registries"), page)
}

// registryForm is the page on which a registry is made or changed.
type registryForm struct {
	Registry estate.Registry
	New      bool
	Kinds    []kindChoice
	Error    *trouble
	Test     *outcome // of a test of the connection
	UsedBy   []string
}

type kindChoice struct {
	Name, Text, URL string
	Chosen          bool
}

// outcome is what a test of a connection found.
type outcome struct {
	OK    bool
	Error trouble
}

func (v *visit) registryForm(r estate.Registry) registryForm {
	f := registryForm{Registry: r, New: r.ID == 0}
	for _, name := range estate.Kinds() {
		f.Kinds = append(f.Kinds, kindChoice{name, v.say("kind." + name), estate.KnownURL(name), name == r.Kind})
	}
	return f
}

func (v *visit) showRegistry(status int, f registryForm) error {
	title := f.Registry.Name
	if f.New {
		title = v.say("registry.new")
	}
	return v.show(status, "registry", title, f)
}

func newRegistry(v *visit) error {
	if !v.may(registry.Create, access.Registries, "") {
		return &registry.Fault{Code: registry.Denied}
	}
	return v.showRegistry(http.StatusOK, v.registryForm(estate.Registry{}))
}

func editRegistry(v *visit) error {
	r, err := v.storedRegistry()
	if err != nil {
		return err
	}
	return v.showRegistry(http.StatusOK, v.registryForm(r))
}

// storedRegistry is the one that the address names.
func (v *visit) storedRegistry() (estate.Registry, error) {
	id, err := v.number("id")
	if err != nil {
		return estate.Registry{}, err
	}
	return v.config.Estate.Registry(v.r.Context(), v.me, id)
}

// number is a number in the address.
func (v *visit) number(name string) (int64, error) {
	id, err := strconv.ParseInt(v.r.PathValue(name), 10, 64)
	if err != nil || id <= 0 {
		return 0, errNoPage
	}
	return id, nil
}

// readRegistry reads the form into a registry.
func (v *visit) readRegistry(r *estate.Registry) error {
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	form := v.r.PostForm
	r.Name, r.Kind, r.URL, r.Description = form.Get("name"), form.Get("kind"), form.Get("url"), form.Get("description")
	r.Username, r.NewPassword, r.CA = form.Get("username"), form.Get("password"), form.Get("ca")
	r.Insecure, r.AllowPrivate = form.Get("insecure") != "", form.Get("allow_private") != ""
	return nil
}

func addRegistry(v *visit) error {
	var r estate.Registry
	if err := v.readRegistry(&r); err != nil {
		return err
	}
	_, err := v.config.Estate.AddRegistry(v.r.Context(), v.me, r)
	if err == nil {
		return v.done(home+"registries", "registry.created")
	}
	return v.refuseRegistry(r, err)
}

// refuseRegistry shows the form again with what is wrong in it.
func (v *visit) refuseRegistry(r estate.Registry, err error) error {
	t := v.trouble(err)
	if !t.amends() {
		return err
	}
	r.NewPassword = "" // it is never sent back
	f := v.registryForm(r)
	f.Error = &t
	return v.showRegistry(t.Status, f)
}

// amends reports whether somebody can do something about it in the form that was sent.
func (t trouble) amends() bool {
	return t.Status == http.StatusUnprocessableEntity || t.Status == http.StatusConflict
}

func changeRegistry(v *visit) error {
	stored, err := v.storedRegistry()
	if err != nil {
		return err
	}
	next := stored
	if err := v.readRegistry(&next); err != nil {
		return err
	}
	err = v.config.Estate.ChangeRegistry(v.r.Context(), v.me, stored.ID, v.readRegistry)
	if err == nil {
		return v.done(home+"registries", "registry.changed")
	}
	return v.refuseRegistry(next, err)
}

// testRegistry asks a registry that is in the form, and shows what it says; nothing is written.
func testRegistry(v *visit) error {
	var r estate.Registry
	if err := v.r.ParseForm(); err != nil {
		return errForm
	}
	if text := v.r.PostForm.Get("id"); text != "" {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return errForm
		}
		if r, err = v.config.Estate.Registry(v.r.Context(), v.me, id); err != nil {
			return err
		}
	}
	if err := v.readRegistry(&r); err != nil {
		return err
	}
	var found outcome
	if err := v.config.Estate.PingRegistry(v.r.Context(), v.me, r); err != nil {
		found.Error = v.trouble(err)
		if !found.Error.amends() {
			return err
		}
	} else {
		found.OK = true
	}
	if v.part() {
		return v.showPart(http.StatusOK, "registry", "test", &found)
	}
	r.NewPassword = ""
	f := v.registryForm(r)
	f.Test = &found
	return v.showRegistry(http.StatusOK, f)
}

// confirmation is the page that asks before something goes.
type confirmation struct {
	What        string // the message of what would happen, whose gap is Name
	Name        string
	Consequence string
	Action      string // where the form goes
	Back        string
	Button      string
	Hidden      map[string]string
	Typed       string // what has to be typed to go on; "": nothing
	Error       *trouble
}

func (v *visit) confirm(c confirmation) error {
	status := http.StatusOK
	if c.Error != nil {
		status = c.Error.Status
	}
	return v.show(status, "confirm", v.say(c.What, c.Name), c)
}

func (v *visit) registryConfirmation(r estate.Registry) confirmation {
	base := home + "registries/" + strconv.FormatInt(r.ID, 10)
	return confirmation{
		What: "registry.delete", Name: r.Name, Consequence: v.say("registry.delete.consequence"),
		Action: base + "/delete", Back: base, Button: v.say("delete"),
	}
}

func confirmRegistry(v *visit) error {
	r, err := v.storedRegistry()
	if err != nil {
		return err
	}
	return v.confirm(v.registryConfirmation(r))
}

func deleteRegistry(v *visit) error {
	r, err := v.storedRegistry()
	if err != nil {
		return err
	}
	if err := v.config.Estate.DeleteRegistry(v.r.Context(), v.me, r.ID); err != nil {
		return v.refuse(v.registryConfirmation(r), err)
	}
	return v.done(home+"registries", "registry.deleted")
}

// refuse shows a confirmation again, with why what it asks for cannot be done.
func (v *visit) refuse(c confirmation, err error) error {
	t := v.trouble(err)
	if !t.amends() {
		return err
	}
	c.Error = &t
	return v.confirm(c)
}
