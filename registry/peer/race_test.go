//go:build race

package peer

// raced says that the race detector is at work, and forgets what is kept for another use.
const raced = true
