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

// place is a part of a page that changes while somebody looks at it.
type place struct {
	name string // its id in the page, and of its template
	data any
}

// stream tells a browser what is going on.
func stream(v *visit) error {
	return v.follow("overview", func() ([]place, bool, error) {
		if !v.may(registry.Read, access.Statistics, "") {
			return nil, false, &registry.Fault{Code: registry.Denied}
		}
		return []place{{"live", v.live()}}, true, nil
	})
}

// follow tells a browser of the places of a page, as often as they change: server-sent events with
// the HTML of a place in each. It looks every so often, as whoever is signed in then, until there is
// no more to come, of which it tells as well: else the browser would come again.
func (v *visit) follow(page string, look func() (places []place, more bool, err error)) error {
	places, more, err := look()
	if err != nil {
		return err
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
	told := map[string]string{}
	for {
		if err := v.tell(page, places, told); err != nil {
			return err
		}
		if !more {
			fmt.Fprint(v.w, "event: end\ndata:\n\n") // if the browser is still there
			return nil
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
		s, ok, err := v.config.Access.SessionOf(v.r)
		if !ok || err != nil {
			return nil
		}
		v.me = s.Principal
		if places, more, err = look(); err != nil {
			return nil // the browser comes again, and is told why not
		}
	}
}

// tell sends the places that are other than what was told of them.
func (v *visit) tell(page string, places []place, told map[string]string) error {
	for _, p := range places {
		var part bytes.Buffer
		if err := v.render(&part, page, p.name, p.data); err != nil {
			return err
		}
		text := part.String()
		if text == told[p.name] {
			continue
		}
		told[p.name] = text
		fmt.Fprintf(v.w, "event: %s\ndata: %s\n\n", p.name, strings.ReplaceAll(text, "\n", "\ndata: "))
	}
	// A browser that has left ends the request's context, which is looked at next.
	_ = http.NewResponseController(v.w).Flush()
	return nil
}
