package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"roadstead/storage/catalog"
)

// What projects there are is kept in the directory of a node whose catalog is elsewhere, so that one that
// is started while that is away serves what is for everybody. No account and no readable secret is in it.

const (
	// mindFile has what the catalog said last.
	mindFile = "projects.json"

	// mindEvery is how often it is written again as long as it holds.
	mindEvery = time.Minute

	// mindFor is how long it counts after that. A project may have become private since, elsewhere;
	// an outage of a database that is longer than a day is no outage.
	mindFor = 24 * time.Hour

	// mostMind bounds what is read.
	mostMind = 64 << 20
)

// mind is what is kept.
type mind struct {
	Place      string // of the catalog
	Projects   []catalog.Project
	Registries []catalog.Registry // with their passwords sealed, as in the catalog
}

// keep writes down what is in force. It is written aside and renamed: half of it would be none. When
// that cannot be done nothing is kept: what is there may be of before a project became private.
func (m mind) keep(dir string) error {
	err := m.write(dir)
	if err == nil {
		return nil
	}
	if gone := os.Remove(filepath.Join(dir, mindFile)); !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

func (m mind) write(dir string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, mindFile+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, mindFile))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// inMind is the holding that a node last knew, if that still counts.
func (s Storage) inMind(now time.Time) (holding, bool) {
	f, err := os.Open(filepath.Join(s.Directory, mindFile))
	if err != nil {
		return holding{}, false
	}
	defer f.Close()
	var m mind
	info, err := f.Stat()
	if err == nil {
		err = json.NewDecoder(io.LimitReader(f, mostMind)).Decode(&m)
	}
	if err != nil || m.Place != s.place() || now.Sub(info.ModTime()).Abs() > mindFor {
		return holding{}, false
	}
	return holding{projects: m.Projects, registries: m.Registries}, true
}

// remember keeps what has just been put in force, or still is. It is for Run's goroutine.
func (h *House) remember(s Storage, next holding) {
	if s.Catalog == "" || h.missing.error() != nil {
		return
	}
	h.remembered = time.Now()
	if err := (mind{s.place(), next.projects, next.registries}).keep(s.Directory); err != nil {
		h.log.Warn("a start without the catalog would not know the projects there are", "err", err)
	}
}

// remind is remember from time to time, of what the catalog has just said again.
func (h *House) remind(s Storage, next holding) {
	if time.Since(h.remembered) >= mindEvery/2 {
		h.remember(s, next)
	}
}

// keepInMind has Run's goroutine look from time to time whether what is kept still holds, and write it
// once more, until ctx ends.
func (h *House) keepInMind(ctx context.Context, s Storage) error {
	tick := time.NewTicker(mindEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if s.Catalog != "" && answers(ctx, h.data.Catalog) {
				_ = h.putInForce(ctx) // which says what is wrong; then nothing is written
			}
		}
	}
}
