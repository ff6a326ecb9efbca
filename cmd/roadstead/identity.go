package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/s3"
)

// A catalog and the bucket that it is of have the same id. A node that is given another bucket would
// answer that what was pushed is damaged, and keep what is pushed where no other node looks for it.

const (
	// identityObject has the id in a bucket: below the prefix, so that a copy of all of it is as good, and
	// beside the layout, where nobody looks who looks for content.
	identityObject = "/roadstead/id"

	// identitySetting has it in a catalog.
	identitySetting = "bucket"

	// samples are how many pieces of content are looked for in a bucket without an id. One of them is
	// enough: which others are missing is for a scrub to say.
	samples = 20

	// recognizing is how long a start waits for the bucket. A node that can do without it is to answer
	// before somebody takes it for dead.
	recognizing = 3 * time.Second
)

// identity is what a catalog says of its bucket.
type identity struct {
	ID    string `json:"id"`
	Place string `json:"place"` // where it was when it was last looked at, for people
	Kept  bool   `json:"kept"`  // the bucket has had the id
}

// errOtherBucket is of a bucket that is not the one of the catalog. It does not go by itself.
var errOtherBucket = errors.New("the bucket is not that of the catalog")

// recognize finds out whether the bucket is that of the catalog, and gives both an id if they have none,
// as those of an older version. The error is errOtherBucket if it is not. The bucket is waited for no
// longer than recognizing.
func (d *Data) recognize(ctx context.Context, s Storage) error {
	soon, cancel := context.WithTimeout(ctx, recognizing)
	defer cancel()
	// In this order: when the catalog says that the bucket has had the id, it has it after that.
	known, err := d.catalogID(ctx)
	if err != nil {
		return err
	}
	there, err := d.bucketID(soon)
	if err != nil {
		return err
	}
	if there == "" || known.ID == "" {
		few, err := d.Catalog.Sample(ctx, samples)
		if err != nil {
			return err
		}
		if err := d.familiar(soon, s, known, few); err != nil {
			return err
		}
		// The catalog decides what nodes that do this at the same time agree on.
		if known, err = d.identify(ctx, identity{ID: cmp.Or(there, rand.Text()), Place: s.Place()}); err != nil {
			return err
		}
		if there, err = d.makeBucketID(soon, known.ID); err != nil {
			return err
		}
	}
	if err := differ(s, known, there); err != nil {
		return err
	}
	if now := (identity{there, s.Place(), true}); known != now {
		return d.belong(ctx, now)
	}
	return nil
}

// differ refuses a bucket with another id than the catalog has. One that has none says nothing.
func differ(s Storage, known identity, there string) error {
	if there == known.ID || there == "" || known.ID == "" {
		return nil
	}
	return fmt.Errorf("%w, which is of %s and has the id %s: %s has the id %s, of another catalog. Name in storage.s3 the bucket and prefix that the other nodes have, or in storage.catalog the catalog of this bucket; if the content has been moved there for good, run \"roadstead adopt\" while no node runs",
		errOtherBucket, known.Place, known.ID, s.Place(), there)
}

