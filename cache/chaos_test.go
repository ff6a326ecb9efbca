package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// ragged is a body that comes in pieces of any size and may go wrong at some byte.
type ragged struct {
	*bytes.Reader
	mu  sync.Mutex
	rnd *rand.Rand
	cut int64 // error here; beyond the end: none
}

func (r *ragged) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.Size() - int64(r.Len())
	if at >= r.cut {
		return 0, errors.New("cut")
	}
	n := min(int64(len(p)), 1+r.rnd.Int64N(64<<10), r.cut-at)
	return r.Reader.Read(p[:n])
}

func (r *ragged) Close() error { return nil }

// Whatever upstream sends, whoever leaves and wherever readers begin: what ends well is right,
// what is kept is right, and an upstream that is well leaves nobody without.
func TestNothingWrongEndsWell(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		content := noise(rnd.IntN(600<<10), byte(seed))
		d := digest.FromBytes(content)
		sent, cut, well := bytes.Clone(content), int64(1<<40), false
		switch fault := rnd.IntN(5); {
		case fault == 0 && len(sent) > 0:
			sent[rnd.IntN(len(sent))]++
		case fault == 1 && len(sent) > 0:
			sent = sent[:rnd.IntN(len(sent))]
		case fault == 2:
			sent = append(sent, noise(1+rnd.IntN(1000), 1)...)
		case fault == 3 && len(sent) > 0:
			cut = rnd.Int64N(int64(len(sent)))
		default:
			well = true
		}
		o := newOrigin()
		o.blobs["x@"+string(d)] = sent
		o.sizeless = rnd.IntN(4) == 0
		o.body = func(_ registry.Digest, b []byte) io.ReadSeekCloser {
			return &ragged{Reader: bytes.NewReader(b), rnd: rand.New(rand.NewPCG(seed, 8)), cut: cut}
		}
		cfg := Config{Projects: []Project{{Name: "docker.io", Upstream: o}}}
		if rnd.IntN(5) == 0 {
			cfg.MaxSize = 1 // nothing can be kept: everybody for himself
		}
		h := newHouse(t, t.TempDir(), cfg)

		var readers sync.WaitGroup
		for i := range 1 + rnd.IntN(8) {
			rnd := rand.New(rand.NewPCG(seed, 100+uint64(i)))
			readers.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b, err := h.Blob(ctx, hub("x"), d)
				if err != nil {
					if well && !(o.sizeless && h.maxSize == 1) {
						t.Errorf("seed %d: %v", seed, err)
					}
					return
				}
				defer b.Close()
				from := int64(0)
				if b.Size > 0 && rnd.IntN(2) == 0 {
					from = rnd.Int64N(b.Size)
					b.Seek(0, io.SeekEnd)
					b.Seek(from, io.SeekStart)
				}
				left := rnd.IntN(4) == 0
				if left {
					io.CopyN(io.Discard, b, rnd.Int64N(1+int64(len(content))))
					cancel()
				}
				got, err := io.ReadAll(b)
				if !left && err == nil && !bytes.Equal(got, content[min(from, int64(len(content))):]) {
					t.Errorf("seed %d: %d bytes from %d ended well and are wrong", seed, len(got), from)
				}
				if !left && well && err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			})
		}
		readers.Wait()
		h.settle(t)
		file := h.file(d)
		kept, err := os.ReadFile(file)
		if err == nil && digest.FromBytes(kept) != d {
			t.Errorf("seed %d: wrong content was kept", seed)
		}
		if well && h.maxSize != 1 && err != nil {
			t.Errorf("seed %d: not kept: %v", seed, err)
		}
		h.stop()
		if left, _ := filepath.Glob(filepath.Join(h.dir, "drafts", "*")); len(left) > 0 {
			t.Errorf("seed %d: drafts were left: %q", seed, left)
		}
	}
}
