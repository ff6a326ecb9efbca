package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"roadstead/registry/estate"
	"roadstead/rewrite/clients"
	"roadstead/storage/catalog"
)

// Registries is the command of that name.
type Registries struct {
	onCatalog
	For          string `default:"rke2" placeholder:"CLIENT" help:"rke2 (and K3s), system-default-registry, containerd, talos, crio, docker, podman, buildkit or kaniko."`
	URL          string `name:"url" placeholder:"URL" help:"How clients reach this server, instead of \"url\" of the configuration."`
	Wildcard     bool   `help:"One rule for all registries, by ?ns=, instead of one for each: for rke2, containerd and talos."`
	CA           string `name:"ca" placeholder:"FILE" help:"The file on the clients with the authority of the server's certificate, if it is one of your own."`
	Username     string `placeholder:"NAME" help:"Whom clients sign in as, such as a robot."`
	PasswordFile string `placeholder:"FILE" help:"That one's secret; \"-\" is stdin. It is written into the files."`
	Output       string `short:"o" placeholder:"DIR" help:"Write the files below this directory, instead of all of them to stdout."`
	Force        bool   `help:"Write over files that are there and say something else."`
}

// Help is the long help.
func (c *Registries) Help() string {
	return `What it writes is made of the configuration and, if there is one, of the catalog: the registries that projects stand for, and who may pull from them.

    roadstead registries --url https://mirror.example.com > registries.yaml
    roadstead registries --for docker > /etc/docker/daemon.json
    roadstead registries --for containerd --output /tmp/node`
}

// Run writes the files.
func (c *Registries) Run(std streams) error {
	client, err := clients.Find(c.For)
	if err != nil {
		return err
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	site, err := c.site(cfg)
	if err != nil {
		return err
	}
	files, err := client.Files(site)
	if err != nil {
		return err
	}
	if c.Output != "" {
		return c.write(std, files, site.Password != "")
	}
	return showAll(std, files)
}

// showAll writes files one after the other. JSON has no comments: where the first file is that, stdout is
// it alone, to go into the file, and what there is to know of it and to do beside it is told on stderr.
func showAll(std streams, files []clients.File) error {
	to := std.out
	for i, f := range files {
		if i == 0 && strings.HasSuffix(f.Path, ".json") {
			to = std.err
			if err := show(std.out, to, f); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(to)
		}
		if err := show(to, to, f); err != nil {
			return err
		}
	}
	return nil
}

// show writes a file, and a comment before it that says where it goes and what to know of it.
func show(w, notes io.Writer, f clients.File) error {
	var b strings.Builder
	if f.Path != "" {
		fmt.Fprintf(&b, "# %s\n", f.Path)
	}
	for _, n := range f.Notes {
		fmt.Fprintf(&b, "# %s\n", n.English())
	}
	if _, err := io.WriteString(notes, b.String()); err != nil {
		return err
	}
	_, err := io.WriteString(w, f.Text)
	return err
}

// site is this server as clients have to know it.
func (c *Registries) site(cfg Config) (clients.Site, error) {
	at, err := siteURL(cmp.Or(c.URL, cfg.URL))
	if err != nil {
		return clients.Site{}, err
	}
	if at == nil {
		return clients.Site{}, fmt.Errorf("how clients reach this server is not known: write \"url: https://mirror.example.com\" into %s, or give --url", cmp.Or(cfg.File, "roadstead.yaml"))
	}
	s := clients.Site{URL: at, CA: c.CA, Username: c.Username, Wildcard: c.Wildcard}
	if c.CA != "" && at.Scheme != "https" {
		return clients.Site{}, fmt.Errorf("--ca is for a server with a certificate, and clients reach this one by %s", at)
	}
	if pem, err := readSmall(c.CA); err == nil { // it may be on the clients only
		s.PEM = string(pem)
	}
	if c.PasswordFile != "" {
		if c.Username == "" {
			return clients.Site{}, errors.New("--password-file is the secret of nobody; give --username too")
		}
		file := c.PasswordFile
		if file == "-" {
			file = ""
		}
		password, err := secretFrom(file, stdin)
		if err != nil {
			return clients.Site{}, err
		}
		s.Password = string(password)
	}
	var h holding
	if hasCatalog(cfg.Storage) {
		err := c.with(func(ctx context.Context, _ Config, data *Data) (err error) {
			h, err = readHolding(ctx, data.Catalog)
			return err
		})
		if err != nil {
			return clients.Site{}, err
		}
	}
	return h.site(cfg, s)
}

// siteURL reads how a server is reached: scheme and host. Nil: nobody said.
func siteURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || !host.MatchString(strings.ToLower(u.Host)) || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("--url is not the URL of a server; write scheme and host, such as https://mirror.example.com")
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}

// site adds the projects that a server would serve to what clients are told of it.
func (h holding) site(cfg Config, s clients.Site) (clients.Site, error) {
	sealed := func(r catalog.Registry) (Secret, error) { return Secret(r.Password), nil } // it is not looked at
	h = h.fit(cfg, sealed, func(Project) error { return nil })
	served, err := h.over(cfg, sealed)
	if err != nil {
		return clients.Site{}, err
	}
	hosted := served.hosted()
	for _, row := range h.beside(cfg) {
		if !slices.ContainsFunc(hosted, func(p catalog.Project) bool { return p.Name == row.Name }) {
			hosted = append(hosted, row)
		}
	}
	table, err := newTable(served, hosted)
	if err != nil {
		return clients.Site{}, err
	}
	s.Default = table.Default(s.URL.Host)
	for _, p := range served.proxies() {
		one := clients.Project{Name: p.Name, Private: !p.Public, Names: table.Names(p.Name), Prefix: p.Remote.Prefix}
		if len(p.Remote.Endpoints) > 0 {
			one.Host = estate.HostOf(p.Remote.Endpoints[0])
		}
		s.Projects = append(s.Projects, one)
	}
	for _, p := range hosted {
		s.Projects = append(s.Projects, clients.Project{Name: p.Name, Private: !p.Public, Hosted: true})
	}
	slices.SortFunc(s.Projects, func(a, b clients.Project) int { return cmp.Compare(a.Name, b.Name) })
	return s, nil
}

// write writes files below a directory, or none of them: what is there already stays, unless it says
// the same or is not wanted any more. What is to be typed goes to stdout.
func (c *Registries) write(std streams, files []clients.File, secret bool) error {
	mode := os.FileMode(0o644)
	if secret {
		mode = 0o600
	}
	var errs []error
	for _, f := range files {
		path := filepath.Join(c.Output, f.Path)
		old, err := os.ReadFile(path)
		switch {
		case f.Path == "" || c.Force || errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case string(old) != f.Text:
			errs = append(errs, fmt.Errorf("%s is there and says something else: merge it by hand, or give --force", path))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, f := range files {
		if f.Path == "" {
			if err := show(std.out, std.out, f); err != nil {
				return err
			}
			continue
		}
		path := filepath.Join(c.Output, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make the folder of a file: %w", err)
		}
		if err := writeAside(path, f.Text, mode); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		fmt.Fprintf(std.err, "wrote %s\n", path)
		for _, n := range f.Notes {
			fmt.Fprintf(std.err, "  %s\n", n.English())
		}
	}
	return nil
}

// writeAside has a file be there whole or not at all: a daemon may be reading it.
func writeAside(path, text string, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
