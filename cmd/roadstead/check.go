package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"roadstead/registry/hosted"
)

// Check is the command of that name.
type Check struct {
	settings
	Quiet bool `short:"q" help:"Print nothing when there is no fault."`
}

// Help is the long help.
func (c *Check) Help() string {
	return `Reads the configuration as "serve" would, with the environment expanded and the files that it names read, and touches nothing else: no port, no upstream, no data directory.

Each fault is one line on stderr, "file:line: what is wrong; what to write instead", and the exit status is 1. Without a fault the resulting projects are printed, the built-in ones among them.`
}

// Run reads the configuration and says what it means.
func (c *Check) Run(std streams) error {
	cfg, err := c.load()
	if err != nil || c.Quiet {
		return err
	}
	return summary(std.out, cfg)
}

// summary prints a configuration as people want to see it: secrets as such, sizes and
// durations as they would be written, defaults filled in.
func summary(w io.Writer, c Config) error {
	scheme, admin := "http", cmp.Or(c.Admin, "off")
	if c.TLS.Certificate != "" {
		scheme = "https"
	}
	fmt.Fprintf(w, "%s is good.\n\n", cmp.Or(c.File, "The built-in configuration (no file was found)"))
	fmt.Fprintf(w, "registry  %s, %s\n", c.Listen, scheme)
	if c.URL != "" {
		fmt.Fprintf(w, "url       %s\n", c.URL)
	}
	fmt.Fprintf(w, "admin     %s\n", admin)
	if c.Offline {
		fmt.Fprintln(w, "offline   NO UPSTREAM IS EVER ASKED; what is here is served, however old, and stays")
	}
	fmt.Fprintf(w, "storage   %s, %s\n", c.Storage.Place(), limits(c.Storage))
	if c.Storage.S3.Bucket != "" {
		fmt.Fprintf(w, "data      %s\n", c.Storage.Directory)
	}
	if c.Storage.Catalog != "" {
		fmt.Fprintf(w, "catalog   %s\n", c.Storage.Catalog)
	}
	if c.Cluster.Listen != "" {
		fmt.Fprintf(w, "cluster   %s, other nodes reach this one at %s\n", c.Cluster.Listen, c.Cluster.Address)
	}
	fmt.Fprintf(w, "uploads   %s\n", uploadLimits(c.Uploads))
	fmt.Fprintf(w, "collect   %s\n", collections(c.Collect))
	if c.Audit.Keep > 0 {
		fmt.Fprintf(w, "audit     what was done is known for %s\n", durationText(c.Audit.Keep))
	}
	if c.OIDC.Issuer != "" {
		fmt.Fprintf(w, "sign-in   %s, as %s, %s\n", c.OIDC.Issuer, c.OIDC.ClientID, mapped(c.OIDC))
	}
	if c.Creators != "" {
		fmt.Fprintf(w, "projects  are created by %s\n", either(c.Creators == "everyone", "every user", "administrators"))
	}
	if c.AdminPassword != "" {
		fmt.Fprintln(w, "admin     has a password from the start")
	}
	fmt.Fprintf(w, "default   %s\n\n", cmp.Or(c.DefaultProject, "names without a project are unknown"))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROJECT\tUPSTREAM\tNS\tTTL\tKEEP\tNOTES")
	for _, p := range c.Projects {
		if p.Hosted {
			fmt.Fprintf(table, "%s\t(hosted)\t\t\t\t%s\n", p.Name, strings.Join(hostedNotes(p), ", "))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, strings.Join(p.Remote.Endpoints, ", "), strings.Join(p.Names, ", "),
			durationText(p.TTL), durationText(p.Keep), strings.Join(notes(p), ", "))
	}
	return table.Flush()
}

func limits(s Storage) string {
	most := "as much as the disk holds"
	switch {
	case s.S3.Bucket != "" && s.MaxSize == 0:
		most = "as much as comes"
	case s.MaxShare > 0:
		most = fmt.Sprintf("at most %d%% of the disk", s.MaxShare)
	case s.MaxSize > 0:
		most = "at most " + bytesText(s.MaxSize)
	}
	if s.Floor > 0 {
		most += fmt.Sprintf(", %s always free", bytesText(s.Floor))
	}
	return most
}

func uploadLimits(u Uploads) string {
	var all []string
	for _, limit := range []struct {
		most int64
		of   string
	}{{u.Max, "each"}, {u.MaxProject, "together in a project"}, {u.MaxNode, "all together"}} {
		if limit.most > 0 {
			all = append(all, fmt.Sprintf("at most %s %s", bytesText(limit.most), limit.of))
		}
	}
	if all == nil {
		all = append(all, "as large as the disk lets them")
	}
	return strings.Join(append(all, "thrown away when they rest for "+durationText(u.Idle)), ", ")
}

func collections(c Collect) string {
	what := "what was pushed and nothing has referred to for " + durationText(c.Grace)
	if c.Every == 0 {
		return what + ", only by the command gc"
	}
	return what + ", every " + durationText(c.Every)
}

func mapped(o OIDC) string {
	text := fmt.Sprintf("%d groups with a role", len(o.Groups))
	if o.AdminGroup != "" {
		text += ", group " + o.AdminGroup + " administrates"
	}
	return text
}

// hostedNotes are the notes of a project that people push to.
func hostedNotes(p Project) []string {
	all := []string{"private"}
	if p.Public {
		all[0] = "public"
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
	add(p.Remote.CredentialHelper != "", "credentials by "+p.Remote.CredentialHelper)
	add(p.Remote.Insecure, "TLS NOT VERIFIED")
	add(p.Remote.AllowPrivate, "may be on a private address")
	add(p.Remote.Proxy == "direct", "no proxy")
	add(p.Remote.Proxy != "" && p.Remote.Proxy != "direct", "by a proxy")
	add(p.StaleFor > 0, "stale for "+durationText(p.StaleFor))
	add(len(p.Allow) > 0, fmt.Sprintf("%d allowed", len(p.Allow)))
	add(len(p.Deny) > 0, fmt.Sprintf("%d denied", len(p.Deny)))
	add(len(p.Pin) > 0, fmt.Sprintf("%d pinned", len(p.Pin)))
	add(!strings.Contains(p.Name, "."), "hides a Docker Hub organisation "+p.Name)
	return all
}
