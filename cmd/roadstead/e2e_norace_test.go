//go:build !race

package main_test

// raceBuild says whether the tests have the race detector. Roadstead gets it then, too.
const raceBuild = false
