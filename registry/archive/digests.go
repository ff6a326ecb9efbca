package archive

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"roadstead/registry"
)

// Carried is a line of what an archive has carried to the other side: "sha256:… 1234 docker.io/…".
type Carried struct {
	Digest registry.Digest
	Size   int64
	Name   string // of an image that has it
}

// WriteCarried writes such lines.
func WriteCarried(w io.Writer, all []Carried) error {
	out := bufio.NewWriter(w)
	for _, c := range all {
		fmt.Fprintf(out, "%s %d %s\n", c.Digest, c.Size, c.Name)
	}
	return out.Flush()
}

// ReadCarried reads them. Empty lines and those that begin with '#' are passed over.
func ReadCarried(r io.Reader) ([]Carried, error) {
	var all []Carried
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		words := strings.Fields(text)
		d, err := registry.ParseDigest(words[0])
		if err != nil || len(words) < 2 {
			return nil, fmt.Errorf("line %d is not \"digest size name\": %q", n, registry.Clip(text))
		}
		size, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("line %d: %q is no size", n, registry.Clip(words[1]))
		}
		all = append(all, Carried{d, size, strings.Join(words[2:], " ")})
	}
	return all, lines.Err()
}
