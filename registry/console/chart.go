package console

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// A chart is drawn in a box of these units, which the page stretches: its lines are, its text,
// which stands around it as HTML, is not.
const (
	chartWidth  = 600
	chartHeight = 120
)

// chart is lines over time.
type chart struct {
	ID     string
	Title  string
	Lines  []line
	Marks  []mark   // along the height
	Times  []string // along the width, the first at its left end and the last at its right
	Empty  bool     // nothing has happened in that time
	Width  int
	Height int
}

// line is one of them.
type line struct {
	Class string // what it looks like
	Name  string
	Value string // its newest
	Path  string
	Area  string // the same, closed at the bottom; "": not to be filled
}

// mark is a value at a height of the box.
type mark struct {
	Y    float64
	Text string
}

// drawn makes the path of values between zero and most. The first ones may be left out.
func drawn(values []float64, skip int, most float64) (path, area string) {
	var b strings.Builder
	first := 0.0
	for i := skip; i < len(values); i++ {
		x := float64(i) * chartWidth / float64(max(len(values)-1, 1))
		command := "L"
		if i == skip {
			command, first = "M", x
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", command, x, height(values[i], most))
	}
	path = b.String()
	if path == "" {
		return "", ""
	}
	return path, fmt.Sprintf("%sL%d %dL%.1f %dZ", path, chartWidth, chartHeight, first, chartHeight)
}

// unknown is how many steps at the beginning nothing is known of: the server was not there yet.
func unknown(all []step) int {
	for i, s := range all {
		if s.known {
			return max(i-1, 0) // from where it began
		}
	}
	return 0
}

func height(value, most float64) float64 {
	return chartHeight * (1 - min(value/most, 1))
}

// roof is a round value not below the largest: what a chart ends with.
func roof(largest float64) float64 {
	if largest <= 0 {
		return 1024
	}
	unit := math.Pow(1024, math.Floor(math.Log(max(largest, 1024))/math.Log(1024)))
	for _, factor := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1024} {
		if largest <= unit*factor {
			return unit * factor
		}
	}
	return largest
}

// trafficChart is what came from upstream and what went to clients.
func (v *visit) trafficChart(all []step) chart {
	var sent, received []float64
	largest := 0.0
	for _, s := range all {
		sent, received = append(sent, s.clients), append(received, s.upstream)
		largest = max(largest, s.clients, s.upstream)
	}
	most := roof(largest)
	w := v.words[v.lang]
	c := chart{
		ID: "traffic", Title: v.say("chart.traffic"), Width: chartWidth, Height: chartHeight, Empty: largest == 0,
		Marks: []mark{{0, w.rate(most)}, {50, w.rate(most / 2)}, {100, "0"}}, Times: clock(all),
	}
	for _, l := range []struct {
		class, key string
		values     []float64
	}{{"clients", "chart.clients", sent}, {"upstream", "chart.upstream", received}} {
		path, area := drawn(l.values, unknown(all), most)
		c.Lines = append(c.Lines, line{l.class, v.say(l.key), w.rate(newest(l.values)), path, area})
	}
	return c
}

// ratioChart is the share of answers for which upstream was not asked. Where nothing was asked the
// line goes on as it was.
func (v *visit) ratioChart(all []step) chart {
	var values []float64
	last, any := 0.0, false
	for _, s := range all {
		if s.answers > 0 {
			last, any = s.ratio(), true
		}
		values = append(values, last)
	}
	path, area := drawn(values, unknown(all), 1)
	return chart{
		ID: "ratio", Title: v.say("chart.ratio"), Width: chartWidth, Height: chartHeight, Empty: !any,
		Marks: []mark{{0, "100%"}, {50, "50%"}, {100, "0"}}, Times: clock(all),
		Lines: []line{{"ratio", v.say("chart.ratio"), v.words[v.lang].percent(newest(values)), path, area}},
	}
}

func newest(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return values[len(values)-1]
}

// clock is the times along a chart, in UTC as all times here.
func clock(all []step) []string {
	if len(all) == 0 {
		return nil
	}
	from, to := all[0].from, all[len(all)-1].to
	var texts []string
	for i := range 5 {
		texts = append(texts, from.Add(time.Duration(i)*to.Sub(from)/4).UTC().Format("15:04"))
	}
	return texts
}

// bar is a part of a picture of sizes side by side.
type bar struct {
	X, Width float64 // in percent
	Class    string
	Title    string
}

// bars lays sizes side by side. One that is too small to see is shown all the same.
func bars(sizes []int64, title func(i int) string) []bar {
	const least = 0.4
	total := 0.0
	for _, n := range sizes {
		total += float64(max(n, 0))
	}
	if total == 0 {
		return nil
	}
	scale := 0.0
	widths := make([]float64, len(sizes))
	for i, n := range sizes {
		widths[i] = max(float64(max(n, 0))/total*100, least)
		scale += widths[i]
	}
	var all []bar
	at := 0.0
	for i := range sizes {
		width := widths[i] / scale * 100
		all = append(all, bar{X: at, Width: width, Class: fmt.Sprint("part", i%6), Title: title(i)})
		at += width
	}
	return all
}
