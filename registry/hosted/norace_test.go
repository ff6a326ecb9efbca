//go:build !race

package hosted

const raced = false
