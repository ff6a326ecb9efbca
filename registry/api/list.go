package api

import (
	"bufio"
	"bytes"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"roadstead/registry"
)

const (
	pageSize    = 10
	maxPageSize = 100

	// maxAll is how many are listed at once to whoever asks for all.
	maxAll = 10_000
)

// page is the part of a list that is asked for.
type page struct {
	number int // 1 is the first
	size   int // 0: all, up to maxAll
}

func (c *call) page() (page, error) {
	query := c.r.URL.Query()
	read := func(name string, otherwise int) (int, error) {
		text := query.Get(name)
		if text == "" {
			return otherwise, nil
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 1<<30 {
			return 0, invalid("%s is a number from 0 on, and not %q", name, registry.Clip(text))
		}
		return n, nil
	}
	size, err := read("page_size", pageSize)
	if err != nil {
		return page{}, err
	}
	number, err := read("page", 1)
	if err != nil {
		return page{}, err
	}
	if size > maxPageSize {
		return page{}, invalid("page_size is at most %d; page=0 and page_size=0 are for all", maxPageSize)
	}
	return page{max(number, 1), size}, nil
}

// limit is how many there are on the page.
func (p page) limit() int {
	if p.size == 0 {
		return maxAll
	}
	return p.size
}

// offset is how many come before it.
func (p page) offset() int { return (p.number - 1) * p.limit() }

// list answers with a page of a list that is longer than that. Past its end there is an empty one.
func list[T any](c *call, p page, items []T, total int) error {
	c.count(p, total)
	if items == nil {
		items = []T{}
	}
	return c.ok(items)
}

// stream is list of what is too large to be in memory together.
func (c *call) stream(p page, total int, items iter.Seq2[any, error]) error {
	c.count(p, total)
	w, separator := bufio.NewWriter(c.w), "["
	for item, err := range items {
		var text []byte
		if err == nil {
			text, err = encode(item)
		}
		if err != nil {
			c.log.Error("list ends early", "path", c.r.URL.Path, "err", err)
			panic(http.ErrAbortHandler) // the client must not take it for whole
		}
		_, _ = w.WriteString(separator)
		if _, err := w.Write(bytes.TrimSuffix(text, []byte("\n"))); err != nil {
			return nil // the client is gone
		}
		separator = ","
	}
	if separator == "[" {
		_, _ = w.WriteString(separator)
	}
	_, _ = w.WriteString("]\n")
	_ = w.Flush()
	return nil
}

// count says how many there are in all, and where the pages beside this one are.
func (c *call) count(p page, total int) {
	h := c.w.Header()
	h.Set("X-Total-Count", strconv.Itoa(total))
	var links []string
	link := func(number int, rel string) {
		query := c.r.URL.Query()
		query.Set("page", strconv.Itoa(number))
		query.Set("page_size", strconv.Itoa(p.limit()))
		links = append(links, fmt.Sprintf("<%s?%s>; rel=%q", c.r.URL.EscapedPath(), query.Encode(), rel))
	}
	if p.size > 0 && p.number > 1 && total > 0 {
		link(p.number-1, "prev")
	}
	if p.size > 0 && p.offset()+p.size < total {
		link(p.number+1, "next")
	}
	if links != nil {
		h.Set("Link", strings.Join(links, ", "))
	}
}

// cut answers with a page of a list that is here as a whole.
func cut[T any](c *call, all []T) error {
	p, err := c.page()
	if err != nil {
		return err
	}
	from := min(p.offset(), len(all))
	return list(c, p, all[from:min(from+p.limit(), len(all))], len(all))
}

// order sorts a list by what the client asks for, out of what it may be sorted by.
func order[T any](c *call, all []T, by map[string]func(a, b T) int) error {
	text := c.r.URL.Query().Get("sort")
	if text == "" {
		return nil
	}
	var compare []func(a, b T) int
	for key := range strings.SplitSeq(text, ",") {
		name, descending := strings.CutPrefix(strings.TrimSpace(key), "-")
		fn := by[name]
		if fn == nil {
			return invalid("this cannot be sorted by %q", registry.Clip(name))
		}
		if descending {
			compare = append(compare, func(a, b T) int { return fn(b, a) })
		} else {
			compare = append(compare, fn)
		}
	}
	slices.SortStableFunc(all, func(a, b T) int {
		for _, fn := range compare {
			if n := fn(a, b); n != 0 {
				return n
			}
		}
		return 0
	})
	return nil
}

// filter is the q of a request: what has to be said of each thing that is listed.
type filter map[string]term

// term is what is said of one property.
type term struct {
	kind   byte // '=' is the value, '~' has it as a part, '{' is one of them, '(' all of them, '[' lies between
	values []string
}

// maxFilter bounds the work of a filter.
const maxFilter = 4 << 10

// filter reads q, in Harbor's language: k=v, k=~v, k={a b}, k=(a b), k=[from~to], joined by commas.
// Of names, case and underscores do not matter, as some clients write ProjectID.
func (c *call) filter(properties ...string) (filter, error) {
	text := c.r.URL.Query().Get("q")
	if len(text) > maxFilter {
		return nil, invalid("q is longer than %d bytes", maxFilter)
	}
	if strings.Contains(text, "%") { // it was escaped twice
		if plain, err := url.QueryUnescape(text); err == nil {
			text = plain
		}
	}
	f := filter{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, invalid("%q in q is nothing to look for: write name=value or name=~part", registry.Clip(part))
		}
		name = folded(name)
		if !slices.ContainsFunc(properties, func(p string) bool { return folded(p) == name }) {
			return nil, invalid("this cannot be looked for by %q: take one of %s", registry.Clip(name), strings.Join(properties, ", "))
		}
		t, err := parseTerm(strings.TrimSpace(value))
		if err != nil {
			return nil, err
		}
		f[name] = t
	}
	return f, nil
}

