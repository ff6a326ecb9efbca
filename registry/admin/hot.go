package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"roadstead/storage"
)

var (
	hotMax          = describe("hot_max_bytes", "Bytes that the copies on this node may have together.")
	hotBytes        = describe("hot_bytes", "Bytes of the copies on this node, in blocks of 4 KiB.")
	hotCopies       = describe("hot_copies", "Copies on this node.")
	hotFills        = describe("hot_fills", "Pieces of content of which a copy is being made.")
	hotHits         = describe("hot_hits_total", "Pieces of content opened of which there was a copy.")
	hotMisses       = describe("hot_misses_total", "Pieces of content opened of which there was none, and which were read from the bucket.")
	hotFilled       = describe("hot_filled_total", "Copies made.")
	hotFilledBytes  = describe("hot_filled_bytes_total", "Bytes of copies made.")
	hotEvicted      = describe("hot_evictions_total", "Copies removed to make room.")
	hotEvictedBytes = describe("hot_evicted_bytes_total", "Bytes of copies removed to make room.")
	hotPassed       = describe("hot_passed_total", "Times that no copy was made: too large, too many at once, no room, or trouble.")
	hotDamaged      = describe("hot_damaged_total", "Copies that were not what they should be, and were dropped.")
	hotRotten       = describe("hot_rotten_total", "Pieces of content that were found damaged in the bucket while they were copied.")
	hotFaults       = describe("hot_faults_total", "Troubles of the directory of the copies.")
)

// hots is every description of this file.
var hots = []*prometheus.Desc{
	hotMax, hotBytes, hotCopies, hotFills, hotHits, hotMisses, hotFilled, hotFilledBytes, hotEvicted, hotEvictedBytes,
	hotPassed, hotDamaged, hotRotten, hotFaults,
}

func (out output) hot(s storage.HotStats) {
	out.gauge(hotMax, float64(s.MaxBytes))
	out.gauge(hotBytes, float64(s.Bytes))
	out.gauge(hotCopies, float64(s.Count))
	out.gauge(hotFills, float64(s.Fills))
	out.counter(hotHits, s.Hits)
	out.counter(hotMisses, s.Misses)
	out.counter(hotFilled, s.Filled)
	out.counter(hotFilledBytes, s.FilledBytes)
	out.counter(hotEvicted, s.Evicted)
	out.counter(hotEvictedBytes, s.EvictedBytes)
	out.counter(hotPassed, s.Passed)
	out.counter(hotDamaged, s.Damaged)
	out.counter(hotRotten, s.Rotten)
	out.counter(hotFaults, s.Faults)
}
