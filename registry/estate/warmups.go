package estate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/rewrite"
)

// WarmOrder is a list of images to be brought here before anybody pulls them.
type WarmOrder struct {
	Images       []string // by the names that pods have
	List         string   // a text that names more of them, see [rewrite.ListImages]
	Platforms    []string // "linux/amd64"; none: that of this server
	AllPlatforms bool     // instead
	Dry          bool     // only find out what is missing
	Signatures   bool     // with their signatures, which come by themselves where a project looks at them

	// Hosts are the names of this server by which whoever orders knows it, beside its own: an image
	// of one of them names its project.
	Hosts []string
}

// mostImages bounds a list. A release of RKE2 with all its network plugins has two hundred.
const mostImages = 10_000

// planner is whoever starts what the configuration plans.
const planner = "(configuration)"

// WarmAll brings the images of a list here, as one job. Those for which no project stands, or that
// whoever orders may not have brought, are among its failures; that there is no other one is an error.
func (e *Estate) WarmAll(ctx context.Context, p registry.Principal, o WarmOrder) (Job, error) {
	one, err := e.warmAll(ctx, p.Name(), o, func(repo registry.Repo) error { return e.mayIn(p, registry.Create, access.Cache, repo) })
	if err != nil {
		return Job{}, err
	}
	return one, e.record(ctx, deed{p, registry.Create, access.Warming, one.Target, fmt.Sprintf("job %d", one.ID)})
}

// WarmPlanned is WarmAll of a plan of the configuration, by its name.
func (e *Estate) WarmPlanned(ctx context.Context, plan string, o WarmOrder) (Job, error) {
	one, err := e.warmAll(ctx, planner+" "+plan, o, func(registry.Repo) error { return nil })
	if err != nil {
		return Job{}, err
	}
	return one, e.access.Audited(ctx, planner, registry.Create, access.Warming, one.Target, fmt.Sprintf("job %d, plan %s", one.ID, plan), nothing)
}

func (e *Estate) warmAll(ctx context.Context, by string, o WarmOrder, may func(registry.Repo) error) (Job, error) {
	platforms, err := o.platforms()
	if err != nil {
		return Job{}, err
	}
	images, err := o.images()
	if err != nil {
		return Job{}, err
	}
	l := &warmList{platforms: platforms, dry: o.Dry, signatures: o.Signatures, names: map[cache.Target]string{}}
	var targets []cache.Target
	var first error
	for _, image := range images {
		target, err := e.target(ctx, image, o.Hosts, may)
		if err != nil {
			first = cmp.Or(first, err)
			l.refused = append(l.refused, WarmImage{Name: image.String(), State: cache.ImageFailed, Ordinal: len(l.refused) + 1, Error: said(err)})
			continue
		}
		if _, twice := l.names[target]; !twice {
			l.names[target] = image.String()
			targets = append(targets, target)
		}
	}
	if len(targets) == 0 {
		return Job{}, first
	}
	if l.batch, err = e.config.Cache.NewBatch(cache.BatchOrder{Targets: targets, Platforms: platforms, Dry: o.Dry, Signatures: o.Signatures}); err != nil {
		return Job{}, err
	}
	return e.jobs.assign(assignment{
		Job:  Job{Kind: access.Warming, Target: l.target(), Images: l.count(), By: by, Unit: "bytes"},
		task: l.task(), list: l, do: l.run,
	})
}

// platforms are those that are wanted, none for all.
func (o WarmOrder) platforms() ([]string, error) {
	if err := CheckPlatforms(o.Platforms); err != nil || o.AllPlatforms {
		return nil, err
	}
	if len(o.Platforms) > 0 {
		return o.Platforms, nil
	}
	return []string{"linux/" + runtime.GOARCH}, nil // nobody pulls images of the others that Go knows
}

