package console

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"roadstead/registry/estate"
)

// What people write into the fields of forms: sizes as "20 GiB", times as "7d" or "12h", lists as an
// entry a line. What pages write into them is what they take.

// parseNumber is a whole number, or -1 for what is none.
func parseNumber(text string) int64 {
	n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimSpace(text), ",", ""), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

var units = []struct {
	name string
	size float64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1},
}

// parseSize is a number of bytes; nothing is 0, which is none.
func parseSize(text string) (int64, error) {
	rest, factor := strings.TrimSpace(text), 1.0
	if rest == "" {
		return 0, nil
	}
	for _, unit := range units {
		if number, ok := strings.CutSuffix(strings.ToLower(rest), strings.ToLower(unit.name)); ok {
			rest, factor = strings.TrimSpace(number), unit.size
			break
		}
	}
	n, err := strconv.ParseFloat(rest, 64)
	if size := n * factor; err == nil && size >= 0 && size < math.MaxInt64/2 {
		return int64(size), nil
	}
	return 0, estate.Wrong("quota", "size.wrong", "%q is no size: write one such as 20 GiB, or nothing for no limit", text)
}

// writeSize is what parseSize takes for so many bytes, exactly.
func writeSize(n int64) string {
	for _, unit := range units[:4] {
		if size := int64(unit.size); n >= size && n%size == 0 {
			return fmt.Sprintf("%d %s", n/size, unit.name)
		}
	}
	return strconv.FormatInt(n, 10)
}

// parseDuration is a time, or nil for nothing.
func parseDuration(field, text string) (*time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	var (
		d   time.Duration
		err error
	)
	days, ok := strings.CutSuffix(text, "d")
	if n, number := strconv.ParseInt(days, 10, 32); ok && number == nil {
		d = time.Duration(n) * 24 * time.Hour
	} else if text != "0" {
		d, err = time.ParseDuration(text)
	}
	if err != nil || d < 0 || d > 100*365*24*time.Hour {
		return nil, estate.Wrong(field, "time.wrong", "%q is no time: write one such as 30m, 12h or 7d", text)
	}
	return &d, nil
}

// writeDuration is what parseDuration takes for it.
func writeDuration(d *time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == nil:
		return ""
	case *d == 0:
		return "0"
	case *d%day == 0:
		return fmt.Sprintf("%dd", *d/day)
	case *d%time.Hour == 0:
		return fmt.Sprintf("%dh", *d/time.Hour)
	case *d%time.Minute == 0:
		return fmt.Sprintf("%dm", *d/time.Minute)
	}
	return d.String()
}

// parseLines is a list without its empty entries.
func parseLines(text string) []string {
	var all []string
	for entry := range strings.Lines(text) {
		if entry = strings.TrimSpace(entry); entry != "" {
			all = append(all, entry)
		}
	}
	return all
}
