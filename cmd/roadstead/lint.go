package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"roadstead/rewrite/registries"
)

// Lint is the command of that name.
type Lint struct {
	onDirectory
	Files      []string `arg:"" name:"file" help:"A registries.yaml, or \"-\" for standard input."`
	Server     []string `sep:"none" placeholder:"URL" help:"How nodes know this server, such as https://mirror.example.com:5000, beside \"url\" in the configuration. Without either every endpoint may be it that is none of the registries cached here, and what is found by that guess is a note. Can be given again."`
	NoProjects bool     `help:"Say nothing of the projects that a rewrite leads to: read neither configuration nor catalog."`
	JSON       bool     `help:"A list of JSON objects."`
}

// Help is the long help.
func (c *Lint) Help() string {
	return `Finds what will not do what was meant in the registries.yaml of K3s and RKE2: rules whose order matters and that have none, backslashes that hosts.toml does not survive, rewrites that are lost or climb out of /v2, credentials that nobody looks for, projects that are not here.

Each finding is one line, "file:line: what (why); write …". One that begins with "note:" is worth knowing and breaks nothing. The exit status is 1 when any finding breaks pulls, and 0 otherwise.

    roadstead lint /etc/rancher/rke2/registries.yaml
    kubectl … | roadstead lint --no-projects -`
}

// fileFinding is a finding and the file that it is in.
type fileFinding struct {
	File string `json:"file"`
	registries.Finding
}

// Run looks at all files.
func (c *Lint) Run(std streams) error {
	// What is read may be a pipe into which nobody writes. Nothing is open until then that a signal would
	// leave behind, so it ends the process as it is.
	texts := make([][]byte, len(c.Files))
	for i, name := range c.Files {
		var err error
		if texts[i], err = readRegistries(name); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var house registries.House
	if !c.NoProjects {
		v, err := c.look(ctx)
		if err != nil {
			return err
		}
		defer v.Close()
		house = v.house(ctx, c.Server)
	}
	all := []fileFinding{}
	var breaking int
	for i, name := range c.Files {
		some, err := lintText(ctx, texts[i], house)
		if err != nil {
			return err
		}
		for _, f := range some {
			all = append(all, fileFinding{name, f})
			if f.Breaks {
				breaking++
			}
		}
	}
	if err := c.print(std.out, all); err != nil {
		return err
	}
	if breaking > 0 {
		return fmt.Errorf("%d of %d findings break pulls", breaking, len(all))
	}
	return nil
}

// lintText are the findings of a file, whatever is in it.
func lintText(ctx context.Context, text []byte, house registries.House) ([]registries.Finding, error) {
	f, err := registries.Parse(text)
	if syntax, ok := errors.AsType[*registries.SyntaxError](err); ok {
		return []registries.Finding{{Line: syntax.Line, Rule: "syntax", Breaks: true, What: "this is no YAML: " + syntax.What,
			Why: "K3s and RKE2 cannot read the file and do not start", Instead: "YAML, with a backslash in single quotes only"}}, nil
	}
	return registries.Lint(ctx, f, house)
}

func (c *Lint) print(w io.Writer, all []fileFinding) error {
	if c.JSON {
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(all)
	}
	for _, f := range all {
		if _, err := fmt.Fprintf(w, "%s:%d: %s%s\n", f.File, f.Line, either(f.Breaks, "", "note: "), f.Finding); err != nil {
			return err
		}
	}
	return nil
}

// readRegistries reads a file, or standard input.
func readRegistries(name string) ([]byte, error) {
	if name != "-" {
		return readSmall(name)
	}
	text, err := io.ReadAll(io.LimitReader(stdin, registries.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return text, nil
}
