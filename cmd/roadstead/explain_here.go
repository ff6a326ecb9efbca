package main

import (
	"fmt"
	"strings"
	"time"

	"roadstead/registry/estate"
	"roadstead/rewrite"
)

// clauses say how a name has found its project.
var clauses = map[rewrite.Clause]string{
	rewrite.ByName:    "the name begins with the project",
	rewrite.ByNS:      "ns names its registry",
	rewrite.ByHost:    "the Host header has it",
	rewrite.ByDefault: "it is the default project",
}

// hereTexts are what this server makes of a request, on a few lines.
func hereTexts(h estate.Here) []string {
	if h.Project == "" {
		return []string{"nothing: " + h.Refused}
	}
	all := []string{fmt.Sprintf("%s in the %s project %s, as %s", h.Repository, either(h.Hosted, "hosted", "proxy"), h.Project, clauses[h.Clause])}
	if h.Refused != "" {
		return append(all, "refused: "+h.Refused)
	}
	state := ""
	switch h.State {
	case estate.Fresh:
		state = "fresh"
		if h.Offline && h.CheckedAt != nil {
			state = fmt.Sprintf("served, however old: checked %s ago", ageText(h.Age))
		} else if h.CheckedAt != nil {
			state += fmt.Sprintf(": checked %s ago, good for %s", ageText(h.Age), ageText(h.TTL))
		}
	case estate.Stale:
		state = fmt.Sprintf("stale: checked %s ago, which was good for %s; it is served without upstream %s", ageText(h.Age), ageText(h.TTL),
			either(h.StaleFor == 0, "without end", "for "+ageText(h.StaleFor)))
	case estate.Gone:
		state = "gone: upstream had no such tag " + ageText(h.Age) + " ago"
	case estate.Absent:
		state = either(h.Hosted, "not here: nobody has pushed it", "not here yet")
	case estate.Pushed:
		state = "pushed"
	}
	all = append(all, state)
	if h.Digest != "" {
		what := fmt.Sprintf("%s, %s", h.Digest, either(h.Stored, "stored", "not stored"))
		if h.Parts > 0 {
			what += fmt.Sprintf(", with %d of %d parts", h.PartsHere, h.Parts)
		}
		all = append(all, what+either(h.Pinned, ", pinned", ""))
	}
	if h.Policy != nil {
		all = append(all, policyTexts(*h.Policy)...)
	}
	if !h.Hosted {
		up := strings.Join(h.Upstream, ", then ")
		if h.Offline {
			return append(all, "offline: no upstream is asked"+offlineText(h))
		}
		all = append(all, either(h.Asks, "a pull asks "+up, "no pull asks upstream, which is "+up)+either(h.Down, ", which does not answer now", ""))
	}
	return all
}

// offlineText is how a pull is answered for what nobody can be asked for.
func offlineText(h estate.Here) string {
	switch {
	case h.State == estate.Gone:
		return ""
	case h.State == estate.Absent || !h.Stored:
		return "; a pull is 503"
	case h.PartsHere < h.Parts:
		return "; a pull of the parts that are not here is 503"
	}
	return ""
}

// policyTexts are what the rules on signatures and on tags that move mean for an image.
func policyTexts(p estate.HerePolicy) (all []string) {
	if p.Verify != "" {
		text := "signature, " + p.Verify + ": "
		switch {
		case p.Verified && p.By == "override":
			text += "let through: " + p.Why
		case p.Verified && p.By == "accessory":
			text += "not needed: it is one itself, or about an image"
		case p.Verified:
			text += "verified by key " + p.By
		case p.Why != "":
			text += "not verified: " + p.Why
		default:
			text += "not looked at yet; a pull does"
		}
		all = append(all, text)
	}
	if p.Held != "" {
		when := "at the next check"
		if p.Until != nil {
			when = p.Until.Local().Format(time.DateTime) + ", or when it is released"
		}
		all = append(all, fmt.Sprintf("held for %s: upstream has moved it to %s, which follows %s", ageText(p.Cooldown), p.Held, when))
	}
	return all
}

func ageText(seconds int64) string { return (time.Duration(seconds) * time.Second).String() }
