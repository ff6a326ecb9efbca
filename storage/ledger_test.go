package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// layout is what lies in a directory or behind a driver, found by plain calls and nothing of
// the package.
type layout struct {
	content map[digest.Digest]bool
	links   map[string]string // path below repositories → content of the link file
	drafts  []string
	uploads map[string][]byte // with a note
	wrong   []string          // content or links that are visible and not whole
}

func look(root string) (layout, error) {
	l := layout{content: map[digest.Digest]bool{}, links: map[string]string{}, uploads: map[string][]byte{}}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if name == root && errors.Is(err, fs.ErrNotExist) {
			return nil // the directory itself may be what a power cut has taken
		}
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		l.add(rel, b)
		return err
	})
	return l, err
}

func lookBehind(d storagedriver.StorageDriver) (layout, error) {
	l := layout{content: map[digest.Digest]bool{}, links: map[string]string{}, uploads: map[string][]byte{}}
	err := d.Walk(context.Background(), "/", func(info storagedriver.FileInfo) error {
		if info.IsDir() {
			return nil
		}
		b, err := d.GetContent(context.Background(), info.Path())
		l.add(info.Path()[1:], b)
		return err
	})
	if errors.As(err, &storagedriver.PathNotFoundError{}) {
		return l, nil
	}
	return l, err
}

func (l *layout) add(name string, b []byte) {
	if rest, ok := strings.CutPrefix(name, "docker/registry/v2/blobs/"); ok {
		l.addBlob(rest, b)
	}
	if rest, ok := strings.CutPrefix(name, "docker/registry/v2/repositories/"); ok {
		l.addLink(rest, b)
	}
	if id, ok := strings.CutPrefix(name, "drafts/uploads/"); ok && !strings.HasSuffix(id, ".note") {
		l.uploads[id] = b
	} else if strings.HasPrefix(name, "drafts/") && !ok {
		l.drafts = append(l.drafts, name)
	}
}

func (l *layout) addBlob(name string, b []byte) {
	part := strings.Split(name, "/") // <alg> <2 hex> <hex> data
	if len(part) != 4 || part[3] != "data" || !strings.HasPrefix(part[2], part[1]) {
		l.wrong = append(l.wrong, name+": not a place for content")
		return
	}
	d := digest.Digest(part[0] + ":" + part[2])
	if got := sum(digest.Algorithm(part[0]), b); got != d {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %d bytes of %s", name, len(b), got))
		return
	}
	l.content[d] = true
}

func (l *layout) addLink(name string, b []byte) {
	if err := digest.Digest(b).Validate(); err != nil || filepath.Base(name) != "link" {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %q", name, b))
		return
	}
	l.links[name] = string(b)
}

func mustLook(t testing.TB, root string) layout {
	t.Helper()
	l, err := look(root)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// value is what a key of the ledger stands for, or "" when nothing is there.
func (l *layout) value(key string) string {
	part := strings.Fields(key)
	dir := func(d string) string { return "/" + strings.Replace(d, ":", "/", 1) + "/link" }
	switch part[0] {
	case "content":
		if l.content[digest.Digest(part[1])] {
			return "whole"
		}
		return ""
	case "layer":
		return l.links[part[1]+"/_layers"+dir(part[2])]
	case "manifest":
		return l.links[part[1]+"/_manifests/revisions"+dir(part[2])]
	case "tag":
		return l.links[part[1]+"/_manifests/tags/"+part[2]+"/current/link"]
	}
	panic("no such key: " + key)
}

// ledger is what somebody was promised: for each key the values that it may have now. After
// "done" that is one; after "try" the new one as well.
type ledger map[string][]string

// read takes lines of a journal. An unfinished last line promises nothing.
func (l ledger) read(journal string) {
	for line := range strings.Lines(journal) {
		part := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(part) != 3 || !strings.HasSuffix(line, "\n") {
			continue
		}
		key, value := part[1], part[2]
		switch {
		case part[0] == "done":
			l[key] = []string{value}
		case l[key] == nil:
			l[key] = []string{"", value}
		default:
			l[key] = append(l[key], value)
		}
	}
}

// broken lists the promises that what is there does not keep, and how many were made.
func (l ledger) broken(have layout) (broken []string, promises int) {
	for key, allowed := range l {
		if len(allowed) == 1 {
			promises++
		}
		if id, ok := strings.CutPrefix(key, "upload "); ok {
			if err := have.uploadBroken(id, allowed); err != nil {
				broken = append(broken, err.Error())
			}
			continue
		}
		kept := false
		got := have.value(key)
		for _, v := range allowed {
			kept = kept || v == got
		}
		if !kept {
			broken = append(broken, fmt.Sprintf("%s is %q, promised %q", key, got, allowed))
		}
	}
	return broken, promises
}

// uploadBroken says what is wrong with an upload that was promised to be as long as the least of
// these, unless it may be gone.
func (l *layout) uploadBroken(id string, allowed []string) error {
	least := math.MaxInt
	for _, a := range allowed {
		n, err := strconv.Atoi(a)
		if err != nil {
			return nil // gone
		}
		least = min(least, n)
	}
	b, ok := l.uploads[id]
	if !ok || len(b) < least || !bytes.Equal(b[:least], uploaded(id)[:least]) {
		return fmt.Errorf("upload %s is %d bytes (there: %t), promised %q of it", id, len(b), ok, allowed)
	}
	return nil
}

// journal writes the ledger's lines; each line is one write, so that a reader at the other end
// of a pipe has all that was promised before the writer died.
type journal func(line string)

func (j journal) attempt(key, value string, do func() error) error {
	j("try\t" + key + "\t" + value + "\n")
	err := do()
	if err == nil {
		j("done\t" + key + "\t" + value + "\n")
	}
	return err
}

// attemptAll is attempt for what does several things at once.
func (j journal) attemptAll(of map[string]string, do func() error) error {
	for key, value := range of {
		j("try\t" + key + "\t" + value + "\n")
	}
	err := do()
	for key, value := range of {
		if err == nil {
			j("done\t" + key + "\t" + value + "\n")
		}
	}
	return err
}
