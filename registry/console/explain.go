package console

import (
	"net/http"
	"strings"
	"time"

	"roadstead/registry/estate"
)

// explainPage is where people ask what becomes of an image. What they paste is sent as a form, as it may
// be too long for an address; nothing is changed by it.
type explainPage struct {
	Image      string
	Registries string
	NoDefault  bool
	Error      *trouble
	Asked      bool
	Ways       []explainedWay
}

// explainedWay is that of one client, put as pages show it.
type explainedWay struct {
	estate.Way
	NoMirror bool // the client looks for a mirror and finds none
	Steps    []explainedStep
}

type explainedStep struct {
	estate.Step
	Outcomes []explainedOutcome
}

type explainedOutcome struct {
	estate.Outcome
	Here *explainedHere
}

type explainedHere struct {
	*estate.Here
	TTL, StaleFor time.Duration
}

func askToExplain(v *visit) error {
	return v.show(http.StatusOK, "explain", v.say("explain.title"), explainPage{Image: v.r.URL.Query().Get("image")})
}

func explain(v *visit) error {
	page := explainPage{Image: strings.TrimSpace(v.r.PostFormValue("image")), Registries: v.r.PostFormValue("registries"), NoDefault: v.r.PostFormValue("no_default") == "on"}
	at := v.address()
	e, err := v.config.Estate.Explain(v.r.Context(), v.me, estate.Question{
		Image: page.Image, Registries: page.Registries, NoDefault: page.NoDefault, URL: at.String(), Self: []string{v.r.Host, at.Host},
	})
	if err != nil {
		t := v.trouble(err)
		page.Error = &t
		return v.show(t.Status, "explain", v.say("explain.title"), page)
	}
	page.Asked, page.Ways = true, explainedWays(e, page.Registries != "")
	return v.show(http.StatusOK, "explain", v.say("explain.title"), page)
}

func explainedWays(e estate.Explanation, file bool) []explainedWay {
	var all []explainedWay
	for _, w := range e.Ways {
		way := explainedWay{Way: w, NoMirror: w.Mirror == "" && file}
		for _, s := range w.Steps {
			step := explainedStep{Step: s}
			for _, o := range s.Outcomes {
				outcome := explainedOutcome{Outcome: o}
				if o.Here != nil {
					outcome.Here = &explainedHere{o.Here, time.Duration(o.Here.TTL) * time.Second, time.Duration(o.Here.StaleFor) * time.Second}
				}
				step.Outcomes = append(step.Outcomes, outcome)
			}
			way.Steps = append(way.Steps, step)
		}
		all = append(all, way)
	}
	return all
}

// seenPage lists the clients that have asked this node.
type seenPage struct {
	Filter  string
	Clients []estate.Client
	Pager   pager
}

func listClients(v *visit) error {
	page := seenPage{Filter: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	all, err := v.config.Estate.ClientsSeen(v.me, page.Filter)
	if err != nil {
		return err
	}
	slice := v.slice()
	from := min(slice.Offset, len(all))
	page.Clients = all[from:min(from+slice.Limit, len(all))]
	page.Pager = v.pager(slice, len(page.Clients), len(all))
	return v.show(http.StatusOK, "clients", v.say("nav.clients"), page)
}
