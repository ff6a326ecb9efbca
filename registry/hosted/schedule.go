package hosted

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
)

// Schedule is when something is done again and again, in the words of cron that Harbor has: second,
// minute, hour, day of the month, month and day of the week, in UTC. The zero Schedule is never.
type Schedule struct {
	fields [6]uint64 // a bit for each value that fits

	// Of the two fields of days one is enough, unless the other one is a star, as in every cron.
	anyDay, anyWeekday bool
}

// ranges are what the fields of a schedule may be.
var ranges = [6]struct {
	name     string
	from, to int
}{{"second", 0, 59}, {"minute", 0, 59}, {"hour", 0, 23}, {"day of the month", 1, 31}, {"month", 1, 12}, {"day of the week", 0, 6}}

// names are the words that some schedules have.
var words = map[string]string{
	"@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *", "@weekly": "0 0 0 * * 0",
	"@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}

// ParseSchedule reads six fields: a star, numbers, a-b, and /n behind any of them, joined by commas.
func ParseSchedule(cron string) (Schedule, error) {
	var s Schedule
	text := cron
	if word := words[strings.TrimSpace(cron)]; word != "" {
		text = word
	}
	parts := strings.Fields(text)
	if len(cron) > 255 || len(parts) != len(s.fields) {
		return s, fmt.Errorf("%q is no schedule: write second, minute, hour, day, month and day of the week, such as 0 0 3 * * * for every night at three, UTC", registry.Clip(cron))
	}
	for i, part := range parts {
		bits, err := parseField(i, part)
		if err != nil {
			return Schedule{}, fmt.Errorf("%q is no schedule: %w", registry.Clip(cron), err)
		}
		s.fields[i] = bits
	}
	star := func(part string) bool { return part == "*" || part == "?" }
	s.anyDay, s.anyWeekday = star(parts[3]), star(parts[5])
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, fmt.Errorf("%q is no schedule: there is no such day", registry.Clip(cron))
	}
	return s, nil
}

// parseField reads the field of an index.
func parseField(i int, text string) (set uint64, err error) {
	r := ranges[i]
	for item := range strings.SplitSeq(text, ",") {
		span, every, stepped := strings.Cut(item, "/")
		from, to, step := r.from, r.to, 1
		if span != "*" && span != "?" {
			low, high, two := strings.Cut(span, "-")
			if from, err = number(i, low); err != nil {
				return 0, err
			}
			if to = from; two {
				if to, err = number(i, high); err != nil {
					return 0, err
				}
			} else if stepped {
				to = r.to
			}
		}
		if stepped {
			if step, err = strconv.Atoi(every); err != nil || step < 1 || step > r.to+1 {
				return 0, fmt.Errorf("%q is no step of a %s", registry.Clip(every), r.name)
			}
		}
		if from > to {
			return 0, fmt.Errorf("%q is no range of a %s", registry.Clip(span), r.name)
		}
		for n := from; n <= to; n += step {
			set |= 1 << n
		}
	}
	if i == 5 && set&(1<<7) != 0 { // some write Sunday as 7
		set = set&^(1<<7) | 1
	}
	return set, nil
}

// number reads a value of the field of an index.
func number(i int, text string) (int, error) {
	r := ranges[i]
	most := r.to
	if i == 5 {
		most = 7
	}
	list := map[int]string{4: "jan feb mar apr may jun jul aug sep oct nov dec", 5: "sun mon tue wed thu fri sat"}[i]
	for n, name := range strings.Fields(list) {
		if strings.EqualFold(name, text) {
			return n + r.from, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < r.from || n > most {
		return 0, fmt.Errorf("%q is no %s: that is %d to %d", registry.Clip(text), r.name, r.from, r.to)
	}
	return n, nil
}

// Next is the first time after another one; zero: there is none.
func (s Schedule) Next(after time.Time) time.Time {
	if s == (Schedule{}) {
		return time.Time{}
	}
	t := after.UTC().Truncate(time.Second).Add(time.Second)
	// Five years have every day of every month; 29 February comes within eight.
	for end := t.AddDate(9, 0, 0); t.Before(end); {
		y, m, d := t.Date()
		switch {
		case s.fields[4]&(1<<m) == 0:
			t = time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
		case !s.day(t):
			t = time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
		case s.fields[2]&(1<<t.Hour()) == 0:
			t = t.Truncate(time.Hour).Add(time.Hour)
		case s.fields[1]&(1<<t.Minute()) == 0:
			t = t.Truncate(time.Minute).Add(time.Minute)
		default:
			if left := s.fields[0] >> t.Second(); left != 0 {
				return t.Add(time.Duration(bits.TrailingZeros64(left)) * time.Second)
			}
			t = t.Truncate(time.Minute).Add(time.Minute)
		}
	}
	return time.Time{}
}

// day reports whether the day of a time fits.
func (s Schedule) day(t time.Time) bool {
	day, weekday := s.fields[3]&(1<<t.Day()) != 0, s.fields[5]&(1<<t.Weekday()) != 0
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
