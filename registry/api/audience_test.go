package api

import (
	"errors"
	"fmt"
	"testing"

	"roadstead/registry"
)

// Nobody takes all places, and whoever takes all that there are for everybody leaves some to
// administrators.
func TestAudience(t *testing.T) {
	var a audience
	var leave []func()
	enter := func(name string, admin bool) error {
		out, err := a.enter(name, admin)
		if err == nil {
			leave = append(leave, out)
		} else if !errors.Is(err, registry.TooManyRequests) {
			t.Errorf("%v, want TOOMANYREQUESTS", err)
		}
		return err
	}
	in := 0
	for i := range maxListeners {
		for range maxOfOne + 1 {
			if enter(fmt.Sprint("user", i), false) == nil {
				in++
			}
		}
		if i == 0 && in != maxOfOne {
			t.Errorf("one has %d places, want %d", in, maxOfOne)
		}
	}
	if in != maxListeners-reserved {
		t.Errorf("%d are in, want %d", in, maxListeners-reserved)
	}
	if err := enter("admin", true); err != nil {
		t.Errorf("an administrator = %v", err)
	}
	for _, out := range leave {
		out()
	}
	if a.all != 0 || len(a.of) != 0 {
		t.Errorf("afterwards %d of %v", a.all, a.of)
	}
}

// A stream is for whoever is somebody: anybody may ask for the list instead.
func TestStreamsAreForAccounts(t *testing.T) {
	open(t).wants(401, "", "GET", mine+"/flights/events", "")
}
