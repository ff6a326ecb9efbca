//go:build linux

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"roadstead/storage/processtest"
)

// benchProcess is a running server with all its workers.
type benchProcess struct {
	*process        // nil: the upstream itself, for which no figure of a process is taken
	addr     string // where it serves
}

// startServer starts a server and waits until it accepts connections.
func startServer(b *testing.B, dir, addr, program string, args ...string) *benchProcess {
	b.Helper()
	p := &process{
		name: filepath.Base(program),
		cmd:  exec.Command(program, args...),
		log:  filepath.Join(dir, "log"),
		done: make(chan struct{}),
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, environment(dir), out, out
	// Unlike the end-to-end tests' servers, nginx has workers, which outlive a master that is
	// killed: an interrupted benchmark must ask it to end.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := processtest.Start(p.cmd); err != nil {
		b.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	b.Cleanup(func() { p.stop(b) })
	for deadline := time.Now().Add(2 * time.Minute); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return &benchProcess{p, addr}
		}
		if p.ended(time.Millisecond) || time.Now().After(deadline) {
			b.Fatalf("%s does not listen: %v\n%s", p.name, err, tail(p.log, 2000))
		}
	}
}

// pids returns the server and its workers.
func (p *benchProcess) pids() []int {
	if p.process == nil {
		return nil
	}
	pids := []int{p.cmd.Process.Pid}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pids[0]))
	for field := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cpu returns the processor time, user and system, that the server and its workers have
// used. It is read from the processes' clocks, to which /proc/PID/stat is a rounding to 10 ms.
func (p *benchProcess) cpu() time.Duration {
	var sum time.Duration
	for _, pid := range p.pids() {
		// clock_getcpuclockid(3): the clock of a whole process in the scheduler's count.
		clock := int32(^pid<<3 | 2)
		var ts syscall.Timespec
		if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0); errno == 0 {
			sum += time.Duration(ts.Nano())
		}
	}
	return sum
}

// rss returns the resident memory of the server and its workers in bytes. Pages that workers
// share are counted in each, as ps and top do.
func (p *benchProcess) rss() (int64, error) {
	var sum int64
	for _, pid := range p.pids() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, after, ok := bytes.Cut(status, []byte("VmRSS:"))
		fields := bytes.Fields(after)
		if !ok || len(fields) < 2 {
			return 0, errors.New("no VmRSS in /proc/PID/status")
		}
		kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += kib << 10
	}
	return sum, nil
}
