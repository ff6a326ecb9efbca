package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"roadstead/cache"
	"roadstead/registry/hosted"
	"roadstead/rewrite"
)

// hostedNotes are the notes of a project that people push to.
func hostedNotes(p Project) []string {
	all := []string{"private"}
	if p.Public {
		all[0] = "public"
	}
	if note := redirectNote(p.Redirect); note != "" {
		all = append(all, note)
	}
	if p.Quota > 0 {
		all = append(all, "at most "+bytesText(p.Quota))
	}
	if len(p.Immutable) > 0 {
		all = append(all, fmt.Sprintf("%d immutable", len(p.Immutable)))
	}
	return append(all, retention(p.Retain)...)
}

// retention says which tags stay, and when the others go; nothing when all stay.
func retention(r Retain) []string {
	var all []string
	if r.Newest > 0 {
		all = append(all, fmt.Sprintf("keeps the %d newest tags", r.Newest))
	}
	if r.Pulled > 0 {
		all = append(all, "keeps tags pulled within "+durationText(r.Pulled))
	}
	if n := len(r.Rules); n > 0 {
		all = append(all, fmt.Sprintf("keeps by %d %s", n, either(n == 1, "rule", "rules")))
	}
	switch {
	case len(all) == 0 || r.Schedule == "":
	case r.Schedule == hosted.Never:
		all = append(all, "retires the others only by the command retain")
	default:
		all = append(all, "retires the others as planned by "+r.Schedule)
	}
	return all
}

// notes are what is worth knowing of a project at a glance.
func notes(p Project) []string {
	var all []string
	add := func(yes bool, note string) {
		if yes {
			all = append(all, note)
		}
	}
	add(!p.Public, "private")
	add(p.Remote.Prefix != "", "prefix "+p.Remote.Prefix)
	add(p.Remote.Username != "", "as user "+p.Remote.Username)
	add(p.Remote.PasswordSecret != "", "password in the secret "+p.Remote.PasswordSecret)
	add(p.Remote.CredentialHelper != "", "credentials by "+p.Remote.CredentialHelper)
	add(len(p.Remote.AuthHosts) > 0, "credentials go to "+strings.Join(p.Remote.AuthHosts, " and ")+" too")
	add(p.Remote.CA != "", "an authority of its own")
	add(p.Remote.ClientCertificate != "", "a client certificate")
	add(p.Remote.Insecure, "TLS NOT VERIFIED")
	add(p.Remote.AllowPrivate, "may be on a private address")
	add(p.Remote.Proxy == "direct", "no proxy")
	add(p.Remote.Proxy != "" && p.Remote.Proxy != "direct", "by a proxy")
	add(redirectNote(p.Redirect) != "", redirectNote(p.Redirect))
	base, known := builtinProject(p.Name)
	add(p.Hub && !base.Hub, "names of one part are below library/")
	add(known && base.Hub && !p.Hub, "names of one part are as they are")
	add(p.Negative != newProject("").Negative, "asks again after "+durationText(p.Negative)+" for what was unknown")
	add(p.StaleFor > 0, "stale for "+durationText(p.StaleFor))
	add(len(p.Allow) > 0, fmt.Sprintf("%d allowed", len(p.Allow)))
	add(len(p.Deny) > 0, fmt.Sprintf("%d denied", len(p.Deny)))
	add(len(p.Pin) > 0, fmt.Sprintf("%d pinned", len(p.Pin)))
	add(p.Cooldown > 0, either(p.CooldownNew, "tags wait ", "moved tags wait ")+durationText(p.Cooldown))
	add(p.Verify.Mode != "", signatureNote(p.Verify))
	add(p.KeepGone, "keeps tags that upstream has no more")
	add(p.DenyWithUpstream, "denies what upstream denies")
	add(!strings.Contains(p.Name, "."), "hides a Docker Hub organisation "+p.Name)
	return all
}

// redirectNote says whether clients are sent to the bucket; nothing where the bucket's own setting holds.
func redirectNote(r redirect) string {
	switch {
	case r == 0:
		return ""
	case r < 0:
		return "never redirects"
	case r == 1:
		return "redirects to the bucket"
	}
	return "redirects to the bucket from " + bytesText(int64(r)) + " on"
}

// signatureNote says what is done about images without a signature by one of the keys.
func signatureNote(v Verify) string {
	keys := len(v.policy().Keys)
	return fmt.Sprintf("%s (%d %s)", either(v.Mode == cache.Enforce, "enforces signatures", "warns without a signature"), keys, either(keys == 1, "key", "keys"))
}

// joined are values as people read a list of them.
func joined[T fmt.Stringer](all []T) string {
	var texts []string
	for _, one := range all {
		texts = append(texts, one.String())
	}
	return strings.Join(texts, ", ")
}

// writePlans writes a line for each plan: how many images, of which platforms, into which projects, and when.
func writePlans(w io.Writer, c Config) error {
	if len(c.Plans) == 0 {
		return nil
	}
	table, err := newTable(c, c.hosted())
	if err != nil {
		return err
	}
	for _, p := range c.Plans {
		text, err := planText(p, table)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "warm      %s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// planText is a plan in words. Its list is as it is now.
func planText(p Plan, table *rewrite.Table) (string, error) {
	var parts []string
	names, err := rewrite.ListImages([]byte(strings.Join(p.Images, "\n")))
	if err != nil {
		return "", fmt.Errorf("warm: %s: %w", p.Name, err)
	}
	if len(names) > 0 {
		parts = append(parts, imagesText(len(names)))
	}
	if p.File != "" {
		text, err := readList(p.File)
		if err != nil {
			return "", fmt.Errorf("warm: %s: %w", p.Name, err)
		}
		listed, err := rewrite.ListImages([]byte(text))
		if err != nil {
			return "", fmt.Errorf("warm: %s: %w", p.Name, err)
		}
		parts = append(parts, fmt.Sprintf("%s of %s", imagesText(len(listed)), p.File))
		names = append(names, listed...)
	}
	var projects []string
	nowhere := 0
	for _, name := range names {
		place, err := table.Place(name.Image)
		switch {
		case err != nil:
			nowhere++
		case !slices.Contains(projects, place.Project):
			projects = append(projects, place.Project)
		}
	}
	slices.Sort(projects)
	text := p.Name + ": " + strings.Join(parts, " and ")
	switch {
	case p.AllPlatforms:
		text += ", all platforms"
	case len(p.Platforms) > 0:
		text += ", " + strings.Join(p.Platforms, " and ")
	}
	if len(projects) > 0 {
		text += ", into " + strings.Join(projects, " and ")
	}
	if nowhere > 0 {
		text += fmt.Sprintf(", %d for which no project of this file stands", nowhere)
	}
	if p.Schedule == hosted.Never {
		return text + ", never by itself", nil
	}
	return text + ", by the schedule " + p.Schedule + " (UTC)", nil
}
