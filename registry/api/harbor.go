package api

import (
	"encoding/json"
	"time"

	"roadstead/storage/catalog"
)

// What follows reads rules as Harbor itself answers with them, for whoever takes over from one: they mean
// what they would mean if a client had sent them here.

// Retention is what a policy of Harbor's retention means for a project that people push to: which tags
// stay, and when the others go, in cron's words or as estate.Never. A disabled rule means nothing. The
// error names the rule that there is no word for here.
func Retention(policy []byte) (r catalog.Retention, schedule string, err error) {
	var b retentionBody
	if err := json.Unmarshal(policy, &b); err != nil {
		return r, "", invalid("it is no policy of retention: %s", understood)
	}
	return b.meaning()
}

// Keep is what such a policy means for a proxy: how long it keeps at least what was pulled.
func Keep(policy []byte) (time.Duration, error) {
	var b retentionBody
	if err := json.Unmarshal(policy, &b); err != nil {
		return 0, invalid("it is no policy of retention: %s", understood)
	}
	return b.keep()
}

// Immutable is the glob "repository:tag" that a rule of Harbor's immutable tags means, "" for one that is
// disabled.
func Immutable(rule []byte) (string, error) {
	var b ruleBody
	if err := json.Unmarshal(rule, &b); err != nil {
		return "", invalid("it is no rule of immutable tags")
	}
	if b.Disabled {
		return "", nil
	}
	return b.glob()
}
