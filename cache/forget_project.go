package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"roadstead/registry"
)

// ForgetProject removes all that a project has cached, repository by repository as ForgetRepository
// does: what is here of one upstream must not be served for another that has the same tags. It goes on
// after an error, and says of how many repositories something stays: what a pin holds, and what is
// just being brought. ctx may end it at any time.
func (c *Cache) ForgetProject(ctx context.Context, project string) error {
	if err := c.settled(ctx, project); err != nil {
		return err
	}
	var first error
	stays := 0
	for after := project + "/"; ; {
		names, err := c.catalog.Repositories(ctx, after, registry.MaxPage)
		if err != nil {
			return fmt.Errorf("forget project %s: %w", project, err)
		}
		for _, name := range names {
			if !strings.HasPrefix(name, project+"/") {
				names = nil
				break
			}
			after = name
			err := c.ForgetRepository(ctx, registry.SplitRepo(name))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil && !errors.Is(err, registry.NameUnknown) {
				if stays++; first == nil {
					first = err
				}
			}
		}
		if len(names) == 0 {
			break
		}
	}
	if stays == 0 {
		return nil
	}
	return &registry.Fault{
		Code:    registry.Conflict,
		Message: fmt.Sprintf("%d repositories of project %s still have something of what was cached: delete them", stays, project),
		Err:     first,
	}
}

// settled is arrived for all of a project. Nobody knows the names of repositories whose first tag is
// only just being written.
func (c *Cache) settled(ctx context.Context, project string) error {
	for _, keep := range c.keeps.matching(func(k contentKey) bool { return k.repo.Project == project }) {
		keep.wait(ctx) // whether it could be kept is not asked here
	}
	for late := time.Now().Add(awayPatience); c.saves.busyIn(project) && time.Now().Before(late) && ctx.Err() == nil; {
		time.Sleep(glance)
	}
	patience, cancel := context.WithTimeout(ctx, catalogPatience)
	defer cancel()
	if err := c.flush(patience); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// busyIn reports whether a tag of a project is being written.
func (w *saves) busyIn(project string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.next {
		if k.repo.Project == project {
			return true
		}
	}
	return false
}
