package main

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"roadstead/registry"
	"roadstead/storage/catalog"
	"roadstead/storage/postgrestest"
	"roadstead/storage/s3"
	"roadstead/storage/s3test"
)

// inBucket is a storage of a new bucket and a new database.
func inBucket(t *testing.T, s *s3test.Server, database *postgrestest.Server) Storage {
	t.Helper()
	name, err := database.Create("")
	if err != nil {
		t.Fatal(err)
	}
	return Storage{
		Directory: t.TempDir(), Floor: -1, Hot: Hot{Size: -1}, Catalog: database.Place(name), CatalogPassword: Secret(postgrestest.Password),
		S3: S3{Config: s3.Config{Endpoint: s.Endpoint, Region: s.Region, Bucket: s.Bucket(t), Prefix: "our/registry", AccessKey: s.AccessKey}, SecretKey: Secret(s.SecretKey)},
	}
}

// ids are those of the bucket and of the catalog.
func ids(t *testing.T, d *Data) (bucket, catalog string) {
	t.Helper()
	bucket, err := d.bucketID(t.Context())
	var known identity
	if err := errors.Join(err, d.Catalog.Setting(t.Context(), identitySetting, &known)); err != nil {
		t.Fatal(err)
	}
	if !known.Kept {
		t.Errorf("the catalog says %+v", known)
	}
	return bucket, known.ID
}

// Nodes that are started for the first time at once agree on one id for all, on servers of any kind: with
// conditions or without.
func TestNodesAgreeOnTheBucket(t *testing.T) {
	t.Parallel()
	database := postgrestest.New(t)
	s3test.Each(t, func(t *testing.T, s *s3test.Server) {
		for name, condition := range map[string]bool{"with conditions": true, "without": false} {
			t.Run(name, func(t *testing.T) {
				place := inBucket(t, s, database)
				if !condition {
					p := s.Proxy(t)
					p.Fail(func(r s3test.Request) s3test.Fault {
						if r.Create {
							return s3test.Fault{Status: 501, Code: "NotImplemented"}
						}
						return s3test.Fault{}
					})
					place.S3.Endpoint = p.Endpoint
				}
				all := make([]*Data, 6)
				var starting sync.WaitGroup
				for i := range all {
					starting.Go(func() {
						own := place
						own.Directory = filepath.Join(place.Directory, string(rune('a'+i)))
						d, err := openData(t.Context(), own)
						if err != nil {
							t.Errorf("node %d: %v", i, err)
							return
						}
						all[i] = d
					})
				}
				starting.Wait()
				for i, d := range all {
					if d == nil {
						continue
					}
					defer d.Close()
					if bucket, catalog := ids(t, d); bucket != catalog || bucket == "" || !d.met.Load() {
						t.Errorf("node %d: the bucket has the id %q, the catalog %q; met: %t", i, bucket, catalog, d.met.Load())
					}
				}
			})
		}
	})
}

// What has an id and what has none: who takes that of whom, and who is refused.
func TestWhoseBucket(t *testing.T) {
	t.Parallel()
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	open := func(place Storage) (*Data, error) {
		t.Helper()
		place.Directory = t.TempDir() // of a node that has never seen any
		d, err := openData(t.Context(), place)
		if err == nil {
			t.Cleanup(func() { d.Close() })
		}
		return d, err
	}
	opened := func(place Storage) *Data {
		t.Helper()
		d, err := open(place)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	refused := func(what string, place Storage, want ...string) {
		t.Helper()
		_, err := open(place)
		if !errors.Is(err, errOtherBucket) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, want := range append(want, place.Place(), "storage.s3", "roadstead adopt") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", what, err, want)
			}
		}
	}
	anew := func(d *Data, bucket, inCatalog bool) { // without its ids, as of an older version
		t.Helper()
		var errs []error
		if bucket {
			errs = append(errs, d.bucket.Delete(t.Context(), identityObject))
		}
		if inCatalog {
			errs = append(errs, d.Catalog.Update(t.Context(), func(tx *catalog.Tx) error { return tx.DropSetting(identitySetting) }))
		}
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	place, other := inBucket(t, s, database), inBucket(t, s, database)
	d := opened(place)
	first, _ := ids(t, d)
	elsewhere := place
	elsewhere.S3.Bucket = s.Bucket(t)
	refused("an empty bucket, before there is content", elsewhere, first, place.Place())
	foreign, _ := ids(t, opened(other))
	elsewhere.S3.Bucket = other.S3.Bucket
	refused("the bucket of another catalog", elsewhere, first, foreign, place.Place())

	// A catalog that was lost, before there was content: the new one takes the id of the bucket.
	lost := inBucket(t, s, database)
	lost.S3 = place.S3
	if got, of := ids(t, opened(lost)); got != first || of != first {
		t.Errorf("a new catalog: the bucket has the id %q, the catalog %q, want %q", got, of, first)
	}

	body := []byte("content")
	digest := registry.Digest("sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73")
	if err := d.Store.Put(t.Context(), digest, body); err != nil {
		t.Fatal(err)
	}
	if err := d.Catalog.Update(t.Context(), func(tx *catalog.Tx) error {
		return tx.AddBlob(registry.SplitRepo("production/app"), digest, int64(len(body)))
	}); err != nil {
		t.Fatal(err)
	}
	for name, older := range map[string]struct{ bucket, catalog bool }{
		"a bucket of an older version": {true, false}, "a catalog of an older version": {false, true}, "both": {true, true},
	} {
		anew(d, older.bucket, older.catalog)
		elsewhere.S3.Bucket = s.Bucket(t)
		refused(name+", and an empty bucket", elsewhere)
		if older.catalog {
			elsewhere.S3.Bucket = other.S3.Bucket
			refused(name+", and the bucket of another catalog", elsewhere)
		}
		before, _ := d.bucketID(t.Context())
		if got, of := ids(t, opened(place)); got != of || got == "" || before != "" && got != before {
			t.Errorf("%s: the bucket had the id %q and has %q, the catalog %q", name, before, got, of)
		}
	}
	elsewhere.S3.Bucket = s.Bucket(t)
	refused("an empty bucket", elsewhere, place.Place())
	wrong, err := contentOnly(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := wrong.bucketID(t.Context()); id != "" || err != nil {
		t.Errorf("a bucket that was refused has an id now: %q, %v", id, err)
	}

	// Somebody says that it is meant.
	id, err := opened(inBucket(t, s, database)).takeBucket(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.belong(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	refused("what was the bucket of the catalog", place, id.ID)
}
