package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"roadstead/rewrite"
)

// mostText bounds a list. What helm renders of a large application with its custom resources has some
// ten megabytes.
const mostText = 64 << 20

// list reads the names of all images there are on the command line, in files and in charts, each once.
func (w *Warm) list(stdin io.Reader) ([]rewrite.Listed, error) {
	var all []rewrite.Listed
	seen := map[string]bool{}
	add := func(from string, text []byte) error {
		listed, err := rewrite.ListImages(text)
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		if len(listed) == 0 {
			return fmt.Errorf("%s names no image; write one name on a line, or Kubernetes manifests", from)
		}
		for _, one := range listed {
			if name := one.String(); !seen[name] {
				seen[name] = true
				all = append(all, one)
			}
		}
		return nil
	}
	for _, from := range w.sources() {
		text, err := from.read(stdin, w.Values)
		if err == nil {
			err = add(from.from, text)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New(`no image is named; write some, or "--file FILE", or "-" for a list on stdin`)
	}
	return all, nil
}

// listSource is where names are.
type listSource struct {
	from  string // for messages
	name  string // an image
	file  string // a list; "-": stdin
	chart string // a directory or an archive
}

func (w *Warm) sources() []listSource {
	var all []listSource
	for _, arg := range w.Images {
		switch {
		case arg == "-":
			all = append(all, listSource{from: "stdin", file: arg})
		case isChart(arg):
			all = append(all, listSource{from: "chart " + arg, chart: arg})
		default:
			all = append(all, listSource{from: "the command line", name: arg})
		}
	}
	for _, file := range w.File {
		if isChart(file) {
			all = append(all, listSource{from: "chart " + file, chart: file})
			continue
		}
		all = append(all, listSource{from: either(file == "-", "stdin", file), file: file})
	}
	return all
}

// isChart reports whether a path leads to a Helm chart. No name of an image does.
func isChart(path string) bool {
	if strings.HasSuffix(path, ".tgz") {
		return exists(filepath.Dir(path), filepath.Base(path))
	}
	return exists(path, "Chart.yaml")
}

func (s listSource) read(stdin io.Reader, values []string) ([]byte, error) {
	switch {
	case s.name != "":
		return []byte(s.name), nil
	case s.chart != "":
		return render(s.chart, values)
	case s.file == "-":
		return readText("stdin", stdin)
	}
	f, err := os.Open(s.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readText(s.file, f)
}

func readText(from string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostText+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", from, err)
	}
	if len(text) > mostText {
		return nil, fmt.Errorf("%s is longer than %s, which no list is", from, bytesText(mostText))
	}
	return text, nil
}

// render has helm write the manifests of a chart.
func render(chart string, values []string) ([]byte, error) {
	helm, err := exec.LookPath("helm")
	if err != nil {
		return nil, fmt.Errorf("%s is a Helm chart, and there is no helm here to render it; install it, or render the chart elsewhere: helm template CHART | roadstead warm -", chart)
	}
	args := []string{"template", "--include-crds", "images", chart}
	for _, file := range values {
		args = append(args, "--values", file)
	}
	var out, said bytes.Buffer
	cmd := exec.Command(helm, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("helm template %s: %s", chart, cmp.Or(strings.TrimSpace(said.String()), err.Error()))
	}
	return out.Bytes(), nil
}
