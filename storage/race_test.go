//go:build race

package storage

// raceBuild says whether the tests have the race detector. Those that do something at each of a
// thousand calls then do it at some, and at all without it: .ci/check runs both.
const raceBuild = true
