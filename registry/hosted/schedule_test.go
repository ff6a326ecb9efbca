package hosted

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	from := time.Date(2026, 2, 27, 22, 59, 59, 5, time.UTC) // a Friday
	for _, test := range []struct{ cron, want string }{
		{"0 0 3 * * *", "2026-02-28 03:00:00"},
		{"@hourly", "2026-02-27 23:00:00"},
		{"* * * * * *", "2026-02-27 23:00:00"},
		{"*/20 * * * * *", "2026-02-27 23:00:00"},
		{"59 59 22 * * *", "2026-02-28 22:59:59"},
		{"0 30 4 29 2 ?", "2028-02-29 04:30:00"},
		{"0 0 0 * * 0", "2026-03-01 00:00:00"},
		{"0 0 0 * * 7", "2026-03-01 00:00:00"},
		{"0 0 0 * * mon-wed", "2026-03-02 00:00:00"},
		{"0 0 0 1 * 6", "2026-02-28 00:00:00"}, // either of the days
		{"0 5,10-20/5 12 1 APR *", "2026-04-01 12:05:00"},
		{"0 0 0 1 1 *", "2027-01-01 00:00:00"},
		{"0 0 20/2 * * *", "2026-02-28 20:00:00"},
	} {
		s, err := ParseSchedule(test.cron)
		if err != nil {
			t.Errorf("%q: %v", test.cron, err)
			continue
		}
		if got := s.Next(from).Format(time.DateTime); got != test.want {
			t.Errorf("%q: next is %s, want %s", test.cron, got, test.want)
		}
	}
	for _, bad := range []string{
		"", "* * * * *", "* * * * * * *", "60 * * * * *", "* * 24 * * *", "* * * 0 * *", "* * * * 13 *", "* * * * * 8", "*/0 * * * * *",
		"5-3 * * * * *", "a * * * * *", "0 0 0 31 2 *", "-1 * * * * *", "1- * * * * *", "0 0 0 * * sunday", ", * * * * *",
	} {
		if _, err := ParseSchedule(bad); err == nil {
			t.Errorf("%q is taken for a schedule", bad)
		}
	}
	if next := (Schedule{}).Next(from); !next.IsZero() {
		t.Errorf("no schedule is next at %s", next)
	}
}

// TestScheduleIsAnOrder: nothing comes between a time and the next one of a schedule, whichever.
func TestScheduleIsAnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	field := func(from, to int) string {
		switch r.IntN(4) {
		case 0:
			return strconv.Itoa(from + r.IntN(to-from+1))
		case 1:
			return "*/" + strconv.Itoa(1+r.IntN(to))
		}
		return "*"
	}
	for range 2000 {
		cron := strings.Join([]string{field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)}, " ")
		s, err := ParseSchedule(cron)
		if err != nil {
			continue // such as 31 February
		}
		from := time.Unix(r.Int64N(1<<32), 0)
		next := s.Next(from)
		if !next.After(from) || s.Next(next.Add(-time.Nanosecond)) != next {
			t.Errorf("%q after %s: %s, and then %s", cron, from, next, s.Next(next.Add(-time.Nanosecond)))
		}
	}
}
