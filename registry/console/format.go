package console

import (
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
)

// whole is an integer of any of the types that pages have numbers in.
func whole(n any) int64 {
	switch n := n.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

// number writes an integer with a separator between thousands.
func (w words) number(n any) string {
	text := strconv.FormatInt(whole(n), 10)
	sign, digits := "", text
	if strings.HasPrefix(text, "-") {
		sign, digits = "-", text[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

// size writes bytes as people read them, in units of 1024.
func (w words) size(n any) string {
	value, units := float64(whole(n)), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	at := 0
	for math.Abs(value) >= 1024 && at < len(units)-1 {
		value /= 1024
		at++
	}
	if at == 0 || math.Abs(value) >= 100 {
		return fmt.Sprintf("%.0f %s", value, units[at])
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + units[at]
}

// rate writes bytes per second.
func (w words) rate(perSecond float64) string { return w.size(int64(perSecond)) + "/s" }

// percent writes a share of one.
func (w words) percent(share float64) string {
	if share > 0.9995 || share == 0 {
		return fmt.Sprintf("%.0f%%", share*100)
	}
	return fmt.Sprintf("%.1f%%", share*100)
}

// long writes a duration in its largest unit that is exact enough to read.
func (w words) long(d time.Duration) string {
	for _, unit := range []struct {
		of  time.Duration
		key string
	}{{24 * time.Hour, "time.days"}, {time.Hour, "time.hours"}, {time.Minute, "time.minutes"}} {
		if d >= unit.of {
			return w.count(unit.key, int64(d/unit.of))
		}
	}
	return w.count("time.seconds", int64(d/time.Second))
}

// when writes a time as how long ago it was, with the time itself behind it.
func (w words) when(t time.Time) template.HTML {
	if t.IsZero() {
		return template.HTML(template.HTMLEscapeString(w.say("time.never")))
	}
	t = t.UTC()
	text := ""
	switch ago := time.Since(t); {
	case ago < -time.Minute:
		// 90 days are that for the first hour too.
		text = w.say("time.in", w.long((-ago + time.Hour).Truncate(time.Hour)))
		if -ago < time.Hour {
			text = w.say("time.in", w.long((-ago).Round(time.Minute)))
		}
	case ago < 45*time.Second:
		text = w.say("time.now")
	case ago < 45*24*time.Hour:
		text = w.say("time.ago", w.long(ago))
	default:
		text = t.Format(time.DateOnly)
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`,
		t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 UTC"), template.HTMLEscapeString(text)))
}

// exact writes a time to the second.
func (w words) exact(t time.Time) template.HTML {
	if t.IsZero() {
		return template.HTML(template.HTMLEscapeString(w.say("time.never")))
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 UTC")))
}

// short is a digest as people tell them apart.
func short(d registry.Digest) string {
	_, hex, ok := strings.Cut(string(d), ":")
	if !ok || len(hex) < 12 {
		return string(d)
	}
	return hex[:12]
}

// pathOf is a name of a repository as it stands in an address: its slashes are the address's.
func pathOf(name string) string {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		parts = append(parts, url.PathEscape(part))
	}
	return strings.Join(parts, "/")
}

// link reports whether a text from somebody else may be made a link: an address by http or https.
func link(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && len(text) < 2048
}

// lines joins a list as one of its entries a line, as text fields have them.
func lines(list []string) string { return strings.Join(list, "\n") }

// mediaType is the key of what people call a media type of manifests.
func mediaType(name string) string {
	switch name {
	case registry.MediaTypeOCIIndex, registry.MediaTypeDockerList:
		return "artifact.index"
	case registry.MediaTypeOCIManifest, registry.MediaTypeDockerManifest:
		return "artifact.image"
	}
	return "artifact.other"
}
