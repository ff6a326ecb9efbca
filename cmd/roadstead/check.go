package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Check is the command of that name.
type Check struct {
	settings
}

// Help is the long help.
func (c *Check) Help() string {
	return `Reads the configuration as "serve" would, with the environment expanded and the files that it names read, and touches nothing else: no port, no upstream, no data directory.

Each fault is one line on stderr, "file:line: what is wrong; what to write instead", and the exit status is 1. Without a fault the resulting projects are printed, the built-in ones among them.`
}

// Run reads the configuration and says what it means.
func (c *Check) Run(std streams) error {
	cfg, err := c.load()
	if err != nil {
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
	fmt.Fprintf(w, "admin     %s\n", admin)
	fmt.Fprintf(w, "storage   %s, %s\n", c.Storage.Directory, limits(c.Storage))
	fmt.Fprintf(w, "default   %s\n\n", cmp.Or(c.DefaultProject, "names without a project are unknown"))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROJECT\tUPSTREAM\tNS\tTTL\tKEEP\tNOTES")
	for _, p := range c.Projects {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, strings.Join(p.Remote.Endpoints, ", "), strings.Join(p.Names, ", "),
			durationText(p.TTL), durationText(p.Keep), strings.Join(notes(p), ", "))
	}
	return table.Flush()
}

func limits(s Storage) string {
	most := "as much as the disk holds"
	switch {
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

// notes are what is worth knowing of a project at a glance.
func notes(p Project) []string {
	var all []string
	add := func(yes bool, note string) {
		if yes {
			all = append(all, note)
		}
	}
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
