package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// ConfigImportHarbor is the command of that name.
type ConfigImportHarbor struct {
	URL          string `name:"url" required:"" placeholder:"URL" help:"The Harbor, such as https://harbor.example.com."`
	User         string `short:"u" default:"admin" placeholder:"NAME" help:"Whom it knows: an administrator, or who may read what is wanted. Default: ${default}."`
	PasswordFile string `required:"" placeholder:"FILE" help:"The file that the password is in; \"-\" is stdin."`
	CA           string `name:"ca" placeholder:"FILE" help:"The PEM file of the authority that has signed its certificate, beside the system's."`
	Insecure     bool   `help:"Take any certificate, and send the password by plain HTTP if the URL says so."`
	Output       string `short:"o" placeholder:"FILE" help:"Where to write the configuration. Default: standard output."`
	Commands     string `placeholder:"FILE" help:"Where to write a script that makes users, members and robots, which are in no configuration."`
	Data         string `placeholder:"DIR" help:"Where Harbor's content is on this machine if it is to be taken over: the data_volume of harbor.yml and \"/registry\". Default: a comment says where to write it."`
	Secrets      string `default:"secrets" placeholder:"DIR" help:"The folder of files with passwords that are to be filled in, as the configuration names it: from its own folder on. Default: ${default}."`
	Force        bool   `help:"Write over files that are there."`
}

// Help is the long help.
func (c *ConfigImportHarbor) Help() string {
	return `Reads the API of a Harbor 2 and changes nothing there. The configuration has its projects under their names: proxies with their endpoints, and those that people push to with their quotas, immutable tags and retention. What needs a secret names a file to put it into, because Harbor gives none away, and what there is no counterpart for is a comment. What was read, what is missing and what to do next is said on stderr.

    roadstead config import-harbor --url https://harbor.example.com --password-file admin.password -o roadstead.yaml --commands accounts.sh
    roadstead check --config roadstead.yaml
    roadstead adopt --config roadstead.yaml /data/registry`
}

// Run reads a Harbor and writes files.
func (c *ConfigImportHarbor) Run(std streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if c.Output != "" && filepath.Clean(c.Output) == filepath.Clean(c.Commands) {
		return fmt.Errorf("--output and --commands are both %s; name two files", c.Output)
	}
	if err := c.absent(); err != nil { // before Harbor is asked for minutes
		return err
	}
	h, err := c.open()
	if err != nil {
		return err
	}
	e, err := c.readAll(ctx, std, h)
	if err != nil {
		return err
	}
	t := takeOver(e, c.Secrets)
	text, err := t.configuration(c.Data, false)
	if err != nil {
		return err
	}
	faults, err := t.faults(cmp.Or(c.Output, "roadstead.yaml"), c.Data)
	if err != nil {
		return err
	}
	if err := c.write(std, text, t); err != nil {
		return err
	}
	t.report(std.err, c, faults)
	return nil
}

func (c *ConfigImportHarbor) open() (*harbor, error) {
	var ca []byte
	if c.CA != "" {
		var err error
		if ca, err = readSmall(c.CA); err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
	}
	h, err := openHarbor(c.URL, c.Insecure, ca)
	if err != nil {
		return nil, err
	}
	file := c.PasswordFile
	if file == "-" {
		file = ""
	}
	password, err := secretFrom(file, stdin)
	h.username, h.password = c.User, string(password)
	return h, err
}

// readAll reads everything, and says how far it is.
func (c *ConfigImportHarbor) readAll(ctx context.Context, std streams, h *harbor) (*harborEstate, error) {
	p := newProgress(std, "reading projects", 0, countText)
	e, err := h.read(ctx, func(done, all int) {
		p.SetTotal(int64(all))
		p.Set(int64(done))
	})
	p.End()
	if err != nil {
		return nil, fmt.Errorf("read Harbor: %w", err)
	}
	return e, nil
}

// absent refuses to write over files.
func (c *ConfigImportHarbor) absent() error {
	if c.Force {
		return nil
	}
	var errs []error
	for _, path := range []string{c.Output, c.Commands} {
		if path != "" {
			errs = append(errs, absent(path))
		}
	}
	return errors.Join(errs...)
}

// write writes the configuration and, if they are wanted, the commands: with the names of whom Harbor
// knows in them, neither is for everybody.
func (c *ConfigImportHarbor) write(std streams, text []byte, t *takeover) error {
	if err := c.absent(); err != nil {
		return err
	}
	const mode os.FileMode = 0o600
	if c.Commands != "" {
		if err := writeAside(c.Commands, t.commands(c.Commands), mode); err != nil {
			return fmt.Errorf("write %s: %w", c.Commands, err)
		}
	}
	if c.Output == "" {
		_, err := std.out.Write(text)
		return err
	}
	if err := writeAside(c.Output, string(text), mode); err != nil {
		return fmt.Errorf("write %s: %w", c.Output, err)
	}
	return nil
}