// images reads the names.
func (o WarmOrder) images() ([]rewrite.Image, error) {
	listed, err := rewrite.ListImages([]byte(strings.Join(o.Images, "\n")))
	if err != nil {
		return nil, Wrong("images", "warm.names", "the images: %s", err)
	}
	more, err := rewrite.ListImages([]byte(o.List))
	if err != nil {
		return nil, Wrong("list", "warm.list", "the list: %s", err)
	}
	var all []rewrite.Image
	for _, one := range slices.Concat(listed, more) {
		all = append(all, one.Image)
	}
	switch {
	case len(all) == 0:
		return nil, Wrong("list", "warm.none", "there is no image on the list: write one name on a line, or Kubernetes manifests")
	case len(all) > mostImages:
		return nil, Wrong("list", "warm.many", "there are %d images on the list, and %d is the most: make several lists of it", len(all), mostImages)
	}
	return all, nil
}

// target finds where an image is here.
func (e *Estate) target(ctx context.Context, image rewrite.Image, hosts []string, may func(registry.Repo) error) (cache.Target, error) {
	repo, err := e.config.Place(image, hosts...)
	if err != nil {
		// Who may not know whether there is such a project hears the same of either (FAULTS B8).
		return cache.Target{}, cmp.Or(may(registry.Repo{Project: "nowhere.invalid", Name: image.Name}), err)
	}
	if err := may(repo); err != nil {
		return cache.Target{}, err
	}
	if row, err := e.lookup(ctx, Ref{Name: repo.Project}); err != nil {
		return cache.Target{}, err
	} else if row.Hosted() {
		return cache.Target{}, invalid("warm.hosted", "project %s is no proxy: what is there was pushed, and need not be fetched", repo.Project)
	}
	return cache.Target{Repo: repo, Reference: image.Reference()}, nil
}

// said is an error as it is told to whoever gets no more of it.
func said(err error) string {
	if fault, ok := errors.AsType[*registry.Fault](err); ok && fault.Message != "" {
		return fault.Message
	}
	return err.Error()
}

// target says what the list is, for people.
func (l *warmList) target() string {
	names := slices.Sorted(maps.Values(l.names))
	text := fmt.Sprintf("%d images: %s …", l.count(), names[0])
	if l.count() == 1 {
		text = names[0]
	}
	if l.dry {
		text += " (dry run)"
	}
	return text
}

// task tells a list from another one.
func (l *warmList) task() string {
	names := slices.Sorted(maps.Values(l.names))
	sum := sha256.Sum256(fmt.Append(nil, names, l.platforms, l.dry, l.signatures))
	return fmt.Sprintf("list %x", sum)
}

// Warmup returns how far a warm-up of a list is. Its images are those that have ended after the first
// so many, in the order in which they have, or, with a number below zero, all. Of one that has ended
// long ago nobody remembers them.
func (e *Estate) Warmup(ctx context.Context, p registry.Principal, id int64, after int) (Warmup, error) {
	one, err := e.Job(ctx, p, id)
	if err != nil {
		return Warmup{}, err
	}
	if one.Images == 0 {
		return Warmup{}, unknown("warm.nolist", "job %d is no warm-up of a list", id)
	}
	if l := e.jobs.listOf(id); l != nil {
		w := l.look(after)
		w.Job = one
		return w, nil
	}
	w := Warmup{Count: one.Images, Done: one.Done, Total: one.Total}
	if e.jobs.shared != nil {
		detail, err := e.catalog.JobDetail(ctx, id)
		if err == nil && detail != "" {
			err = json.Unmarshal([]byte(detail), &w)
		}
		if err != nil {
			return Warmup{}, fmt.Errorf("job %d: %w", id, err)
		}
	}
	w.Job = one
	w.since(after)
	return w, nil
}

// listOf is the list of a job of this process, if that remembers it.
func (j *jobs) listOf(id int64) *warmList {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, one := range j.all {
		if one.ID == id {
			return one.list
		}
	}
	return nil
}
