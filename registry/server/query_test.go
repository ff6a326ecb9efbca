package server

import (
	"slices"
	"strconv"
	"testing"

	"roadstead/registry"
)

func TestParam(t *testing.T) {
	tests := []struct {
		name, query, want string
		given             bool
	}{
		{name: "none", query: ""},
		{name: "others", query: "n=1&nsx=2&xns=3"},
		{name: "alone", query: "ns=docker.io", want: "docker.io", given: true},
		{name: "between others", query: "a=b&ns=quay.io&c", want: "quay.io", given: true},
		{name: "encoded port", query: "ns=localhost%3A5999", want: "localhost:5999", given: true},
		{name: "plus", query: "ns=a+b", want: "a b", given: true},
		{name: "bad escape", query: "ns=%zz", want: "%zz", given: true},
		{name: "empty", query: "ns=", given: true},
		{name: "no value", query: "ns", given: true},
		{name: "the first of two", query: "ns=a&ns=b", want: "a", given: true},
		{name: "value with an equals sign", query: "ns=a=b", want: "a=b", given: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, given := param(test.query, "ns"); got != test.want || given != test.given {
				t.Errorf("got %q, %v, want %q, %v", got, given, test.want, test.given)
			}
		})
	}
}

func TestB3_PageOf(t *testing.T) {
	tests := []struct {
		name, query string
		want        page
		code        registry.Code
	}{
		{name: "nothing said", query: "", want: page{n: 1000}},
		{name: "both", query: "n=10&last=a", want: page{after: "a", n: 10}},
		{name: "none wanted", query: "n=0", want: page{n: 0}},
		{name: "too many", query: "n=2147483647", want: page{n: 1000}},
		{name: "more than there are numbers", query: "n=99999999999999999999999", want: page{n: 1000}},
		{name: "empty", query: "n=", want: page{n: 1000}},
		{name: "negative", query: "n=-1", code: registry.PaginationInvalid},
		{name: "no number", query: "n=ten", code: registry.PaginationInvalid},
		{name: "hexadecimal", query: "n=0x10", code: registry.PaginationInvalid},
		{name: "fraction", query: "n=1.5", code: registry.PaginationInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := pageOf(test.query)
			if code := codeIn(err); code != test.code {
				t.Fatalf("error %v, want %q", err, test.code)
			}
			if err == nil && got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestPageCut(t *testing.T) {
	many := make([]string, registry.MaxPage+1)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	tests := []struct {
		name  string
		n     int
		list  []string
		shown int
		next  string
	}{
		{name: "nothing there", n: 10, list: nil},
		{name: "fewer than the page has", n: 10, list: many[:3], shown: 3},
		{name: "as many as the page has", n: 3, list: many[:3], shown: 3},
		{name: "one more than the page has", n: 3, list: many[:4], shown: 3, next: "2"},
		{name: "none wanted", n: 0, list: many[:1]},
		{name: "largest page and more", n: registry.MaxPage, list: many, shown: registry.MaxPage, next: "999"},
		{name: "largest page of a registry that gives no more", n: registry.MaxPage, list: many[:registry.MaxPage], shown: registry.MaxPage, next: "999"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shown, next := page{n: test.n}.cut(test.list)
			if shown == nil || !slices.Equal(shown, test.list[:test.shown]) || next != test.next {
				t.Errorf("shown %v (nil: %v), next %q; want %d entries, next %q", len(shown), shown == nil, next, test.shown, test.next)
			}
		})
	}
}

func TestLinkKeepsTheNamespace(t *testing.T) {
	got := page{n: 2}.link("/v2/a/tags/list", "v1&x", "n=2&ns=localhost%3A5999&last=v0")
	want := `</v2/a/tags/list?last=v1%26x&n=2&ns=localhost%3A5999>; rel="next"`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
