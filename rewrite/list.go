package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"roadstead/registry"
)

// Listed is an image of a list, and the line where it is named first.
type Listed struct {
	Image
	Line int
}

// mostWrong is how many wrong lines of a list an error names.
const mostWrong = 10

// ListImages reads the images that a text names, each once, in the order of the text. It is one of
//
//   - a list with a name on each line, as RKE2 and K3s release theirs (rke2-images.linux-amd64.txt);
//     blank lines and what follows a # are nothing;
//   - YAML documents or JSON: Kubernetes manifests, a List of them, what "helm template" writes, or
//     a list of names. What of them is an image says listing.walk.
//
// An error names the lines that are wrong, the first ten of them; what is right of the text is
// returned beside it.
func ListImages(text []byte) ([]Listed, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // that some editors of Windows begin a file with
	l := listing{seen: map[string]bool{}}
	if names, ok := plainList(text); ok {
		for _, n := range names {
			l.add(n.text, n.line)
		}
	} else if err := l.manifests(text); err != nil {
		return l.images, err
	}
	if l.wrong > mostWrong {
		l.errs = append(l.errs, fmt.Errorf("and %d more lines like that", l.wrong-mostWrong))
	}
	return l.images, errors.Join(l.errs...)
}

// listing is a text being read.
type listing struct {
	images []Listed
	seen   map[string]bool // by their full names
	errs   []error
	wrong  int
}

// add adds the image of a name.
func (l *listing) add(name string, line int) {
	image, err := ParseImage(name)
	if err != nil {
		if l.wrong++; l.wrong <= mostWrong {
			l.errs = append(l.errs, fmt.Errorf("line %d: %w", line, err))
		}
		return
	}
	if full := image.String(); !l.seen[full] {
		l.seen[full] = true
		l.images = append(l.images, Listed{image, line})
	}
}

// named is a line of a plain list.
type named struct {
	text string
	line int
}

// plainList returns the names on the lines of a text, unless it looks like something else: no name
// has a blank in it or ends with a colon, and no document is without any of that.
func plainList(text []byte) (names []named, ok bool) {
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line, _, _ = strings.Cut(line, "#") // which no name has in it
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if strings.ContainsAny(line, " \t{}[]\"'") || strings.HasSuffix(line, ":") || strings.HasPrefix(line, "---") {
			return nil, false
		}
		names = append(names, named{line, number})
	}
	return names, true
}

// errNoManifest is what a text is that is neither.
func errNoManifest(line int, what string) error {
	return fmt.Errorf("line %d: %q is no list of images, one on a line, and no Kubernetes manifest either", line, registry.Clip(what))
}
