package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// keep makes a verified draft the copy of d. It is synced first, or a power cut would leave an empty
// file, or one of anything, under its name; that the name itself may be gone then is no matter.
func (h *hot) keep(draft *Draft, d digest.Digest, size int64) error {
	if err := h.disk.sync(draft.file); err != nil {
		return full(err)
	}
	return h.place(draft.file.Name(), d, size)
}

// place seals a file of verified and synced bytes, and gives it the name of a copy.
func (h *hot) place(file string, d digest.Digest, size int64) error {
	now := time.Now()
	err := h.disk.call("seal", file, func() error { return touch(file, now, seal(d, size)) })
	if err != nil {
		return err
	}
	name := h.path(d)
	err = h.disk.inDir(filepath.Dir(name), func() error {
		return h.disk.call("rename", name, func() error { return os.Rename(file, name) })
	})
	if err != nil {
		return full(err)
	}
	h.mu.Lock()
	one := h.shelf.use(d, size)
	one.stamped, one.checked = now, now
	h.mu.Unlock()
	h.counts.filled.Add(1)
	h.counts.filledBytes.Add(size)
	h.trouble.Store(nil)
	h.trim()
	return nil
}

// touch sets the time of a file's last use, and of its last change unless that is zero.
func touch(name string, used, changed time.Time) error { return os.Chtimes(name, used, changed) }

// take makes the file of a draft, whose bytes are verified and synced, the copy of what it was
// verified to be. Nobody waits for more than a rename. On another file system the copy is made behind
// the caller.
func (h *hot) take(draft *Draft) {
	d, size := draft.verified, draft.Len()
	if size > h.most/2 || h.resting() {
		h.counts.passed.Add(1)
		return
	}
	file := draft.file.Name()
	err := h.place(file, d, size)
	if errors.Is(err, unix.EXDEV) {
		var f *os.File
		if f, err = os.Open(file); err == nil {
			h.bring(d, size, f)
			return
		}
	}
	if err != nil {
		h.refused(err)
	}
}

// put makes a copy of small content that has just been stored, behind the caller.
func (h *hot) put(d digest.Digest, b []byte) {
	h.bring(d, int64(len(b)), io.NopCloser(bytes.NewReader(b)))
}

// bring copies what nobody waits for, and closes it.
func (h *hot) bring(d digest.Digest, size int64, from io.ReadCloser) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, coming := h.coming[d]; coming || h.closed {
		from.Close()
		return
	}
	h.coming[d] = false
	h.work.Go(func() {
		h.copy(d, size, from)
		h.mu.Lock()
		doomed := h.coming[d]
		delete(h.coming, d)
		h.mu.Unlock()
		if doomed {
			h.drop(d)
		}
	})
}

func (h *hot) copy(d digest.Digest, size int64, from io.ReadCloser) {
	defer from.Close()
	draft := h.admit(d, size)
	if draft == nil {
		return
	}
	defer func() { <-h.slots }()
	defer draft.Close()
	_, err := io.CopyBuffer(draft, struct{ io.Reader }{from}, make([]byte, min(max(size, 1), piece)))
	if err == nil {
		err = draft.Verify(d, size)
	}
	if err == nil {
		err = h.keep(draft, d, size)
	}
	if err != nil {
		h.refused(err)
	}
}

// KeepHot has a draft that was verified stay on this machine as a copy of what is stored, or is just
// being stored, by somebody else: nobody may be told because of it that the content is here. Without
// a directory for copies it does nothing. The draft is of no use afterwards but for reading.
func (d *Draft) KeepHot() error {
	h := d.store.hot
	switch {
	case d.err != nil:
		return d.err
	case d.verified == "":
		return errors.New("keep a copy of a draft whose bytes are not verified")
	case h == nil || d.committed:
		return nil
	}
	if err := d.store.disk.sync(d.file); err != nil {
		return d.fail("keep a copy", err)
	}
	d.committed = true
	d.letGo()
	h.take(d)
	return nil
}
