package peer

import (
	"hash/fnv"
	"strconv"

	"roadstead/registry"
)

// score is how much a node wants a digest. The node with the highest owns it, so that when one
// comes or goes only what is its own moves (rendezvous hashing, Thaler and Ravishankar 1998).
func score(node string, d registry.Digest) uint64 {
	h := fnv.New64a()
	h.Write([]byte(node)) // which never fails
	return mix(h.Sum64() ^ head(d))
}

// head is the first 64 bits of a digest, which are as good as a hash of it.
func head(d registry.Digest) uint64 {
	hex := d.Encoded()
	n, err := strconv.ParseUint(hex[:min(16, len(hex))], 16, 64)
	if err != nil {
		return 0 // no digest that was ever checked
	}
	return n
}

// mix spreads every bit over all (the finalizer of splitmix64). Names of nodes differ in a digit,
// and FNV leaves the upper bits of such nearly alike.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
