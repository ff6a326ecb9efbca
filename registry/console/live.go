package console

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
)

const (
	// maxStreams is how many browsers are told at once what is being downloaded. Each costs a
	// goroutine and a look at the figures every second.
	maxStreams = 64

	// streamAge bounds a stream: the browser comes again by itself, and whoever may no longer
	// look does not.
	streamAge = 2 * time.Minute

	streamEvery = time.Second
)

// live is what is going on right now.
type live struct {
	Flights []flight
	Count   int // downloads under way, also those that are not listed
	Uploads int64
	Clients int64 // requests being answered
}

// flight is a download from upstream.
type flight struct{ cache.Flight }

// Share is how much of it is here, of 100.
func (f flight) Share() int64 {
	if f.Size <= 0 {
		return 0
	}
	return min(f.Written*100/f.Size, 100)
}

// mostFlights is how many are listed. More are a flood, of which the number says enough.
const mostFlights = 20

func (v *visit) live() live {
	all := v.config.Flights()
	l := live{Count: len(all), Uploads: v.config.Hosted().Uploads, Clients: v.config.Server().InFlight}
	for _, f := range all[:min(len(all), mostFlights)] {
		l.Flights = append(l.Flights, flight{f})
	}
	return l
}

// stream tells a browser what is going on, as often as that changes: server-sent events with a part
// of the page in each.
func stream(v *visit) error {
	if !v.may(registry.Read, access.Statistics, "") {
		return &registry.Fault{Code: registry.Denied}
	}
	defer v.streams.Add(-1)
	if v.streams.Add(1) > maxStreams {
		return &registry.Fault{Code: registry.TooManyRequests, RetryAfter: streamAge}
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies in front of us pass it on as it comes
	if v.r.Method == http.MethodHead {
		return nil
	}
	end := time.NewTimer(streamAge)
	defer end.Stop()
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	flusher, last := http.NewResponseController(v.w), ""
	for {
		var part bytes.Buffer
		if err := v.render(&part, "overview", "live", v.live()); err != nil {
			return err
		}
		if text := part.String(); text != last {
			last = text
			if _, err := fmt.Fprintf(v.w, "event: live\ndata: %s\n\n", strings.ReplaceAll(text, "\n", "\ndata: ")); err != nil {
				return nil // a browser that has left
			}
			if err := flusher.Flush(); err != nil {
				return nil
			}
		}
		select {
		case <-v.r.Context().Done():
			return nil
		case <-v.closing:
			return nil
		case <-end.C:
			return nil
		case <-tick.C:
		}
		if s, ok := v.config.Access.SessionOf(v.r); !ok || !v.config.Estate.May(s.Principal, registry.Read, access.Statistics, "") {
			return nil
		}
	}
}