func folded(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(name), "_", ""))
}

func parseTerm(text string) (term, error) {
	unquoted := func(s string) string { return strings.Trim(s, `"'`) }
	if rest, ok := strings.CutPrefix(text, "~"); ok {
		return term{'~', []string{unquoted(rest)}}, nil
	}
	if text == "" {
		return term{'=', []string{""}}, nil
	}
	closing := map[byte]string{'[': "]", '{': "}", '(': ")"}[text[0]]
	if closing == "" {
		return term{'=', []string{unquoted(text)}}, nil
	}
	inner, ok := strings.CutSuffix(text[1:], closing)
	if !ok {
		return term{}, invalid("%q in q does not end in %s", registry.Clip(text), closing)
	}
	if text[0] == '[' {
		from, to, ok := strings.Cut(inner, "~")
		if !ok {
			return term{}, invalid("%q in q is no range: write [from~to]", registry.Clip(text))
		}
		return term{'[', []string{strings.TrimSpace(from), strings.TrimSpace(to)}}, nil
	}
	t := term{kind: text[0]}
	for _, value := range strings.Fields(inner) {
		t.values = append(t.values, unquoted(value))
	}
	return t, nil
}

// is returns the one value that a property has to have, or "".
func (f filter) is(property string) string {
	t := f[folded(property)]
	if len(t.values) == 1 && t.kind != '~' {
		return t.values[0]
	}
	return ""
}

// has returns what a property has to have in it, or "".
func (f filter) has(property string) string {
	t := f[folded(property)]
	if len(t.values) == 1 {
		return t.values[0]
	}
	return ""
}

// part returns what a property has to have in it beside others, or "".
func (f filter) part(property string) string {
	if f[folded(property)].kind == '~' {
		return f.has(property)
	}
	return ""
}

// fits reports whether a property with a value is as the filter says.
func (f filter) fits(property, value string) bool {
	t, ok := f[folded(property)]
	if !ok {
		return true
	}
	switch t.kind {
	case '~':
		return strings.Contains(strings.ToLower(value), strings.ToLower(t.values[0]))
	case '[':
		return (t.values[0] == "" || compare(value, t.values[0]) >= 0) && (t.values[1] == "" || compare(value, t.values[1]) <= 0)
	case '(':
		return !slices.ContainsFunc(t.values, func(v string) bool { return v != value })
	}
	return slices.Contains(t.values, value)
}

// compare orders numbers by how large they are and everything else, times too, as text.
func compare(a, b string) int {
	x, errX := strconv.ParseInt(a, 10, 64)
	y, errY := strconv.ParseInt(b, 10, 64)
	if errX != nil || errY != nil {
		return strings.Compare(a, b)
	}
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
