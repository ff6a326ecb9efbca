package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roadstead/registry"
)

// proofs remember which passwords were right and which were wrong, so that a kubelet that sends
// one with each request costs one hash and not thousands.
//
// What is remembered is an HMAC of user, stored hash and password by a key that this process
// made up: no password can be had from it, and a password that was changed is another question.
// So nothing has to be forgotten when accounts change.
type proofs struct {
	secret [32]byte
	slots  chan struct{} // one for each hash that may be made at once

	mu      sync.Mutex
	all     *simplelru.LRU[proofKey, bool]
	running map[proofKey]*proof
	waiting int
}

type proofKey [sha256.Size]byte

// proof is a password that is being looked at. ok and err are set when done is closed.
type proof struct {
	done chan struct{}
	ok   bool
	err  error
}

const (
	// Each hash takes 19 MiB and a core: two at once leave room to serve on the smallest node.
	hashesAtOnce = 2

	// With 35 ms for a hash, two of them at once, this many are through in little over a second;
	// on a machine that is busy it takes longer, but nobody waits longer than maxWait.
	maxWaiting = 64
	maxWait    = 5 * time.Second

	// maxProofs are 100 bytes each.
	maxProofs = 1 << 13
)

func newProofs() *proofs {
	all, err := simplelru.NewLRU[proofKey, bool](maxProofs, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	p := &proofs{slots: make(chan struct{}, hashesAtOnce), all: all, running: map[proofKey]*proof{}}
	rand.Read(p.secret[:]) // never fails
	return p
}

// key is the question whether password is that of user, whose stored hash is this.
func (p *proofs) key(user, stored, password string) proofKey {
	mac := hmac.New(sha256.New, p.secret[:])
	for _, part := range []string{user, stored, password} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	return proofKey(mac.Sum(nil))
}

// look returns an answer that is known already.
func (p *proofs) look(key proofKey) (ok, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.Get(key)
}

// keep remembers an answer and reports whether it is news.
func (p *proofs) keep(key proofKey, ok bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.all.Get(key)
	p.all.Add(key, ok)
	return !known
}

// check finds an answer by work, which all who ask the same at the same time share. first is
// true for the one of them who had it done. The error is TooManyRequests: too many others wait.
func (p *proofs) check(key proofKey, work func() bool) (ok, first bool, err error) {
	p.mu.Lock()
	if ok, known := p.all.Get(key); known {
		p.mu.Unlock()
		return ok, false, nil
	}
	if running := p.running[key]; running != nil {
		p.mu.Unlock()
		<-running.done // no longer than maxWait and a hash
		return running.ok, false, running.err
	}
	if p.waiting >= maxWaiting {
		p.mu.Unlock()
		return false, true, busy
	}
	mine := &proof{done: make(chan struct{})}
	p.running[key] = mine
	p.waiting++
	p.mu.Unlock()

	mine.ok, mine.err = p.do(work)

	p.mu.Lock()
	p.waiting--
	delete(p.running, key)
	if mine.err == nil {
		p.all.Add(key, mine.ok)
	}
	p.mu.Unlock()
	close(mine.done)
	return mine.ok, true, mine.err
}

// do works as soon as there is a slot.
func (p *proofs) do(work func() bool) (bool, error) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
	case <-timer.C:
		return false, busy
	}
	defer func() { <-p.slots }()
	return work(), nil
}

var busy error = &registry.Fault{Code: registry.TooManyRequests, Message: "too many logins at once: try again", RetryAfter: maxWait}
