package console

import (
	"net/http"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// auditPage is a page of the audit log.
type auditPage struct {
	Entries  []catalog.Entry
	Actor    string
	Under    string
	Since    string
	Actions  []choice
	Outcomes []choice
	Filtered bool
	Pager    pager
}

// auditActions are what can be looked for.
var auditActions = []registry.Action{registry.Create, registry.Update, registry.Delete, registry.Push, "login", "operate", "enable", "disable"}

func showAudit(v *visit) error {
	q := v.r.URL.Query()
	page := auditPage{Actor: strings.TrimSpace(q.Get("actor")), Under: strings.TrimSpace(q.Get("resource")), Since: q.Get("since")}
	f := catalog.AuditFilter{Actor: page.Actor, Under: page.Under, Action: registry.Action(q.Get("action")), Outcome: registry.Result(q.Get("outcome"))}
	if since, err := time.Parse(time.DateOnly, page.Since); err == nil {
		f.Since = since
	} else {
		page.Since = ""
	}
	for _, a := range auditActions {
		page.Actions = append(page.Actions, choice{Name: string(a), Text: v.say("action." + string(a)), Chosen: a == f.Action})
	}
	for _, o := range []registry.Result{registry.Done, registry.Refused, registry.Failed} {
		page.Outcomes = append(page.Outcomes, choice{Name: string(o), Text: v.say("outcome." + string(o)), Chosen: o == f.Outcome})
	}
	page.Filtered = f.Actor != "" || f.Under != "" || f.Action != "" || f.Outcome != "" || page.Since != ""
	slice := v.slice()
	var (
		total int
		err   error
	)
	if page.Entries, total, err = v.config.Estate.AuditLog(v.r.Context(), v.me, f, slice); err != nil {
		return err
	}
	page.Pager = v.pager(slice, len(page.Entries), total)
	return v.show(http.StatusOK, "audit", v.say("nav.audit"), page)
}
