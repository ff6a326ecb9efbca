package cache

import (
	"sync"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// saves are the tags whose records are on their way to the layout and the catalog. Those of one
// tag are written one after the other, and of those that wait only the newest: an older one
// that overtakes it would stand there until the tag moves again.
type saves struct {
	mu   sync.Mutex
	next map[tagKey]*save // one entry for each tag that is being written; nil: nothing waits
}

// save is one record to be written.
type save struct {
	record tagRecord
	born   uint64 // the number of the last forgetting when its check began
	moved  bool   // the layout does not know it: the tag points elsewhere there, or nowhere
}

// begin makes the caller the writer of a tag, or leaves s to the one there is.
func (w *saves) begin(k tagKey, s save) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiting, busy := w.next[k]
	if !busy {
		if w.next == nil {
			w.next = map[tagKey]*save{}
		}
		w.next[k] = nil
		return true
	}
	if waiting != nil {
		s.moved = s.moved || waiting.moved
	}
	w.next[k] = &s
	return false
}

// end returns what has come meanwhile, or nil: then the tag has no writer any more.
func (w *saves) end(k tagKey) *save {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.next[k]
	if next == nil {
		delete(w.next, k)
	} else {
		w.next[k] = nil
	}
	return next
}

// busy reports whether a tag of some repositories is being written.
func (w *saves) busy(of func(registry.Repo) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.next {
		if of(k.repo) {
			return true
		}
	}
	return false
}

// save writes a record behind the answer.
func (c *Cache) save(k tagKey, s save) {
	if !c.saves.begin(k, s) {
		return
	}
	started := c.work.start(func() {
		for next := &s; next != nil; next = c.saves.end(k) {
			c.writeTag(k, *next)
		}
	})
	if !started {
		for c.saves.end(k) != nil {
		}
	}
}

// writeTag brings a record to the layout, where that has to know it, and has it written to the
// catalog.
func (c *Cache) writeTag(k tagKey, s save) {
	d := s.record.Digest
	left, ok := c.forgotten.enter(s.born, k.repo, k.tag, string(d))
	if !ok {
		return // and memory has dropped it
	}
	row := func(tx *catalog.Tx) error { return tx.PutTag(k.repo, k.tag, s.record.Tag) }
	if s.record.Gone {
		ctx, cancel := c.keeping()
		defer cancel()
		if err := c.store.Untag(ctx, k.repo.String(), k.tag); err != nil {
			c.fault("remove the link of a tag that is gone upstream", err, "repo", k.repo.String(), "tag", k.tag)
		}
		c.later(row, func(bool) { left() })
		return
	}
	// Nobody takes the manifest away before the row is there that leads to it.
	c.store.Traffic.Come(d, awayPatience)
	if err := c.keepTag(k, d, s.moved); err != nil {
		c.store.Traffic.Came(d)
		c.fault("keep a tag", err, "repo", k.repo.String(), "tag", k.tag)
		c.saved(k, d, false)
		left()
		return
	}
	c.later(row, func(written bool) {
		c.saved(k, d, written)
		c.store.Traffic.Came(d)
		left()
	})
}

func (c *Cache) saved(k tagKey, d registry.Digest, written bool) {
	if !written {
		c.memory.unsaved(k, d)
	}
}

// keepTag writes the link of a tag, if the layout does not know it, once the manifest that it
// leads to is stored: a crash or a full disk must not leave a tag that leads nowhere.
func (c *Cache) keepTag(k tagKey, d registry.Digest, moved bool) error {
	ctx, cancel := c.keeping()
	defer cancel()
	if keep := c.keeps.pending(contentKey{k.repo, d}); keep != nil {
		if _, err := keep.wait(ctx); err != nil {
			return err
		}
	}
	if _, err := c.store.Stat(ctx, d); err != nil || !moved {
		return err
	}
	return c.store.Tag(ctx, k.repo.String(), k.tag, d)
}
