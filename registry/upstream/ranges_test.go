package upstream

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseContentRange(t *testing.T) {
	for _, row := range []struct {
		field string
		want  contentRange
		ok    bool
	}{
		{"bytes 5-9/10", contentRange{5, 9, 10}, true},
		{"bytes 0-0/1", contentRange{0, 0, 1}, true},
		{"BYTES 5-9/*", contentRange{5, 9, -1}, true},
		{"bytes 5-9/9", contentRange{}, false},
		{"bytes 9-5/10", contentRange{}, false},
		{"bytes */10", contentRange{}, false},
		{"bytes -5-9/10", contentRange{}, false},
		{"bytes +5-9/10", contentRange{}, false},
		{"bytes 5-9", contentRange{}, false},
		{"bytes 5/10", contentRange{}, false},
		{"bytes=5-9/10", contentRange{}, false},
		{"items 5-9/10", contentRange{}, false},
		{"bytes 5-99999999999999999999/*", contentRange{}, false},
		{"bytes  5-9/10", contentRange{}, false},
		{"", contentRange{}, false},
	} {
		got, err := parseContentRange(row.field)
		if row.ok != (err == nil) || row.ok && got != row.want {
			t.Errorf("%q: got %v, %v, want %v", row.field, got, err, row.want)
		}
	}
}

// FuzzContentRange believes nothing that makes no sense, and reads what it believes as it is
// written.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 0-18446744073709551616/*", "bytes 0-0/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		r, err := parseContentRange(field)
		if err != nil {
			return
		}
		if r.first < 0 || r.last < r.first || r.total >= 0 && r.total <= r.last || r.total < -1 {
			t.Errorf("%q: %v", field, r)
		}
		total := fmt.Sprint(r.total)
		if r.total < 0 {
			total = "*"
		}
		written := fmt.Sprintf("bytes %d-%d/%s", r.first, r.last, total)
		if again, err := parseContentRange(written); err != nil || again != r {
			t.Errorf("%q: %v and then %v, %v", field, r, again, err)
		}
		if !strings.EqualFold(field[:6], "bytes ") {
			t.Errorf("%q is not in bytes", field)
		}
	})
}
