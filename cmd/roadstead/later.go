package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"roadstead/storage/catalog"
	"roadstead/storage/s3"
)

// A server whose database or bucket is away when it starts is not helped by being started again and
// again. It opens what is there, serves what it can, says what is missing, and looks for that by itself
// (FAULTS S12, S14).
//
// What refuses us is something else: a password or a name is wrong. Where the same configuration has
// never worked that is a mistake, and the start ends with what to do about it, for whoever has just
// written it. Where it has, somebody has changed the other side, and will change it back; so it counts
// as away.

// workedFile is in a data directory from when everything that its configuration names was there. In it
// is what that was.
const workedFile = "worked"

// openLater is openData for what may be away, which is what Data.away tells then; begin is to be called
// until it succeeds.
func openLater(ctx context.Context, s Storage) (*Data, error) {
	if s.Catalog == "" {
		return openWithFile(ctx, s)
	}
	if err := s.lonely(); err != nil {
		return nil, err
	}
	d, err := locked(ctx, s, func(_ context.Context, s Storage) (*Data, error) {
		d, err := contentOnly(s)
		if err != nil {
			return nil, err
		}
		if d.Catalog, err = catalog.Later(s.catalogURL()); err != nil {
			d.Close()
			return nil, err
		}
		d.together()
		return d, nil
	})
	if err != nil {
		return nil, err
	}
	d.away = d.begin(ctx, s)
	if d.away != nil && (errors.Is(d.away, errOtherBucket) || !passing(d.away) && !s.worked()) {
		return nil, errors.Join(d.away, d.Close())
	}
	return d, nil
}

// openWithFile opens a directory with a catalog in a file. With content in a bucket that is away this
// needs the catalog to be there already: whether it lacks something nobody could tell.
func openWithFile(ctx context.Context, s Storage) (*Data, error) {
	if s.S3.Bucket == "" || !exists(s.Directory, catalogFile) {
		content, err := s.holds(ctx)
		if err != nil {
			return nil, err
		}
		if content && !exists(s.Directory, catalogFile) {
			return nil, errUnknown(s)
		}
	} else if err := s.lonely(); err != nil {
		return nil, err
	}
	d, err := lockData(ctx, s)
	if err != nil {
		return nil, err
	}
	if s.S3.Bucket == "" {
		return d, nil
	}
	if err := d.meetLater(ctx, s); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// begin brings the catalog up to date and finds out whether it knows what content there is, and whether
// the bucket is that of the catalog. Of one that is away it does not wait to hear that.
func (d *Data) begin(ctx context.Context, s Storage) error {
	if err := d.Catalog.Prepare(ctx); err != nil {
		return err
	}
	if s.Catalog == "" {
		return nil
	}
	if err := d.know(ctx, s); err != nil {
		return err
	}
	return d.meetLater(ctx, s)
}

// passing reports whether an error of a start is one that goes by itself.
func passing(err error) bool {
	return errors.Is(err, catalog.ErrUnavailable) && !errors.Is(err, catalog.ErrRefused) || s3.Away(err)
}

// lacking is which part an error of begin is of.
func lacking(err error) string {
	if s3.Ours(err) {
		return "bucket"
	}
	return "catalog"
}

// place is the catalog and the bucket, without secrets.
func (s Storage) place() string { return s.Catalog + "\n" + s.S3.String() + "\n" }

// worked reports whether catalog and bucket were there once as they are configured now.
func (s Storage) worked() bool {
	was, err := os.ReadFile(filepath.Join(s.Directory, workedFile))
	return err == nil && string(was) == s.place()
}

func (s Storage) keepWorked() error {
	if s.worked() {
		return nil
	}
	// Lost, or written in part, it is as if nothing had worked yet.
	if err := os.WriteFile(filepath.Join(s.Directory, workedFile), []byte(s.place()), 0o644); err != nil {
		return fmt.Errorf("keep that the catalog and the bucket were found: %w", err)
	}
	return nil
}

const (
	// beginEvery is how soon what is away is looked for again. It doubles up to mostBetween, so that a
	// server that starts is not asked by a hundred nodes at once, and is found within seconds.
	beginEvery  = 500 * time.Millisecond
	mostBetween = 5 * time.Second
)
