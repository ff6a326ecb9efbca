package cache

import (
	"io"
	"sync"
)

// chunk is how much is read from upstream at a time. A fast upstream fills it, and each fill
// costs a few system calls and wakes the readers; a slow one hands out what it has.
const chunk = 256 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// intake reads upstream's body ahead, so that the network is being read while the piece before
// is written and hashed: that is most of the work of a cold pull, and a machine has two cores.
type intake struct {
	pieces chan piece // ends with one that has an error, io.EOF included
	enough chan struct{}
}

// piece is some bytes of a body, or why there are no more of them, or both.
type piece struct {
	buf *[chunk]byte
	n   int
	err error

	shared bool // another node had it, and upstream did not send it
}

func (p piece) release() { chunks.Put(p.buf) }

// ahead is how many pieces wait at most.
const ahead = 2

// receive starts to read src. The caller stops the intake before it closes src.
func receive(src io.Reader) *intake {
	in := &intake{pieces: make(chan piece, ahead), enough: make(chan struct{})}
	from, _ := src.(interface{ Shared() bool })
	go func() {
		defer close(in.pieces)
		for {
			p := piece{buf: chunks.Get().(*[chunk]byte)}
			p.n, p.err = src.Read(p.buf[:])
			p.shared = from != nil && from.Shared()
			end := p.err != nil
			select {
			case in.pieces <- p:
			case <-in.enough:
				p.release()
				return
			}
			if end {
				return
			}
		}
	}()
	return in
}

// stop ends the reading, which cancel interrupts, and waits for that.
func (in *intake) stop(cancel func()) {
	close(in.enough)
	cancel()
	for p := range in.pieces {
		p.release()
	}
}
