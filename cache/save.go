package cache

import (
	"errors"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/accord"
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
	started := c.work.start(func() { c.writeTags(k, &s) })
	if !started {
		for c.saves.end(k) != nil {
		}
	}
}

const (
	// storing is how long it is waited, at first, for the node from which a manifest came to store it.
	// That waits for a quiet moment too, for at most restless.
	storing = 500 * time.Millisecond

	// lastTry doubles that three times, 7.5 s together: who has not stored it by then will not.
	lastTry = 4
)

// writeTags is the writer of a tag: of a record, and of those that come meanwhile.
func (c *Cache) writeTags(k tagKey, next *save) {
	for ; next != nil; next = c.saves.end(k) {
		for try := 0; !c.writeTag(k, *next, try); try++ {
			select {
			case <-time.After(c.storing << try):
			case <-c.life.Done():
				try = lastTry - 1
			}
		}
	}
}

// writeTag brings a record to the layout, where that has to know it, and has it written to the
// catalog. It returns false when it is to be tried again, because another node that has sent the
// manifest has not stored it yet. The last try stores it here: without the record a node that
// starts while upstream is away would serve what the tag was before.
func (c *Cache) writeTag(k tagKey, s save, try int) (done bool) {
	d := s.record.Digest
	if try > 0 && c.writtenElsewhere(k, d) {
		return true
	}
	left, ok := c.forgotten.enter(s.born, k.repo, k.tag, string(d))
	if !ok {
		return true // and memory has dropped it
	}
	if s.record.Gone {
		ctx, cancel := c.keeping()
		defer cancel()
		if err := c.store.Untag(ctx, k.repo.String(), k.tag); err != nil {
			c.fault("remove the link of a tag that is gone upstream", err, "repo", k.repo.String(), "tag", k.tag)
		}
		c.saveRow(k, s, func(bool) { left() })
		return true
	}
	// Nobody takes the manifest away before the row is there that leads to it.
	c.store.Traffic.Come(d, awayPatience)
	err := c.keepTag(k, d, s.moved)
	if errors.Is(err, storage.ErrNotFound) && try < lastTry && c.comesElsewhere(k.repo, d) {
		c.store.Traffic.Came(d)
		left()
		return false
	}
	if errors.Is(err, storage.ErrNotFound) && try > 0 && c.bring(contentKey{k.repo, d}, s.born) {
		err = c.keepTag(k, d, s.moved)
	}
	if err != nil {
		c.store.Traffic.Came(d)
		c.fault("keep a tag", err, "repo", k.repo.String(), "tag", k.tag)
		c.saved(k, d, false)
		left()
		return true
	}
	c.saveRow(k, s, func(written bool) {
		c.saved(k, d, written)
		c.store.Traffic.Came(d)
		left()
	})
	return true
}

// comesElsewhere reports whether another node has sent a manifest, and is storing it.
func (c *Cache) comesElsewhere(repo registry.Repo, d registry.Digest) bool {
	p, err := c.project(repo)
	return err == nil && p.keptElsewhere(d)
}

// writtenElsewhere reports whether the catalog has a tag as it is. The node that has sent its manifest
// has been asked for it by the tag then, or by the digest alone.
func (c *Cache) writtenElsewhere(k tagKey, d registry.Digest) bool {
	ctx, cancel := c.keeping()
	defer cancel()
	t, err := c.catalog.Tag(ctx, k.repo, k.tag)
	return err == nil && t.Digest == d && !t.Gone
}

// bring stores a manifest that memory has, and reports whether it could.
func (c *Cache) bring(k contentKey, born uint64) bool {
	m, ok := c.memory.manifest(k.digest)
	if !ok {
		return false
	}
	m, refs, err := registry.ParseManifest(m.MediaType, k.digest, m.Bytes)
	if err != nil {
		return false
	}
	l := c.memory.addLink(k, m.Size)
	l.direct.Store(true)
	_, err = c.storeManifest(k, l, m, refs, born)
	return err == nil
}

// saveRow has a record written to the catalog. Where other nodes write too, one of a tag that was
// forgotten since is not, and whoever asks next asks upstream; and the link in the layout is looked at
// once more, because they may have moved it meanwhile.
func (c *Cache) saveRow(k tagKey, s save, ended func(written bool)) {
	var saved, moved, unsure bool
	c.later(func(tx *catalog.Tx) (err error) {
		if saved, moved, err = tx.SaveTag(k.repo, k.tag, s.record.Tag, s.record.seen); err != nil || !saved {
			return err
		}
		unsure, err = tx.Untagged(k.repo, k.tag)
		return err
	}, func(written bool) {
		d := s.record.Digest
		if written && !saved {
			c.memory.untag(k, d)
			c.work.start(func() { c.settleTag(k) }) // or the next who moves it does
			ended(false)
			return
		}
		if !written || !c.catalog.Shared() || !s.moved && !moved {
			ended(written)
			return
		}
		if s.record.Gone {
			d = ""
		}
		started := c.work.start(func() {
			ctx, cancel := c.keeping()
			defer cancel()
			if err := accord.Tag(ctx, c.store, c.catalog, k.repo, k.tag, d, unsure); err != nil {
				c.fault("look at the link of a tag", err, "repo", k.repo.String(), "tag", k.tag)
			}
			ended(true)
		})
		if !started {
			ended(true)
		}
	})
}

// settleTag has the link of a tag as the catalog says, after it was written for nothing.
func (c *Cache) settleTag(k tagKey) {
	ctx, cancel := c.keeping()
	defer cancel()
	if err := accord.Settle(ctx, c.store, c.catalog, k.repo, k.tag); err != nil {
		c.fault("take back the link of a tag that is forgotten", err, "repo", k.repo.String(), "tag", k.tag)
	}
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
