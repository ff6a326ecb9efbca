package main

import (
	"cmp"
	"fmt"
	"path/filepath"

	"roadstead/registry/admin"
	"roadstead/storage"
)

// Hot is where copies of what is used lie on this node when content is in a bucket.
type Hot struct {
	Directory string // "": hot, in the directory of the storage
	Size      int64  // bytes; zero: as Share says; negative: there are no copies
	Share     int    // percent of the filesystem
}

// hotFolder is what it is called there.
const hotFolder = "hot"

var hotFields = []field[Hot]{
	{"directory", func(v value, h *Hot) { v.setPath(&h.Directory) }},
	{"size", func(v value, h *Hot) {
		if percent := v.setShare(&h.Size, &h.Share, 90); !percent && h.Size == 0 && !v.doc.faulty[v.path] {
			h.Size = -1
		}
	}},
}

// copies is what the storage room is told of it.
func (s Storage) copies() storage.Hot {
	if s.S3.Bucket == "" || s.Hot.Size < 0 {
		return storage.Hot{}
	}
	return storage.Hot{Dir: cmp.Or(s.Hot.Directory, filepath.Join(s.Directory, hotFolder)), Size: s.Hot.Size, Share: s.Hot.Share}
}

// checkHot looks for copies of what is nowhere else.
func (f *file) checkHot(storage value) {
	if line := storage.at("hot"); line > 0 && storage.at("s3") == 0 {
		storage.doc.fault(line, "hot: without a bucket all content is in the directory already", "write s3 beside it, or remove it")
	}
}

func exportHot(m *mapping, h, usual Hot) {
	m.text("directory", h.Directory)
	switch {
	case h.Size < 0:
		m.text("size", "0B")
	case h.Size > 0:
		m.size("size", h.Size, 0)
	case h.Share != usual.Share:
		m.text("size", fmt.Sprintf("%d%%", h.Share))
	}
}

// hotHealth says what is wrong with the copies. That there are none that can be used is no reason to
// turn anybody away: the bucket has it all.
func (h *House) hotHealth() []admin.Component {
	stats, ok := h.data.Store.Hot()
	if !ok || stats.Trouble == nil {
		return nil
	}
	return []admin.Component{component("hot copies", fmt.Errorf("content is read from the bucket instead: %w", stats.Trouble))}
}
