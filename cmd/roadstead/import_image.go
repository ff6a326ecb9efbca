package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"roadstead/registry"
	"roadstead/registry/archive"
	"roadstead/rewrite"
	"roadstead/storage"
)

// parcel is an image of an archive with all that it is made of, or with what it lacks.
type parcel struct {
	image     archive.Image
	unnamed   bool
	name      rewrite.Image
	repo      registry.Repo
	manifests []read // those that are named before the one that names them
	blobs     []registry.Descriptor
	missing   []registry.Descriptor
	others    int // of the images of an index, those that are not in the archive
	bytes     int64
}

// read is a manifest that was read.
type read struct {
	registry.Manifest
	refs registry.References
}

// look finds out where an image goes and what it is made of, and changes nothing that can be seen.
func (i *importing) look(ctx context.Context, image archive.Image) (parcel, error) {
	w := parcel{image: image}
	text, ok := i.called(image.Name)
	if !ok {
		w.unnamed = true
		return w, nil
	}
	var err error
	if w.name, err = rewrite.ParseImage(text); err != nil {
		return w, err
	}
	if w.name.Digest != "" && w.name.Digest != image.Digest {
		return w, fmt.Errorf("%s is %s in the archive", w.name, image.Digest)
	}
	if w.repo, err = i.place(w.name); err != nil {
		return w, err
	}
	if image.Made != nil {
		if _, err := i.keep(ctx, image.Digest, image.Size, bytes.NewReader(image.Made)); err != nil {
			return w, err
		}
	}
	if err := w.gather(ctx, i, image.Descriptor, map[registry.Digest]bool{}); err != nil {
		return w, fmt.Errorf("%s: %w", w.name, err)
	}
	return w, nil
}

// called is the name of an image, with the help of --name where the archive has none or a tag alone.
func (i *importing) called(name string) (string, bool) {
	switch {
	case strings.ContainsAny(name, "/:"):
		return name, true
	case i.name == "":
		return "", false
	case name == "" || strings.Contains(i.name[strings.LastIndexByte(i.name, '/')+1:], ":"):
		return i.name, true
	}
	return i.name + ":" + name, true
}

// place is the repository that an image gets into.
func (i *importing) place(name rewrite.Image) (registry.Repo, error) {
	if i.project == "" {
		repo, err := i.table.Place(name, i.self...)
		if err != nil {
			return repo, fmt.Errorf("%w; --project says which project gets it", err)
		}
		return repo, nil
	}
	if !i.table.Known(i.project) {
		return registry.Repo{}, fmt.Errorf("there is no project %s: \"roadstead project create %s\" makes one", i.project, i.project)
	}
	repo := registry.Repo{Project: i.project, Name: name.Name}
	return repo, registry.CheckName(repo.String())
}

// mostInMind is how much of the manifests of an archive is looked at before the first of its images can
// be pulled, which is in memory until then. Those of an RKE2 release are a few hundred KiB; an index may
// name the same manifest of 4 MiB ten thousand times.
const mostInMind = 256 << 20

// gather finds all that a manifest is made of. Of an index images may be left out, all but one: archives
// are made for some platforms.
func (w *parcel) gather(ctx context.Context, i *importing, d registry.Descriptor, seen map[registry.Digest]bool) error {
	if seen[d.Digest] {
		return nil
	}
	seen[d.Digest] = true
	body, err := i.data.Store.Read(ctx, d.Digest, registry.MaxManifest)
	if err == nil {
		err = w.permitted(ctx, i, d)
	}
	if errors.Is(err, storage.ErrNotFound) {
		w.missing = append(w.missing, d)
		return nil
	}
	if err != nil {
		return err
	}
	if i.room -= int64(len(body)); i.room < 0 {
		return fmt.Errorf("the manifests of its images are larger than %s together: split the archive", bytesText(mostInMind))
	}
	m, refs, err := registry.ParseManifest(d.MediaType, d.Digest, body)
	if err != nil {
		return err
	}
	others := 0
	for _, child := range refs.Manifests {
		_, err := i.data.Store.Stat(ctx, child.Digest)
		if err == nil {
			err = w.permitted(ctx, i, child)
		}
		switch {
		case errors.Is(err, storage.ErrNotFound):
			others++
		case err != nil:
			return err
		default:
			if err := w.gather(ctx, i, child, seen); err != nil {
				return err
			}
		}
	}
	if others > 0 && others == len(refs.Manifests) {
		w.missing = append(w.missing, refs.Manifests...)
	}
	w.others += others
	for _, blob := range refs.Blobs() {
		if err := w.blob(ctx, i, blob, seen); err != nil {
			return err
		}
	}
	w.manifests = append(w.manifests, read{m, refs})
	w.bytes += m.Size
	return nil
}

// permitted is storage.ErrNotFound for what is here, and is not for whoever pulls this image.
func (w *parcel) permitted(ctx context.Context, i *importing, d registry.Descriptor) error {
	may, err := i.may(ctx, w.repo, d.Digest)
	if err == nil && !may {
		err = storage.ErrNotFound
	}
	return err
}

func (w *parcel) blob(ctx context.Context, i *importing, blob registry.Descriptor, seen map[registry.Digest]bool) error {
	if seen[blob.Digest] {
		return nil
	}
	seen[blob.Digest] = true
	size, err := i.data.Store.Stat(ctx, blob.Digest)
	if err == nil {
		err = w.permitted(ctx, i, blob)
	}
	switch {
	case errors.Is(err, storage.ErrNotFound) && len(blob.URLs) > 0:
		return nil // it lives elsewhere for good
	case errors.Is(err, storage.ErrNotFound):
		w.missing = append(w.missing, blob)
		return nil
	case err != nil:
		return err
	case size != blob.Size:
		return fmt.Errorf("%s has %d bytes, and its manifest says %d", blob.Digest, size, blob.Size)
	}
	w.blobs = append(w.blobs, blob)
	w.bytes += size
	return nil
}

// mostMissing is how many missing pieces of an image are named.
const mostMissing = 20

// show makes an image visible, or says what it lacks.
func (i *importing) show(ctx context.Context, w parcel) error {
	if i.hosted.Has(w.repo.Project) && w.others > 0 && len(w.missing) == 0 {
		return fmt.Errorf("%s: %d images of its index are not in the archive, and a project that people push to takes an index whole: export it with --all-platforms, or for one platform", w.name, w.others)
	}
	if len(w.missing) > 0 {
		i.lacking++
		i.progress.Found("%s is left out: it lacks %d pieces of content, which are neither in the archive nor here", w.name, len(w.missing))
		for n, d := range w.missing {
			if n == mostMissing {
				i.progress.Found("  and %d more", len(w.missing)-n)
				break
			}
			i.progress.Found("  %s %s", d.Digest, bytesText(d.Size))
		}
		return nil
	}
	into := i.cached
	if i.hosted.Has(w.repo.Project) {
		into = i.pushed
	}
	if err := into(ctx, w); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	i.done++
	if w.image.Accessory {
		i.signatures++
	}
	called := w.repo.String()
	if w.name.Digest == "" {
		called += ":" + w.name.Tag
	}
	note := ""
	if w.others > 0 {
		note = fmt.Sprintf("  (%d other images of its index are not here)", w.others)
	}
	i.progress.Found("%s  %s  %s%s", called, w.image.Digest, bytesText(w.bytes), note)
	return nil
}
