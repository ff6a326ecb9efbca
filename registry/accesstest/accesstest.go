// Package accesstest opens accounts for tests, with passwords whose hashes take next to nothing: a
// third of a second for each with the race detector, and 19 MiB, is most of what a test of a page or of
// a call would take otherwise. What a hash has to take is tested in registry/access.
package accesstest

import (
	"context"
	"sync"
	_ "unsafe" // for the name of a variable

	"roadstead/registry/access"
)

// Open is access.Open with cheap hashes.
func Open(ctx context.Context, c access.Config) (*access.Access, error) {
	Cheap()
	return access.Open(ctx, c)
}

// Cheap has every Access of this process that is opened from now on take cheap hashes.
var Cheap = sync.OnceFunc(func() { usual = cost{memory: 64, passes: 1, threads: 1} })

// usual is that of registry/access. No configuration can change it there, so that nobody's passwords are
// ever hashed with less, and a test gets at it by its name alone.
//
//go:linkname usual roadstead/registry/access.usual
var usual cost

// cost has the fields of that of registry/access, in their order.
type cost struct {
	memory  uint32
	passes  uint32
	threads uint8
}
