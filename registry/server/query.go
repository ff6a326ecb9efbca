package server

import (
	"iter"
	"net/url"
	"strconv"
	"strings"

	"roadstead/registry"
)

// maxQuery is the longest query that is read, in bytes. The longest one of a real client has
// a host, a tag and an artifact type, less than 600 bytes together (FAULTS D4).
const maxQuery = 4 << 10

// params yields the values of a query parameter that may be given several times.
func params(query, key string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for query != "" {
			var pair string
			pair, query, _ = strings.Cut(query, "&")
			if value, given := param(pair, key); given && !yield(value) {
				return
			}
		}
	}
}

// param returns the first value of a query parameter. url.ParseQuery makes a map of all of
// them, which costs more than the rest of reading a request.
func param(query, key string) (value string, given bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		k, v, _ := strings.Cut(pair, "=")
		if k != key {
			continue
		}
		if strings.ContainsAny(v, "%+") {
			if plain, err := url.QueryUnescape(v); err == nil {
				v = plain
			}
		}
		return v, true
	}
	return "", false
}

// page is the part of a list that is asked for: n entries after one of them.
type page struct {
	after string
	n     int
}

// pageOf reads "n" and "last" (OCI distribution specification 1.1, "Listing Tags"). A page
// has no more than registry.MaxPage entries, whatever n is, and that many without an n
// (FAULTS B3).
func pageOf(query string) (page, error) {
	p := page{n: registry.MaxPage}
	p.after, _ = param(query, "last")
	n, given := param(query, "n")
	if !given || n == "" {
		return p, nil
	}
	if strings.Trim(n, "0123456789") != "" {
		return p, invalid(registry.PaginationInvalid, "n is not a number from 0")
	}
	// Digits that do not fit are a large number still.
	if v, err := strconv.Atoi(n); err == nil && v < p.n {
		p.n = v
	}
	return p, nil
}

// cut shortens a list that was asked for with one entry more than the page has, and returns
// the entry that the next page begins after, "" when there is no next page.
func (p page) cut(list []string) (shown []string, next string) {
	if list == nil {
		list = []string{} // JSON has "null" for nil, which some clients do not take for a list
	}
	if p.n == 0 {
		return list[:0], "" // a link would lead here again ("Listing Tags": MUST NOT)
	}
	if len(list) > p.n {
		return list[:p.n], list[p.n-1]
	}
	// A registry may cap what it returns at MaxPage, and then one more never comes. A link
	// to an empty page costs a request; a missing one hides tags.
	if len(list) == registry.MaxPage {
		return list, list[len(list)-1]
	}
	return list, ""
}

// link is the Link header to the next page. It is relative, so that no Host header gets into
// it, and keeps ns, which decides what the name means.
func (p page) link(path, next, query string) string {
	values := url.Values{"n": {strconv.Itoa(p.n)}, "last": {next}}
	if ns, given := param(query, "ns"); given {
		values.Set("ns", ns)
	}
	return "<" + path + "?" + values.Encode() + `>; rel="next"`
}
