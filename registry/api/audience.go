package api

import (
	"fmt"
	"sync"

	"roadstead/registry"
)

const (
	// maxListeners bounds the streams of events: each is a connection and a look at all flights a
	// second.
	maxListeners = 100

	// maxOfOne is how many of them one account has: as many as somebody has windows open.
	maxOfOne = 5

	// reserved is how many are for administrators, who want to see what goes on most when everybody
	// does.
	reserved = 20
)

// audience is who listens to streams of events.
type audience struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by name
}

// enter takes a place for somebody. leave gives it back.
func (a *audience) enter(name string, admin bool) (leave func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := maxListeners - reserved
	if admin {
		most = maxListeners
	}
	switch {
	case a.of[name] >= maxOfOne:
		return nil, &registry.Fault{Code: registry.TooManyRequests, Message: fmt.Sprintf("you have %d streams open already: close one, or ask for /flights instead", maxOfOne)}
	case a.all >= most:
		return nil, &registry.Fault{Code: registry.TooManyRequests, Message: fmt.Sprintf("%d clients watch already: ask for /flights instead", a.all)}
	}
	if a.of == nil {
		a.of = map[string]int{}
	}
	a.of[name]++
	a.all++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.all--
		if a.of[name]--; a.of[name] == 0 {
			delete(a.of, name)
		}
	}, nil
}
