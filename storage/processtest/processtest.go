// Package processtest starts the processes that tests need, such that none outlives the tests.
package processtest

import (
	"os/exec"
	"runtime"
	"sync"
)

// Start starts a command from one thread that lives as long as the tests: the signal of Pdeathsig comes at
// the end of the thread that started the process, not of the program, and a thread that has left for a
// namespace of its own ends with its goroutine.
func Start(cmd *exec.Cmd) error {
	result := make(chan error)
	starts() <- func() { result <- cmd.Start() }
	return <-result
}

var starts = sync.OnceValue(func() chan<- func() {
	todo := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range todo {
			f()
		}
	}()
	return todo
})
