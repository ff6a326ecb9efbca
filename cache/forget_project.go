package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"roadstead/registry"
)

// ForgetProject removes all that a project has cached, repository by repository as ForgetRepository
// does: what is here of one upstream must not be served for another that has the same tags. It goes on
// after an error, and says of how many repositories something stays: what a pin holds, and what is
// just being brought. ctx may end it at any time.
func (c *Cache) ForgetProject(ctx context.Context, project string) error {
	// Nobody knows the names of repositories whose first tag is only just being written.
	if err := c.arrived(ctx, func(r registry.Repo) bool { return r.Project == project }); err != nil {
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
