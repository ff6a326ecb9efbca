//go:build !race

package storage

// raceBuild says whether the tests have the race detector.
const raceBuild = false
