package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// Adopt is the command of that name.
type Adopt struct {
	settings
	Dir string `arg:"" optional:"" placeholder:"DIR" help:"The directory that holds \"docker/registry/v2\". Default: storage.directory of the configuration, or the bucket of storage.s3."`

	// All other commands of the storage have it, so it is what people try.
	Data string `hidden:"" placeholder:"DIR"`
}

// Validate refuses what adopt has otherwise than the other commands.
func (a *Adopt) Validate() error {
	if a.Data == "" {
		return nil
	}
	return fmt.Errorf("name the directory as an argument, without --data: roadstead adopt %s", a.Data)
}

// Help is the long help.
func (a *Adopt) Help() string {
	return `Builds the catalog from what lies in the directory of a distribution registry, of Harbor's registry, or of roadstead itself after its catalog was lost. Nothing is copied, moved or removed: the stock registry can go on using the directory afterwards.

What a registry has collected over the years is taken as it is. A tag that points to nothing, a layer that is missing or a manifest that cannot be read is reported as a line on stdout and left out; what a project needs of it comes from upstream when it is asked for. It can be run again at any time, and must not run beside "serve". A bucket becomes that of the catalog, also in the place of another one that was lost or has moved.

The first component of each repository's name is its project. One that is no proxy of the configuration is hosted from then on: what it has counts as pushed, is never evicted, and is for its members only, until "roadstead project set NAME --public" says otherwise. Its members have to be told: accounts are not in the directory.`
}

// Run adopts a directory.
func (a *Adopt) Run(std streams) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := a.load()
	if err != nil {
		return err
	}
	if a.Dir != "" {
		cfg.Storage.Directory, cfg.Storage.S3 = a.Dir, S3{}
	}
	dir, err := filepath.Abs(cfg.Storage.Directory)
	if err != nil {
		return err
	}
	cfg.Storage.Directory = dir
	content, err := cfg.Storage.holds(ctx)
	if err != nil {
		return err
	}
	// An empty bucket in the place of one that is lost is adopted by a catalog that there is.
	if !content && (cfg.Storage.S3.Bucket != "" && !hasCatalog(cfg.Storage) || cfg.Storage.S3.Bucket == "" && !exists(dir, layoutFolder)) {
		return fmt.Errorf("there is no %s in %s, so there is nothing to adopt; name the directory that \"docker\" is in", layoutFolder, cfg.Storage.Place())
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	// Before there is a catalog, which by itself would look as if it were whole.
	mark := filepath.Join(dir, adoptingFile)
	marked, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("mark the directory as being adopted: %w", err)
	}
	ours := err == nil
	if ours {
		marked.Close()
	}
	data, err := lockData(ctx, cfg.Storage.cold())
	if err != nil {
		if ours {
			os.Remove(mark) // somebody else has the directory
		}
		return err
	}
	defer data.Close()
	found, err := adopt(ctx, cfg, data, std)
	if err == nil && cfg.Storage.Catalog != "" {
		err = data.adopted(ctx)
	}
	if err == nil && data.bucket != nil {
		var id identity
		if id, err = data.takeBucket(ctx, cfg.Storage); err == nil {
			err = data.belong(ctx, id)
		}
	}
	if err == nil {
		err = os.Remove(mark)
	}
	if err := errors.Join(err, giveAway(dir)); err != nil {
		return err
	}
	fmt.Fprintln(std.out, found)
	for _, name := range slices.Sorted(maps.Keys(found.projects)) {
		if slices.Contains(found.hosted, name) {
			fmt.Fprintf(std.out, "project %s (%d repositories) is no proxy of the configuration: it is hosted from now on, and private; \"roadstead project set %s --public\" lets everybody pull from it\n",
				name, found.projects[name], name)
		}
	}
	if a.Dir != "" {
		fmt.Fprintf(std.out, "serve it with: roadstead serve --data %s\n", a.Dir)
	}
	return nil
}

// adoptingFile is in a data directory while it is being adopted, and stays when that is cut short.
const adoptingFile = "adopting"

