package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/accord"
	"roadstead/storage/catalog"
	"roadstead/storage/s3"
)

// Data is an open data directory.
type Data struct {
	Store   *storage.Store
	Catalog *catalog.DB // nil with contentOnly
	bucket  *s3.Driver  // nil for a directory
	lock    io.Closer   // nil when it was not taken
	away    error       // why begin has not succeeded yet; nil: it has
	met     atomic.Bool // the bucket is that of the catalog
}

// The names in a data directory that others know too: the layout of the stock registry, and
// below it the folder that tells a registry with content from one without.
const (
	catalogFile  = "catalog.db"
	draftsFolder = "drafts"
	layoutFolder = "docker/registry/v2"
	repositories = layoutFolder + "/repositories"
)

// openData opens a data directory that this process alone uses from now on, and makes it if it is not
// there. The bucket and the catalog beside it other nodes may use, too. Its cost does not depend on what
// is in them.
func openData(ctx context.Context, s Storage) (*Data, error) {
	d, err := openLater(ctx, s)
	if err == nil && d.away != nil {
		err = errors.Join(d.away, d.Close())
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// errUnknown refuses content that the catalog does not know. An empty catalog beside it would hide
// all of it, and never evict any.
func errUnknown(s Storage) error {
	adopt, other := "roadstead adopt", "bucket or prefix"
	if s.S3.Bucket == "" {
		adopt, other = "roadstead adopt "+s.Directory, "directory"
	}
	but := "no catalog"
	switch {
	case s.Catalog != "":
		but = "the catalog in PostgreSQL does not know it"
	case s.S3.Bucket != "":
		but = s.Directory + " has no catalog of it"
	}
	return fmt.Errorf("%s holds content and %s: run \"%s\" to take it over, or name another %s", s.Place(), but, adopt, other)
}

// knownContent is the setting that a catalog elsewhere has from when content first came under it. Of
// one in the directory the file itself says that.
const knownContent = "content"

// know makes a catalog elsewhere that of the content here, if there is none that it does not know.
func (d *Data) know(ctx context.Context, s Storage) error {
	known := func() (bool, error) {
		var since time.Time
		err := d.Catalog.Setting(ctx, knownContent, &since)
		if errors.Is(err, catalog.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	if yes, err := known(); yes || err != nil {
		return err
	}
	content, err := s.holds(ctx)
	if err != nil {
		return err
	}
	if content {
		// Another node of a new cluster says that it knows all content before it stores any.
		if yes, err := known(); yes || err != nil {
			return err
		}
		if err := d.whole(ctx); err != nil {
			return err
		}
		return errUnknown(s)
	}
	return d.adopted(ctx)
}

// whole refuses a catalog that another one is being moved into.
func (d *Data) whole(ctx context.Context) error {
	return whole(func(name string, value any) error { return d.Catalog.Setting(ctx, name, value) })
}

// adopted says that the catalog knows all content there is. It does not say so of one that somebody
// has begun to move another one into.
func (d *Data) adopted(ctx context.Context) error {
	return d.Catalog.Durable(ctx, func(tx *catalog.Tx) error {
		if err := whole(tx.Setting); err != nil {
			return err
		}
		return tx.KeepSetting(knownContent, time.Now())
	})
}

// hasCatalog reports whether a server or "adopt" has made a catalog, as far as that can be told from
// here.
func hasCatalog(s Storage) bool { return s.Catalog != "" || exists(s.Directory, catalogFile) }

// catalogURL is what the catalog is opened by.
func (s Storage) catalogURL() string {
	if s.Catalog == "" {
		return "sqlite:" + filepath.Join(s.Directory, catalogFile)
	}
	u, err := url.Parse(s.Catalog)
	if err != nil || s.CatalogPassword == "" {
		return s.Catalog // the parser has looked at it, so there is no error
	}
	query := u.Query()
	query.Set("password", string(s.CatalogPassword))
	u.RawQuery = query.Encode()
	return u.String()
}

// lockData is openData for a directory that may have content and no catalog.
func lockData(ctx context.Context, s Storage) (*Data, error) {
	return locked(ctx, s, openWhole)
}

// locked opens a directory that this process alone uses from now on.
func locked(ctx context.Context, s Storage, open func(context.Context, Storage) (*Data, error)) (*Data, error) {
	if err := os.MkdirAll(s.Directory, 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w; name another one with --data or storage.directory", err)
	}
	lock, err := storage.Lock(s.Directory)
	if err != nil && !errors.Is(err, storage.ErrInUse) {
		return nil, fmt.Errorf("%w; the user that serves has to be able to write to the data directory: give it to that user, or name another one with --data or storage.directory", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; two processes cannot share a directory: stop the other one, or name another directory with --data or storage.directory", err)
	}
	d, err := open(ctx, s)
	if err != nil {
		lock.Close()
		return nil, err
	}
	d.lock = lock
	// What uploads have left in a bucket is swept while the server runs: it may be away now.
	if err := d.Store.SweepDrafts(ctx); err != nil {
		d.Close()
		return nil, fmt.Errorf("remove what an earlier process left: %w", err)
	}
	return d, nil
}

// shareData opens a directory beside a process that may be serving it, which alone has hot copies.
func shareData(ctx context.Context, s Storage) (*Data, error) {
	return openWhole(ctx, s.cold())
}

// cold is for a command: what it reads says nothing of what clients will, and it may be root's, who
// would leave folders that the server cannot write to.
func (s Storage) cold() Storage {
	s.Hot.Size = -1
	return s
}

// openWhole opens content and a catalog that nobody is moving another one into.
func openWhole(ctx context.Context, s Storage) (*Data, error) {
	d, err := openBoth(ctx, s)
	if err != nil || s.Catalog == "" {
		return d, err
	}
	err = d.whole(ctx)
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// openBoth opens content and catalog, whatever they are.
func openBoth(ctx context.Context, s Storage) (*Data, error) {
	d, err := contentOnly(s)
	if err != nil {
		return nil, err
	}
	d.Catalog, err = catalog.Open(ctx, s.catalogURL())
	if err != nil {
		d.Close()
		return nil, err
	}
	d.together()
	return d, nil
}

// together has the store know that other nodes write it too, where they do.
func (d *Data) together() {
	if d.Catalog.Shared() {
		d.Store.Apart = func(ctx context.Context, digest registry.Digest, do func(context.Context) error) error {
			return accord.Apart(ctx, d.Catalog, digest, do)
		}
	}
}

// contentOnly opens a directory, or a bucket, for whoever does not want to know what is in it.
func contentOnly(s Storage) (*Data, error) {
	c := storage.Config{Root: s.Directory, Floor: s.Floor}
	driver, err := s.bucket()
	if err != nil {
		return nil, err
	}
	if driver != nil {
		c = storage.Config{Driver: driver, Drafts: filepath.Join(s.Directory, draftsFolder), Floor: s.Floor, Hot: s.copies()}
	}
	store, err := storage.New(c)
	if err != nil {
		return nil, fmt.Errorf("open the data directory %s: %w", s.Directory, err)
	}
	return &Data{Store: store, bucket: driver}, nil
}

// Close lets the next process have the directory.
func (d *Data) Close() error {
	var err error
	if d.Catalog != nil {
		err = d.Catalog.Close()
	}
	err = errors.Join(err, d.Store.Close())
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

// checkLayout refuses directories that somebody means well with and that are not what a data
// directory looks like.
func checkLayout(dir string) error {
	switch {
	case exists(dir, layoutFolder):
		return nil
	case exists(dir, "registry", layoutFolder):
		inner := filepath.Join(dir, "registry")
		return fmt.Errorf("%s is a volume around a registry, as Harbor's are; the content is in %s, name that", dir, inner)
	case exists(dir, "docker/registry/v1") || exists(dir, "docker/registry"):
		return fmt.Errorf("%s holds a registry of an older layout than %s, which nothing reads any more; name another directory", dir, layoutFolder)
	case exists(dir, "blobs") && exists(dir, "repositories"):
		return fmt.Errorf("%s looks like the inside of %s; name the directory that \"docker\" is in", dir, layoutFolder)
	case exists(dir, "registry/v2"):
		return fmt.Errorf("%s looks like the inside of %s; name the directory that it is in, %s", dir, layoutFolder, filepath.Dir(dir))
	case exists(dir, "oci-layout"):
		return fmt.Errorf("%s is an OCI image layout, which is one repository without a name; name another directory", dir)
	}
	return nil
}

// holdsContent looks at one entry of one folder, however many there are.
func holdsContent(dir string) bool {
	f, err := os.Open(filepath.Join(dir, repositories))
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) > 0
}

func exists(elem ...string) bool {
	_, err := os.Stat(filepath.Join(elem...))
	return err == nil
}
