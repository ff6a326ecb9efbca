// Command roadstead is a self-hosted registry that caches other registries.
//
// Here live the subcommands, the YAML configuration and the wiring: everything that knows
// which rooms there are. Nothing here knows how one of them does its work, and nobody imports
// this package.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// commands are what roadstead can be told to do. There is no default one: a server that
// appears because an argument was forgotten surprises more people than a help text.
type commands struct {
	Serve       Serve       `cmd:"" help:"Run the registry."`
	Check       Check       `cmd:"" help:"Say everything that is wrong in the configuration, or what it means."`
	Config      Configs     `cmd:"" help:"Write what is in force, or what a Harbor has, as a configuration file."`
	Registries  Registries  `cmd:"" help:"Write what RKE2, containerd, Docker and other clients are configured by."`
	Adopt       Adopt       `cmd:"" help:"Take over the content of a distribution or Harbor registry, in place."`
	Migrate     Migrate     `cmd:"" help:"Move what a single node has to a bucket and PostgreSQL, for several nodes."`
	Backup      Backup      `cmd:"" help:"Copy what makes this registry this one: catalog, keys, configuration and what was pushed."`
	Export      Export      `cmd:"" help:"Write images into an archive, for where no registry can be asked."`
	Import      Import      `cmd:"" help:"Take images out of archives, such as those of an RKE2 release."`
	Scrub       Scrub       `cmd:"" help:"Read all stored content again and set aside what is damaged."`
	Policy      Policies    `cmd:"" help:"Overrule what proxies make of signatures and of tags that move."`
	Evict       Evict       `cmd:"" help:"Make room now, by the rules of the configuration."`
	GC          GC          `cmd:"" name:"gc" help:"Collect what was pushed and nothing refers to."`
	Project     Projects    `cmd:"" help:"Make, change and remove projects that people push to, and say who may do what there."`
	User        Users       `cmd:"" help:"Add, change and remove accounts of people."`
	Robot       Robots      `cmd:"" help:"Add, change and remove accounts of machines."`
	Secret      Secrets     `cmd:"" help:"Store what the server has to know to log in elsewhere."`
	Explain     Explain     `cmd:"" help:"Say hop by hop what becomes of an image: which endpoint is asked for what, and what is here of it."`
	Lint        Lint        `cmd:"" help:"Find what will not do what was meant in the registries.yaml of K3s and RKE2."`
	Audit       Audit       `cmd:"" help:"List who did what."`
	Warm        Warm        `cmd:"" help:"Have the running server fetch images before anybody pulls them."`
	Healthcheck Healthcheck `cmd:"" help:"Ask the running server whether it is ready."`
	Version     Version     `cmd:"" help:"Print the version."`
}

const description = `Roadstead caches other registries: docker.io, quay.io, ghcr.io and the like each appear as a project named after them, and what was pulled once is served from here. Beside them are projects that people push to.

Try it with no configuration at all:

    roadstead serve
    docker pull localhost:5000/docker.io/library/busybox`

// Exit statuses beside 0.
const (
	exitTrouble = 1 // something went wrong, or was found to be wrong
	exitUsage   = 2 // the command line was not understood
)

// streams are where a command writes: its results to out, what it says on the way to err.
type streams struct{ out, err io.Writer }

func main() {
	os.Exit(run(os.Args[1:], streams{os.Stdout, os.Stderr}))
}

// run does what the arguments say and returns the exit status.
func run(args []string, std streams) int {
	status := -1
	parser, err := kong.New(&commands{},
		kong.Name("roadstead"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { status = code }),
		kong.Bind(std),
	)
	if err != nil {
		fmt.Fprintf(std.err, "roadstead: %v\n", err)
		return exitUsage
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help":
		args = append(slices.Clone(args[1:]), "--help")
	}
	command, err := parser.Parse(args)
	if status >= 0 { // --help has been printed
		return status
	}
	if err != nil {
		fmt.Fprintf(std.err, "roadstead: %v; \"roadstead --help\" lists the commands, \"roadstead COMMAND --help\" the flags of one\n", err)
		return exitUsage
	}
	if err := command.Run(); err != nil {
		report(std.err, err)
		return exitTrouble
	}
	return 0
}

// report prints an error as the last line of a command, or as several when it is several.
func report(w io.Writer, err error) {
	if faults, ok := errors.AsType[faultsError](err); ok {
		for _, f := range faults.faults {
			fmt.Fprintln(w, f)
		}
	}
	fmt.Fprintf(w, "roadstead: %s\n", strings.TrimSpace(err.Error()))
}

// faultsError is a configuration that cannot be used.
type faultsError struct {
	file   string
	faults []Fault
}

func (e faultsError) Error() string {
	if len(e.faults) == 1 {
		return fmt.Sprintf("1 fault in %s", e.file)
	}
	return fmt.Sprintf("%d faults in %s", len(e.faults), e.file)
}

// settings are the flags that say which configuration holds. They are part of every command
// that needs one.
type settings struct {
	Config string `short:"c" env:"ROADSTEAD_CONFIG" placeholder:"FILE" help:"The configuration file. Default: ./roadstead.yaml, else /etc/roadstead/roadstead.yaml, else the built-in configuration."`
}

// load returns a configuration without faults.
func (s settings) load() (Config, error) {
	c, faults, err := loadConfig(s.Config)
	if err != nil {
		return Config{}, err
	}
	if len(faults) > 0 {
		return Config{}, faultsError{faults[0].File, faults}
	}
	return c, nil
}

// onDirectory are the settings of commands that work on a data directory.
type onDirectory struct {
	settings
	Data string `placeholder:"DIR" help:"The data directory, instead of \"storage.directory\" of the configuration (./data)."`
}

// load returns the configuration with the flag over it.
func (s onDirectory) load() (Config, error) {
	cfg, err := s.settings.load()
	if err != nil {
		return Config{}, err
	}
	if s.Data != "" {
		cfg.Storage.Directory = s.Data
	}
	cfg.Storage.Directory, err = filepath.Abs(cfg.Storage.Directory)
	return cfg, err
}