// giveAway gives what root has made beside the content to the owner of the directory, who is
// going to serve it.
func giveAway(dir string) error {
	if os.Geteuid() != 0 {
		return nil // who may use the catalog need not be one who may look at the keys
	}
	names := []string{
		catalogFile, catalogFile + "-wal", catalogFile + "-shm", draftsFolder, "lock", adoptingFile, keysFolder,
		hotFolder, filepath.Join(hotFolder, "filling"), nodeFile, workedFile, mindFile,
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// Keys that lie elsewhere, by a link, belong to whoever has put them there.
	if info, err := root.Lstat(keysFolder); err == nil && info.IsDir() {
		keys, err := fs.ReadDir(root.FS(), keysFolder)
		if err != nil {
			return err
		}
		for _, key := range keys {
			names = append(names, filepath.Join(keysFolder, key.Name()))
		}
	}
	return give(dir, names, dir)
}

// makeLike makes a directory, for the owner of another one if it is root who makes it.
func makeLike(dir, other string) error {
	if exists(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w; name another one with --data or storage.directory", err)
	}
	return give(dir, []string{"."}, other)
}

// give gives what is there of some names in a directory to the owner of another one, if we are root.
func give(dir string, names []string, other string) error {
	info, err := os.Stat(other)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || !ok || owner.Uid == 0 {
		return nil
	}
	// Whoever owns the directory can put a link in the place of a folder of it, and must not be given by root
	// what that leads to.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var errs []error
	for _, name := range names {
		if parent, err := root.Lstat(filepath.Dir(name)); err == nil && !parent.IsDir() {
			continue // "hot" may be a link to another disk, which its owner has made
		}
		err := root.Lchown(name, int(owner.Uid), int(owner.Gid))
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// adopted is what an adoption found.
type adopted struct {
	projects                             map[string]int // repositories of each
	hosted                               []string       // those of them that have become hosted
	repositories, manifests, blobs, tags int
	bytes                                int64 // of the blobs and manifests, each once
	problems                             int
	orphans                              int // content that no repository has
	orphanBytes                          int64
}

func (a adopted) String() string {
	s := fmt.Sprintf("adopted %d repositories with %d tags, %d manifests and %d blobs, %s in all; %d problems",
		a.repositories, a.tags, a.manifests, a.blobs, bytesText(a.bytes), a.problems)
	if a.orphans > 0 {
		s += fmt.Sprintf("\n%d pieces of content (%s) belong to no repository and cannot be pulled; the stock registry's \"garbage-collect\" removes such", a.orphans, bytesText(a.orphanBytes))
	}
	return s
}

// adopt fills the catalog of a directory from its content.
func adopt(ctx context.Context, cfg Config, data *Data, std streams) (adopted, error) {
	a := adoption{cfg: cfg, data: data, content: map[registry.Digest]piece{}, found: adopted{projects: map[string]int{}}}
	var err error
	if a.holding, err = readHolding(ctx, data.Catalog); err != nil {
		return adopted{}, err
	}
	look := newProgress(std, "looking for content", 0, countText)
	err = data.Store.Contents(ctx, func(d registry.Digest, size int64) error {
		a.content[d] = piece{size: size}
		look.Add(1)
		return nil
	})
	look.End()
	if ctx.Err() != nil {
		return adopted{}, ctx.Err()
	}
	a.progress = newProgress(std, "adopting", int64(len(a.content)), countText)
	if err != nil {
		// What could not be seen counts as missing. Nothing is removed for that, and the next
		// run finds it.
		a.problem("blobs", "%v", err)
	}
	err = data.Store.Repositories(ctx, func(r storage.Repository) error { return a.repository(ctx, r) })
	if err == nil {
		err = a.flush(ctx)
	}
	a.progress.End()
	if err != nil {
		return adopted{}, fmt.Errorf("adopt: %w; what was done so far stays, run it again", err)
	}
	for _, p := range a.content {
		if !p.adopted {
			a.found.orphans++
			a.found.orphanBytes += p.size
		}
	}
	return a.found, nil
}

// adoption is one run. Its memory grows with the number of pieces of content, some hundred
// bytes for each: the alternative is a question to the file system for every link.
type adoption struct {
	cfg      Config
	data     *Data
	progress *progress
	holding  holding // as the catalog had it at the beginning
	content  map[registry.Digest]piece
	writes   []func(*catalog.Tx) error
	found    adopted
}

// piece is one file of content.
type piece struct {
	size    int64
	adopted bool // by some repository
}

// adoptBatch is how many rows share a transaction: enough that the cost of one is nothing,
// few enough that an interrupted run has done most of its work.
const adoptBatch = 2000

// proxy reports whether a project is a cache, by the configuration or by what somebody has made.
func (a *adoption) proxy(name string) bool {
	p, there := a.holding.project(name)
	return a.cfg.proxy(name) || there && !p.Hosted()
}

func (a *adoption) later(ctx context.Context, write func(*catalog.Tx) error) error {
	a.writes = append(a.writes, write)
	if len(a.writes) < adoptBatch {
		return nil
	}
	return a.flush(ctx)
}

// add is later for content of a repository. What a node that is running beside us has lately removed is
// adopted only if it is still there after that.
func (a *adoption) add(ctx context.Context, repo registry.Repo, d registry.Digest, write func(*catalog.Tx) error) error {
	return a.later(ctx, func(tx *catalog.Tx) error {
		err := write(tx)
		gone, ok := errors.AsType[*catalog.Unplaced](err)
		if !ok {
			return err
		}
		if _, err := a.data.Store.Stat(ctx, d); gone.Going || errors.Is(err, storage.ErrNotFound) {
			return nil // with what is made of it, as far as that matters: it is not here
		} else if err != nil {
			return err
		}
		tx.Placed(repo, d, gone.Gone)
		return write(tx)
	})
}

func (a *adoption) flush(ctx context.Context) error {
	// Durable, because the mark of an unfinished adoption goes at its end.
	err := a.data.Catalog.Durable(ctx, func(tx *catalog.Tx) error {
		for _, write := range a.writes {
			if err := write(tx); err != nil {
				return err
			}
		}
		return nil
	})
	a.writes = a.writes[:0]
	return err
}

func (a *adoption) problem(repo string, format string, args ...any) {
	a.found.problems++
	a.progress.Found("%s: %s", cmp.Or(repo, "repositories"), fmt.Sprintf(format, args...))
}

// has notes that a repository has a digest, and says how large its content is. ok is false
// when there is none.
func (a *adoption) has(d registry.Digest) (size int64, ok bool) {
	p, ok := a.content[d]
	if ok && !p.adopted {
		p.adopted = true
		a.content[d] = p
		a.found.bytes += p.size
		a.progress.Add(1)
	}
	return p.size, ok
}

// repository adopts one repository: manifests before tags, which point to them, and the
// layers that manifests refer to before those that are only linked.
func (a *adoption) repository(ctx context.Context, r storage.Repository) error {
	for _, problem := range r.Problems {
		a.problem(r.Name, "%s", problem)
	}
	if len(r.Manifests)+len(r.Layers)+len(r.Tags) == 0 {
		return nil
	}
	repo := registry.SplitRepo(r.Name)
	if err := checkNames(repo); err != nil {
		a.problem(r.Name, "%v; it is left out", err)
		return nil
	}
	hosted := !a.proxy(repo.Project)
	if hosted && a.found.projects[repo.Project] == 0 {
		if err := a.host(ctx, repo.Project); err != nil {
			return err
		}
	}
	a.found.projects[repo.Project]++
	a.found.repositories++

	layers := map[registry.Digest]bool{}
	for _, d := range r.Layers {
		layers[d] = true
	}
	manifests := map[registry.Digest]registry.Manifest{}
	blobs := map[registry.Digest]bool{}
	for _, d := range r.Manifests {
		m, refs, err := a.manifest(ctx, d)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			a.problem(r.Name, "manifest %s: %v", d, err)
			continue
		}
		manifests[d] = m
		a.found.manifests++
		if err := a.add(ctx, repo, d, func(tx *catalog.Tx) error { return tx.AddManifest(repo, m, refs) }); err != nil {
			return err
		}
		for _, layer := range refs.Blobs() {
			if hosted && !layers[layer.Digest] {
				// To name what is somebody else's gives nobody a right to it (FAULTS B8).
				a.problem(r.Name, "blob %s, which manifest %s refers to, was never pushed to it", layer.Digest, d)
				continue
			}
			if err := a.blob(ctx, repo, layer.Digest, layer.Size, blobs); err != nil {
				return err
			}
		}
	}
	for _, d := range r.Layers {
		if _, isManifest := manifests[d]; isManifest {
			continue
		}
		if err := a.blob(ctx, repo, d, -1, blobs); err != nil {
			return err
		}
	}
	return a.tags(ctx, repo, r.Tags, manifests)
}

func checkNames(repo registry.Repo) error {
	if repo.Name == "" {
		return errors.New("it is not below a project")
	}
	if why, reserved := reservedNames[repo.Project]; reserved {
		return fmt.Errorf("%q cannot be the name of a project, %s", repo.Project, why)
	}
	return errors.Join(registry.CheckProject(repo.Project), registry.CheckName(repo.String()))
}

// host makes a project a hosted one, before anything of it is written: what a hosted project has
// counts in a way of its own. What the catalog says of it already stays.
func (a *adoption) host(ctx context.Context, name string) error {
	now, err := readHolding(ctx, a.data.Catalog)
	if err != nil || now.has(name) {
		return err
	}
	p := catalog.Project{Name: name}
	for _, configured := range a.cfg.hosted() {
		if configured.Name == name {
			p = configured
		}
	}
	if !p.Configured {
		a.found.hosted = append(a.found.hosted, name)
	}
	return a.later(ctx, func(tx *catalog.Tx) error { return tx.PutProject(p) })
}

// manifest reads a manifest that a repository links.
func (a *adoption) manifest(ctx context.Context, d registry.Digest) (registry.Manifest, registry.References, error) {
	if _, ok := a.has(d); !ok {
		return registry.Manifest{}, registry.References{}, errors.New("its content is missing")
	}
	body, err := a.data.Store.Read(ctx, d, registry.MaxManifest)
	if err != nil {
		return registry.Manifest{}, registry.References{}, err
	}
	return registry.ParseManifest("", d, body)
}

// blob adopts a blob of a repository, once. A size that is known and not that of the file
// means that the file is damaged.
func (a *adoption) blob(ctx context.Context, repo registry.Repo, d registry.Digest, want int64, seen map[registry.Digest]bool) error {
	if seen[d] {
		return nil
	}
	seen[d] = true
	size, ok := a.has(d)
	switch {
	case !ok:
		a.problem(repo.String(), "blob %s, which a manifest refers to, is not stored", d)
		return nil
	case want >= 0 && size != want:
		a.problem(repo.String(), "blob %s: it has %d bytes and should have %d", d, size, want)
		return nil
	}
	a.found.blobs++
	return a.add(ctx, repo, d, func(tx *catalog.Tx) error { return tx.AddBlob(repo, d, size) })
}

// tags adopts the tags of a repository that point to one of its manifests. They count as never
// checked: upstream is asked before the first answer, as long as it can be. Those of a hosted project
// count as pushed when their link was written, and as pulled now: nobody knows when they were, and
// a retention must not take that for never.
func (a *adoption) tags(ctx context.Context, repo registry.Repo, tags map[string]registry.Digest, manifests map[registry.Digest]registry.Manifest) error {
	hosted := !a.proxy(repo.Project)
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		m, ok := manifests[tags[tag]]
		if !ok {
			a.problem(repo.String(), "tag %s points to %s, which is not there or cannot be read", tag, tags[tag])
			continue
		}
		a.found.tags++
		known, err := a.data.Catalog.Tag(ctx, repo, tag)
		if err == nil && known.Digest == m.Digest {
			continue // what is known of its age is worth keeping
		}
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		now := time.Now()
		t := catalog.Tag{Descriptor: m.Descriptor, ChangedAt: now}
		if hosted {
			pushed, err := a.data.Store.TaggedAt(ctx, repo.String(), tag)
			if err != nil {
				return err
			}
			if pushed.IsZero() || pushed.After(now) {
				pushed = now
			}
			t.CheckedAt, t.ChangedAt = pushed, pushed
		}
		err = a.later(ctx, func(tx *catalog.Tx) error {
			if err := tx.PutTag(repo, tag, t); err != nil || !hosted {
				return err
			}
			return tx.Pulled(repo, tag, now)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
