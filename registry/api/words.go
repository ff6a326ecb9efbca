package api

import (
	"maps"
	"slices"

	"roadstead/registry"
	"roadstead/registry/estate"
)

const (
	// maxWords is how much of what an artifact says of itself is answered, in bytes, and maxListed how
	// much of it in a list. Real images say some KiB; a manifest may say 4 MiB.
	maxWords  = 512 << 10
	maxListed = 16 << 10

	// maxLooked is how much of manifests a list is made from, in bytes: the largest answer has a
	// thousand of them, and real ones have some KiB. Those after it say nothing of themselves.
	maxLooked = 32 << 20
)

// room is what is left of it. What does not fit is left out whole, so that nothing is shown that
// nobody has said.
type room struct {
	left int
	out  bool // something was left out
}

func (r *room) fits(n int) bool {
	if n > r.left {
		r.out = true
		return false
	}
	r.left -= n
	return true
}

func (r *room) text(s *string) {
	if !r.fits(len(*s)) {
		*s = ""
	}
}

func (r *room) list(all *[]string) {
	i := slices.IndexFunc(*all, func(s string) bool { return !r.fits(len(s) + 4) }) // with its quotes
	if i >= 0 {
		*all = (*all)[:i]
	}
}

func (r *room) table(all *map[string]string) {
	var fitting map[string]string
	for _, name := range slices.Sorted(maps.Keys(*all)) {
		if !r.fits(len(name) + len((*all)[name]) + 8) {
			continue // a shorter one may fit
		}
		if fitting == nil {
			fitting = map[string]string{}
		}
		fitting[name] = (*all)[name]
	}
	*all = fitting
}

// children are bounded with all that is said of each.
func (r *room) children(all []registry.Descriptor) []registry.Descriptor {
	const bare = 200 // bytes of one of which nothing is said
	var fitting []registry.Descriptor
	for _, d := range all {
		n := bare
		if p := d.Platform; p != nil {
			n += len(p.Architecture) + len(p.OS) + len(p.Variant) + len(p.OSVersion)
		}
		if !r.fits(n) {
			break
		}
		r.table(&d.Annotations)
		fitting = append(fitting, d)
	}
	return fitting
}

// fitting is what an artifact says of itself as far as there is room for, the most telling first, and
// whether that is not all.
func fitting(look estate.Look, most int) (estate.Look, bool) {
	r := room{left: most}
	for _, s := range []*string{&look.ConfigType, &look.ArtifactType, &look.OS, &look.Architecture, &look.Variant, &look.Author, &look.User, &look.WorkingDir} {
		r.text(s)
	}
	look.Children = r.children(look.Children)
	for _, all := range []*[]string{&look.Entrypoint, &look.Cmd, &look.ExposedPorts, &look.Env} {
		r.list(all)
	}
	r.table(&look.Annotations)
	r.table(&look.Labels)
	return look, r.out
}
