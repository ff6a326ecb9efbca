package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"roadstead/registry"
	"roadstead/registry/archive"
)

// output is what an export is written to.
type output struct {
	path        string
	dir         bool
	format      string // "oci" or "docker"
	compression string
}

// partSuffix is what a file is called that is not whole yet.
const partSuffix = ".part"

// write writes the chosen images, without the blobs that were carried before.
func (p *packing) write(ctx context.Context, out output, before []archive.Carried) error {
	had := map[registry.Digest]bool{}
	for _, c := range before {
		had[c.Digest] = true
	}
	// Manifests are small, and without them nobody could say what an image lacks.
	contents := slices.DeleteFunc(slices.Clone(p.contents), func(d registry.Descriptor) bool { return had[d.Digest] && !p.manifest[d.Digest] })
	if out.format == "docker" {
		// Which has none, and whoever loads it makes others.
		contents = slices.DeleteFunc(contents, func(d registry.Descriptor) bool { return p.manifest[d.Digest] })
		p.carried = slices.DeleteFunc(p.carried, func(c archive.Carried) bool { return p.manifest[c.Digest] })
	}
	var total int64
	for _, d := range contents {
		total += d.Size
	}
	progress := newTransfer(p.std, "exporting", total)
	w := archive.Writing{Images: p.images, Contents: contents, Open: p.open, Wrote: progress.Add}
	var err error
	if out.dir {
		err = writeDir(ctx, out, w)
	} else {
		err = writeFile(ctx, out, w)
	}
	progress.End()
	if err != nil {
		return fmt.Errorf("export to %s: %w", out.path, err)
	}
	if err := p.writeCarried(out.path+".digests", before); err != nil {
		return err
	}
	for i, image := range p.images {
		fmt.Fprintf(p.std.out, "%s  %s  %s\n", image.Name, image.Digest, bytesText(p.sizes[i]))
	}
	images := slices.DeleteFunc(slices.Clone(p.images), func(i archive.Image) bool { return i.Accessory })
	left := ""
	if n := len(p.contents) - len(contents); n > 0 && len(before) > 0 {
		left = fmt.Sprintf(", without %d blobs that were carried before", n)
	}
	fmt.Fprintf(p.std.err, "wrote %s: %s, %s%s; %s.digests says what is on the other side then\n", out.path, imagesText(len(images)), bytesText(total), left, out.path)
	return nil
}

func imagesText(n int) string { return fmt.Sprintf("%d %s", n, either(n == 1, "image", "images")) }

func (p *packing) open(ctx context.Context, d registry.Descriptor) (io.ReadCloser, error) {
	c, err := p.data.Store.Open(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// writeCarried writes what the other side has once it has imported this, and what came before.
func (p *packing) writeCarried(path string, before []archive.Carried) error {
	all, seen := slices.Clone(p.carried), map[registry.Digest]bool{}
	for _, c := range all {
		seen[c.Digest] = true
	}
	for _, c := range before {
		if !seen[c.Digest] {
			seen[c.Digest] = true
			all = append(all, c)
		}
	}
	return replaceFile(path, func(w io.Writer) error { return archive.WriteCarried(w, all) })
}

// writeFile writes a tar file, which has its name once it is whole.
func writeFile(ctx context.Context, out output, w archive.Writing) error {
	return replaceFile(out.path, func(f io.Writer) error {
		t, err := archive.NewTar(f, out.compression)
		if err != nil {
			return err
		}
		w.Files = t
		if out.format == "docker" {
			err = w.Docker(ctx)
		} else {
			err = w.Layout(ctx, false)
		}
		if err != nil {
			return err
		}
		return t.Close()
	})
}

// replaceFile writes a file aside and then gives it its name.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path + partSuffix)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	buffered := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(write(buffered), buffered.Flush()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// writeDir writes the directory of a layout, or goes on with one that is not whole: its index comes last.
func writeDir(ctx context.Context, out output, w archive.Writing) error {
	entries, err := os.ReadDir(out.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 && !exists(out.path, "oci-layout") && !exists(out.path, "blobs") {
		return errors.New("the directory has something else in it: name another one")
	}
	w.Files = folder(out.path)
	return w.Layout(ctx, true)
}

// folder is a directory as archive.Files.
type folder string

// Has reports whether a file is there. It has its name only when it was whole.
func (f folder) Has(name string, size int64) bool {
	info, err := os.Stat(filepath.Join(string(f), name))
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// Put writes a file.
func (f folder) Put(name string, size int64, r io.Reader) error {
	path := filepath.Join(string(f), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return replaceFile(path, func(w io.Writer) error {
		n, err := io.Copy(w, r)
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}
