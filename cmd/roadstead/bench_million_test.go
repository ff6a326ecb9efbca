//go:build linux

package main_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// benchMillion measures the start of ours on a directory that has a million blobs, which must
// not be slower than on an empty one.
func benchMillion(b *testing.B, o benchOptions) benchTable {
	origin := newBenchOrigin(b)
	u := origin.listen(b, 0, 0)
	img := origin.image(b, "library/one-more", 10e6)
	answer := &benchFigure{title: "start to first answer, ms", metric: "million-start-ms", atMost: 100}
	idle := &benchFigure{title: "idle RSS, MB", metric: "million-idle-MB", atMost: 40}
	table := benchTable{title: "process, a million blobs", rows: []*benchFigure{answer, idle}}
	for _, r := range startAll(b, []string{ours}, u, func(c contestant) bool { return c.name == ours }) {
		warm(b, r, u, img)
		r.stop(b)
		fillCatalog(b, filepath.Join(r.dir, "data"))
		if o.million == "files" {
			fillDirectory(b, filepath.Join(r.dir, "data"))
		}
		for range o.rounds {
			answer.sample(r.name, benchSample{value: milliseconds(restart(b, &r, u, img))})
			time.Sleep(time.Second)
			idle.sample(r.name, benchSample{value: megabytes(b, r)})
		}
		table.columns = append(table.columns, r.name)
	}
	return table
}

// Blobs of a large cache, over as many repositories as one has.
const (
	manyBlobs        = 1_000_000
	manyRepositories = 1_000
)

func manyDigest(i int) digest.Digest {
	sum := sha256.Sum256(fmt.Append(nil, i))
	return digest.NewDigestFromBytes(digest.SHA256, sum[:])
}

// fillCatalog writes the blobs' rows as the cache would.
func fillCatalog(b *testing.B, data string) {
	b.Helper()
	ctx := context.Background()
	db, err := catalog.Open(ctx, "sqlite:"+filepath.Join(data, "catalog.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for i := 0; i < manyBlobs; {
		err := db.Update(ctx, func(tx *catalog.Tx) error {
			for range manyBlobs / 100 {
				repo := registry.Repo{Project: "docker.io", Name: fmt.Sprintf("library/many-%d", i%manyRepositories)}
				if err := tx.AddBlob(repo, manyDigest(i), int64(i)); err != nil {
					return err
				}
				i++
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// fillDirectory writes the blobs' files. They share a few inodes: what could cost time at a
// start is to look at their names.
func fillDirectory(b *testing.B, data string) {
	b.Helper()
	blobs := filepath.Join(data, "docker/registry/v2/blobs/sha256")
	shared := ""
	for i := range manyBlobs {
		hex := manyDigest(i).Encoded()
		dir := filepath.Join(blobs, hex[:2], hex)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		file := filepath.Join(dir, "data")
		// ext4 allows 65,000 links to a file.
		if i%50_000 == 0 {
			writeFile(b, file, "blob")
			shared = file
		} else if err := os.Link(shared, file); err != nil {
			b.Fatal(err)
		}
	}
}
