//go:build linux

package main_test

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// benchTable is a group of figures, one row each and one column for each contestant.
type benchTable struct {
	title   string
	columns []string
	rows    []*benchFigure
}

// benchFigure is one thing that is measured, several rounds for each contestant. Less is
// better.
type benchFigure struct {
	title  string
	metric string // its name for benchstat
	places int    // decimals
	beside string // what a sample's second number is

	// Numbers of one machine and one run: what is allowed to ours there, and what others took.
	// Zero: only the ratio in this run counts.
	atMost float64
	others map[string]float64
	share  map[string]float64 // what is allowed of another's figure, where that is said as such

	rounds map[string][]benchSample // by contestant
}

// benchSample is what one round gave.
type benchSample struct{ value, beside float64 }

func (f *benchFigure) sample(contestant string, s benchSample) {
	if f.rounds == nil {
		f.rounds = map[string][]benchSample{}
	}
	f.rounds[contestant] = append(f.rounds[contestant], s)
}

// median returns the round in the middle by value.
func (f *benchFigure) median(contestant string) (benchSample, bool) {
	rounds := slices.Clone(f.rounds[contestant])
	if len(rounds) == 0 {
		return benchSample{}, false
	}
	slices.SortFunc(rounds, func(a, b benchSample) int {
		if a.value < b.value {
			return -1
		}
		return 1
	})
	return rounds[len(rounds)/2], true
}

// print writes the table: the medians, then what is allowed to ours. "at most" compares the
// figure itself, which is only as good as this machine is like the one that the bound comes
// from. The columns behind it compare ours with each of the others in this run, and that ratio
// with the one that the bound has to the same server's figure on that machine.
func (t benchTable) print(w io.Writer) {
	header := append([]string{t.title}, t.columns...)
	header = append(header, "at most")
	for _, column := range t.columns {
		if column != ours {
			header = append(header, "÷ "+column)
		}
	}
	lines := [][]string{header}
	for _, f := range t.rows {
		line := []string{f.title}
		for _, column := range t.columns {
			line = append(line, f.cell(column))
		}
		mine, ok := f.median(ours)
		if f.atMost == 0 {
			line = append(line, "–")
		} else {
			line = append(line, group(f.atMost, f.places)+verdict(mine.value, f.atMost, f.places, ok))
		}
		for _, column := range t.columns {
			if column != ours {
				line = append(line, f.ratio(column))
			}
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(header))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintln(w)
	for _, line := range lines {
		row := fmt.Sprintf("%-*s", widths[0], line[0])
		for i, cell := range line[1:] {
			row += fmt.Sprintf("  %*s", widths[i+1], cell)
		}
		fmt.Fprintln(w, row)
	}
}

// ratio formats ours divided by another's figure and how large that may be: "0.90≤1.84 ok".
func (f *benchFigure) ratio(contestant string) string {
	mine, ok := f.median(ours)
	other, there := f.median(contestant)
	if !ok || !there || other.value <= 0 {
		return "–"
	}
	got := mine.value / other.value
	bound, places := f.share[contestant], 2
	if bound == 0 && f.others[contestant] > 0 {
		bound = f.atMost / f.others[contestant]
	}
	if bound == 0 {
		return group(got, 2)
	}
	if bound < 0.1 {
		places = 3
	}
	return group(got, places) + " of " + group(bound, places) + verdict(got, bound, places, true)
}

// cell formats what a contestant reached: "33 (28,100)".
func (f *benchFigure) cell(contestant string) string {
	s, ok := f.median(contestant)
	if !ok {
		return "–"
	}
	text := group(s.value, f.places)
	if f.beside != "" {
		text += " (" + group(s.beside, 0) + ")"
	}
	return text
}

// verdict says whether a figure is within its bound. What rounds to the bound is.
func verdict(got, atMost float64, places int, known bool) string {
	switch {
	case !known:
		return ""
	case got <= atMost || group(got, places) == group(atMost, places):
		return " ok"
	}
	return " OVER"
}

// group formats a number with commas between thousands.
func group(v float64, places int) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(v, 'f', places, 64), ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		return whole + "." + fraction
	}
	return whole
}

// metrics reports the medians of ours and of its yardstick, so that benchstat can compare runs.
func (t benchTable) metrics(b *testing.B) {
	// The time that the whole comparison took says nothing.
	b.ReportMetric(0, "ns/op")
	for _, f := range t.rows {
		for prefix, contestant := range map[string]string{"": ours, "nginx-": nginxCache} {
			if s, ok := f.median(contestant); ok {
				b.ReportMetric(s.value, prefix+f.metric)
			}
		}
	}
}
