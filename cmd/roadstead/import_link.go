package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
)

// mostPlaced is how often an image is linked anew that other nodes remove from.
const mostPlaced = 20

// cached makes an image a proxy's, as if it had been pulled just now: links first, then all of its rows
// and its tag in one transaction, so that nobody sees a part of it.
func (i *importing) cached(ctx context.Context, w parcel) error {
	known := map[registry.Digest]catalog.Placed{}
	for range mostPlaced {
		if err := i.link(ctx, w); err != nil {
			return err
		}
		gone, unsure, err := i.record(ctx, w, known)
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			if w.name.Digest != "" {
				return nil
			}
			return accord.Tag(ctx, i.data.Store, i.data.Catalog, w.repo, w.name.Tag, w.image.Digest, unsure)
		}
		for _, u := range gone {
			if known[u.Digest], err = accord.Wait(ctx, i.data.Store, i.data.Catalog, u); err != nil {
				return err
			}
		}
	}
	return accord.ErrBusy
}

// link writes the links of an image. What it is made of has been looked for long ago, maybe, and nothing
// may link what is not here.
func (i *importing) link(ctx context.Context, w parcel) error {
	s, repo := i.data.Store, w.repo.String()
	for _, b := range w.blobs {
		if _, err := s.Stat(ctx, b.Digest); err != nil {
			return fmt.Errorf("%s: %w; run it again", b.Digest, err)
		}
		if err := s.LinkBlob(ctx, repo, b.Digest); err != nil {
			return err
		}
	}
	for _, m := range w.manifests {
		if _, err := s.Stat(ctx, m.Digest); err != nil {
			return fmt.Errorf("%s: %w; run it again", m.Digest, err)
		}
		if err := s.LinkManifest(ctx, repo, m.Digest); err != nil {
			return err
		}
	}
	if w.name.Digest != "" {
		return nil
	}
	return s.Tag(ctx, repo, w.name.Tag, w.image.Digest)
}

// record writes the rows, and returns what another node has removed meanwhile, and whether one has
// removed the tag.
func (i *importing) record(ctx context.Context, w parcel, known map[registry.Digest]catalog.Placed) (gone []*catalog.Unplaced, unsure bool, err error) {
	err = i.data.Catalog.Durable(ctx, func(tx *catalog.Tx) (err error) {
		gone = nil // it may run twice
		for d, p := range known {
			tx.Placed(w.repo, d, p)
		}
		add := func(d registry.Digest, err error) error {
			if u, ok := errors.AsType[*catalog.Unplaced](err); ok {
				gone = append(gone, u)
				return nil
			}
			if err != nil {
				return err
			}
			return tx.Linked(catalog.Unlinked{Repo: w.repo, Digest: d})
		}
		var all []registry.Digest
		for _, b := range w.blobs {
			all = append(all, b.Digest)
			if err := add(b.Digest, tx.AddBlob(w.repo, b.Digest, b.Size)); err != nil {
				return err
			}
		}
		for _, m := range w.manifests {
			all = append(all, m.Digest)
			if err := add(m.Digest, tx.AddManifest(w.repo, m.Manifest, m.refs)); err != nil {
				return err
			}
		}
		now := time.Now()
		if err := tx.Touch(all, now); err != nil || len(gone) > 0 {
			return err
		}
		if w.name.Digest == "" {
			if unsure, err = i.tag(tx, w, now); err != nil {
				return err
			}
		}
		return tx.AddAudit(w.entry())
	})
	return gone, unsure, err
}

// tag writes the row of a tag, which counts as checked now.
func (i *importing) tag(tx *catalog.Tx, w parcel, now time.Time) (unsure bool, err error) {
	top := w.manifests[len(w.manifests)-1]
	t := catalog.Tag{Descriptor: top.Descriptor, CheckedAt: now, ChangedAt: now}
	was, err := tx.Tag(w.repo, w.name.Tag)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return false, err
	}
	if was.Digest == t.Digest && !was.Gone {
		t.ChangedAt = was.ChangedAt
	}
	if unsure, err = tx.Untagged(w.repo, w.name.Tag); err != nil {
		return false, err
	}
	if err := tx.PutTag(w.repo, w.name.Tag, t); err != nil {
		return false, err
	}
	if err := tx.Linked(catalog.Unlinked{Repo: w.repo, Tag: w.name.Tag, Digest: t.Digest}); err != nil {
		return false, err
	}
	return unsure, nil
}

// entry is that of the audit log.
func (w parcel) entry() catalog.Entry {
	e := catalog.Entry{
		At: time.Now(), Actor: actor, Action: registry.Create, Kind: registry.Tags, Resource: w.repo.String(), Reference: w.name.Tag,
		Outcome: registry.Done, Detail: "imported " + string(w.image.Digest),
	}
	if w.name.Digest != "" {
		e.Kind, e.Reference = registry.Artifact, string(w.name.Digest)
	}
	return e
}

// pushed makes an image a hosted project's, by the rules of a push.
func (i *importing) pushed(ctx context.Context, w parcel) error {
	for _, b := range w.blobs {
		if err := i.hosted.Take(ctx, w.repo, b.Digest, b.Size); err != nil {
			return err
		}
	}
	for n, m := range w.manifests {
		push := registry.ManifestPush{ContentType: m.MediaType, Digest: m.Digest, Bytes: m.Bytes}
		if n == len(w.manifests)-1 && w.name.Digest == "" {
			push.Tags = []string{w.name.Tag}
		}
		if _, err := i.hosted.PutManifest(ctx, w.repo, push); err != nil {
			return err
		}
	}
	return i.data.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.AddAudit(w.entry()) })
}
