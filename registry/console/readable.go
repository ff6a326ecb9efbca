package console

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"unicode/utf8"

	"roadstead/registry"
)

const (
	// maxReadable is how much of a manifest is shown, in bytes. An index of forty platforms with all its
	// annotations is a tenth of that; who wants to read more pulls it.
	maxReadable = 256 << 10

	// maxValue is how much of one annotation or label is shown, in bytes. The largest that mean something
	// are certificates with their chains, of some KiB.
	maxValue = 16 << 10

	// maxCommand is how much is shown beside a layer of the command that made it, in bytes. All of it
	// is in the history; beside layers it is there once for each that has the digest, which may be
	// thousands.
	maxCommand = 1 << 10

	// maxPage is the longest page, in bytes: each is made in memory before it is sent. A full list of a
	// hundred rows has some hundred KiB.
	maxPage = 8 << 20
)

// errPage is a page that would be longer than maxPage: what it shows is somebody's word, and at times
// a hostile one (FAULTS C8).
var errPage error = &registry.Fault{Code: registry.TooLarge, Message: "the page would be longer than 8 MiB: ask the REST API for what it shows, or pull it"}

// sheet is a page that is being made.
type sheet struct{ text bytes.Buffer }

// Write takes more of it, up to maxPage.
func (s *sheet) Write(p []byte) (int, error) {
	if s.text.Len()+len(p) > maxPage {
		return 0, errPage
	}
	return s.text.Write(p)
}

// readable is JSON to be read, or the text as it is where there would be too much to read: each step of
// nesting moves all that is in it, so that a small text becomes one of its square.
func readable(text []byte) string {
	if !json.Valid(text) || indented(text) > maxReadable {
		return clip(string(text), maxReadable)
	}
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return clip(string(text), maxReadable)
	}
	return b.String()
}

// indented is about how long valid JSON becomes by json.Indent, and at least that.
func indented(text []byte) int {
	size, depth, quoted, escaped := len(text), 0, false, false
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
			size += 1 + 2*depth
		case c == '}' || c == ']':
			depth--
			size += 1 + 2*depth
		case c == ',':
			size += 1 + 2*depth
		case c == ':':
			size++
		}
	}
	return size
}

// clip cuts a text to some bytes, between two characters, and shows that.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

// pair is an annotation or a label: its author's word.
type pair struct{ Name, Value string }

// pairs are those that are shown, in their order: as many as there is room for.
func pairs(all map[string]string) []pair {
	var list []pair
	room := maxReadable
	for _, name := range slices.Sorted(maps.Keys(all)) {
		one := pair{clip(name, maxValue), clip(all[name], maxValue)}
		if room -= len(one.Name) + len(one.Value); room < 0 {
			return append(list, pair{Name: "…"})
		}
		list = append(list, one)
	}
	return list
}
