//go:build race

package hosted

// raced says that the race detector is at work, which takes five times as long.
const raced = true
