package storage

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// space keeps drafts from filling their file system: what has been promised to them and not
// been written yet, and the floor, must always fit into what is free.
type space struct {
	disk  *disk
	dir   string
	floor int64 // as in Config

	statfs func(dir string) (free, total int64, err error)

	// yield makes room for n bytes at the cost of what can be lost, if it can, and reports whether
	// it has made some. nil: there is nothing of the kind.
	yield func(n int64) bool

	promised atomic.Int64 // reserved and not yet written, in bytes

	// asking makes looking at the free space and promising it one step. It is held over statfs,
	// against the rule, because two drafts that look at the same free bytes would both get them.
	asking sync.Mutex
}

// reserve promises n bytes, or fails with ErrFull.
func (s *space) reserve(n int64) error {
	// A few times, because others may take the room that was made for this one.
	for try := 1; ; try++ {
		lack, err := s.promise(n)
		if err != nil {
			return err
		}
		if lack == 0 {
			return nil
		}
		if try > 3 || s.yield == nil || !s.yield(lack) {
			return fmt.Errorf("%d bytes do not fit, %d are lacking above those that are promised and those that are kept free: %w", n, lack, ErrFull)
		}
	}
}

// promise promises n bytes, or says how many are lacking.
func (s *space) promise(n int64) (int64, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	lack, err := s.lack(n)
	if err == nil && lack == 0 {
		s.promised.Add(n)
	}
	return lack, err
}

// lack says how many bytes too few there are to promise n.
func (s *space) lack(n int64) (int64, error) {
	// In this order, because what is written between the two lines is then counted twice
	// instead of not at all.
	promised := s.promised.Load()
	free, total, err := s.free()
	if err != nil {
		return 0, fmt.Errorf("free space: %w", err)
	}
	room := free - promised - s.keep(total)
	if n > math.MaxInt64+min(room, 0) {
		return math.MaxInt64, nil // n is what somebody has claimed, and may be anything
	}
	return max(0, n-room), nil
}

// release takes back what was promised, because it has been written or will not be.
func (s *space) release(n int64) { s.promised.Add(-n) }

func (s *space) keep(total int64) int64 {
	switch {
	case s.floor < 0:
		return 0
	case s.floor > 0:
		return s.floor
	}
	// A machine with less than a gigabyte left is in trouble whatever we do; on a small volume
	// of its own 5 % leaves room for the database and the links.
	return min(1<<30, total/20)
}

func (s *space) free() (free, total int64, err error) {
	err = s.disk.inDir(s.dir, func() error {
		return s.disk.call("statfs", s.dir, func() (err error) {
			free, total, err = s.statfs(s.dir)
			return err
		})
	})
	return free, total, err
}