// familiar refuses a bucket that has lost its id, or never had one, with none of a few pieces of content
// that the catalog knows.
func (d *Data) familiar(ctx context.Context, s Storage, known identity, few []registry.Digest) error {
	for _, digest := range few {
		_, err := d.Store.Stat(ctx, digest)
		if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	switch {
	case known.Kept: // so it is the bucket that has none
		return fmt.Errorf("%w, which is of %s and has the id %s: %s has neither that nor its content. Name in storage.s3 the bucket and prefix that the other nodes have; if what was there is lost for good, run \"roadstead adopt\" while no node runs, and push it again",
			errOtherBucket, known.Place, known.ID, s.Place())
	case len(few) > 0:
		return fmt.Errorf("%w: that knows content of which %s has nothing. Name in storage.s3 the bucket and prefix that the other nodes have; if what was there is lost for good, run \"roadstead adopt\" while no node runs, and push it again",
			errOtherBucket, s.Place())
	}
	return nil
}

// catalogID is what the catalog says of its bucket, or the zero value.
func (d *Data) catalogID(ctx context.Context) (known identity, err error) {
	err = d.Catalog.Setting(ctx, identitySetting, &known)
	if errors.Is(err, catalog.ErrNotFound) {
		err = nil
	}
	return known, err
}

// bucketID is the id that the bucket has, or "".
func (d *Data) bucketID(ctx context.Context) (string, error) {
	// Whose answer says more of what is wrong than that to HEAD.
	if err := d.bucket.Check(ctx); err != nil {
		return "", err
	}
	there, err := d.bucket.Exists(ctx, identityObject)
	if err != nil || !there {
		return "", err
	}
	b, err := d.bucket.GetContent(ctx, identityObject)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if id == "" || len(id) > 64 || registry.CheckTag(id) != nil {
		return "", fmt.Errorf("%s in the bucket is no id: remove that object, and one is made anew", identityObject)
	}
	return id, nil
}

// makeBucketID gives the bucket an id unless it has one, and returns that which it has.
func (d *Data) makeBucketID(ctx context.Context, id string) (string, error) {
	if _, err := d.bucket.PutIfAbsent(ctx, identityObject, []byte(id+"\n")); err != nil {
		return "", err
	}
	return d.bucketID(ctx)
}

// identify gives the catalog an identity unless it has one, and returns that which it has.
func (d *Data) identify(ctx context.Context, id identity) (identity, error) {
	var has identity
	err := d.Catalog.Durable(ctx, func(tx *catalog.Tx) error {
		has = id
		err := tx.Setting(identitySetting, &has)
		if errors.Is(err, catalog.ErrNotFound) {
			return tx.KeepSetting(identitySetting, id)
		}
		return err
	})
	return has, err
}

// takeBucket is the identity of the bucket, which is given one if it has none: for whoever makes a
// catalog that of what is there.
func (d *Data) takeBucket(ctx context.Context, s Storage) (identity, error) {
	id, err := d.bucketID(ctx)
	if err == nil && id == "" {
		id, err = d.makeBucketID(ctx, rand.Text())
	}
	return identity{id, s.Place(), true}, err
}

// belong makes the catalog that of a bucket, whatever it was.
func (d *Data) belong(ctx context.Context, id identity) error {
	return d.Catalog.Durable(ctx, func(tx *catalog.Tx) error { return tx.KeepSetting(identitySetting, id) })
}

// shareOwn is shareData for who reads or writes content: in a bucket of another catalog all that this one
// knows would be missing, and nobody would find what is put there.
func shareOwn(ctx context.Context, s Storage) (*Data, error) {
	data, err := shareData(ctx, s)
	if err != nil || data.bucket == nil {
		return data, err
	}
	known, err := data.catalogID(ctx)
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	there, err := data.bucketID(ctx)
	if err == nil {
		err = differ(s, known, there)
	}
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return data, nil
}

// meet recognizes the bucket, if there is one, and keeps that all has worked.
func (d *Data) meet(ctx context.Context, s Storage) error {
	if d.bucket != nil {
		if err := d.recognize(ctx, s); err != nil {
			return err
		}
	}
	if err := s.keepWorked(); err != nil {
		return err
	}
	d.met.Store(true)
	return nil
}

// meetLater is meet for a start, which does without a bucket that is away, or that refuses us and has not
// before: see [House.meet]. What is needed of it meanwhile is unavailable.
func (d *Data) meetLater(ctx context.Context, s Storage) error {
	err := d.meet(ctx, s)
	if s3.Ours(err) && (s3.Away(err) || s.worked()) {
		return nil
	}
	return err
}

// meet looks for a bucket that was away when this node began, and ends it when that is another one than
// it should be: what is pushed there nobody would find again.
func (h *House) meet(ctx context.Context, s Storage) error {
	began, said := time.Now(), ""
	for wait := beginEvery; !h.data.met.Load(); wait = min(2*wait, mostBetween) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		if h.missing.error() != nil {
			continue // which is looked for first, and the bucket with it
		}
		err := h.data.meet(ctx, s)
		switch {
		case errors.Is(err, errOtherBucket):
			return err
		case err == nil:
			h.log.Info("the bucket is there", "after", time.Since(began))
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			h.log.Error("the bucket is not there, for which is looked", "err", err)
		}
	}
	<-ctx.Done()
	return nil
}
