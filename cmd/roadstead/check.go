package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
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
	fmt.Fprintf(w, "default   %s\n", cmp.Or(c.DefaultProject, "names without a project are unknown"))
	for _, host := range slices.Sorted(maps.Keys(c.Hosts)) {
		fmt.Fprintf(w, "host      %s is project %s\n", host, c.Hosts[host])
	}
	if len(c.PrivateNetworks) > 0 {
		fmt.Fprintf(w, "private   upstreams may be in %s\n", joined(c.PrivateNetworks))
	}
	if err := writePlans(w, c); err != nil {
		return err
	}
	fmt.Fprintln(w)
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
