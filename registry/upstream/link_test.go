package upstream

import (
	"strings"
	"testing"
)

func TestNextLink(t *testing.T) {
	for _, row := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"none", nil, ""},
		{"distribution", []string{`</v2/a/tags/list?last=b&n=2>; rel="next"`}, "/v2/a/tags/list?last=b&n=2"},
		{"without quotes", []string{`</x>;rel=next`}, "/x"},
		{"among others", []string{`</p>; rel="prev", </x>; title="a, b; c"; rel="first NEXT"`}, "/x"},
		{"in the second field", []string{`</p>; rel="prev"`, `</x>; rel="next"`}, "/x"},
		{"a comma in the target", []string{`</x?a=1,2;b>; rel="next"`}, "/x?a=1,2;b"},
		{"the first rel counts", []string{`</x>; rel="prev"; rel="next"`}, ""},
		{"empty parameters and elements", []string{`, </x>; ; rel="next" ,`}, "/x"},
		{"an empty target", []string{`<>; rel="next"`}, ""},
		{"no rel", []string{`</x>`}, ""},
		{"no brackets", []string{`/x; rel="next"`}, ""},
		{"an open bracket", []string{`</x; rel="next"`}, ""},
		{"an open string", []string{`</x>; rel="next`}, ""},
		{"rubbish between", []string{`</x>; rel="prev" ? </y>; rel="next"`}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := nextLink(row.fields); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// FuzzLinks reads anything, and finds a link that is put before it.
func FuzzLinks(f *testing.F) {
	for _, seed := range []string{`</v2/a/tags/list?last=b&n=2>; rel="next"`, `</p>; rel="prev", </x>; title="a, b"`, `<;>;;=`, `<>;rel`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		if target := nextLink([]string{field}); !strings.Contains(field, "<"+target+">") && target != "" {
			t.Errorf("%q: target %q is not in it", field, target)
		}
		if got := nextLink([]string{`</first>; rel="next", ` + field}); got != "/first" {
			t.Errorf("%q hides the link before it: %q", field, got)
		}
	})
}
