package console

import (
	"net/http"
	"strconv"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// tasks are the jobs beside collections: what somebody has started and that goes on without him.
type tasks struct {
	All      []task
	CanScrub bool
	CanEvict bool
	Image    string // of the form for warming, as it was sent
	Platform string

	List, ListPlatform string // of the form for a list
}

// task is one of them.
type task struct{ estate.Job }

// Share is how much of it is done, of 100.
func (t task) Share() int64 {
	if t.Total <= 0 {
		return 0
	}
	return min(t.Done*100/t.Total, 100)
}

func (v *visit) tasks() (tasks, error) {
	jobs, err := v.config.Estate.Jobs(v.r.Context(), v.me, "")
	if err != nil {
		return tasks{}, err
	}
	var all []task
	for _, one := range jobs {
		all = append(all, task{one})
	}
	return tasks{
		All:      all,
		CanScrub: v.may(registry.Create, access.Scrub, ""),
		CanEvict: v.may(registry.Create, estate.Eviction, ""),
		Image:    strings.TrimSpace(v.r.PostFormValue("image")),
		List:     v.r.PostFormValue("list"), ListPlatform: strings.TrimSpace(v.r.PostFormValue("list_platforms")),
		Platform: strings.TrimSpace(v.r.PostFormValue("platforms")),
	}, nil
}

// startTask starts a scrub, an eviction or a warm-up.
func startTask(v *visit) error {
	ctx, project, err := v.r.Context(), "", error(nil)
	switch v.r.PostFormValue("do") {
	case "scrub":
		_, err = v.config.Estate.StartScrub(ctx, v.me)
	case "evict":
		_, err = v.config.Estate.StartEviction(ctx, v.me)
	case "warm":
		repo, reference := splitImage(strings.TrimSpace(v.r.PostFormValue("image")))
		platforms := strings.FieldsFunc(v.r.PostFormValue("platforms"), func(c rune) bool { return c == ',' || c == ' ' })
		project = repo.Project
		_, err = v.config.Estate.Warm(ctx, v.me, repo, reference, platforms)
	default:
		return errForm
	}
	if err != nil {
		t := v.trouble(err)
		if !v.seesJobs() || !t.amends() && t.Status != http.StatusNotFound {
			return err
		}
		return v.showJobs(t.Status, &t)
	}
	return v.done(v.afterTask(project), "task.started")
}

// seesJobs reports whether the page of all jobs is for whoever visits.
func (v *visit) seesJobs() bool { return v.may(registry.Read, access.Collection, "") }

// afterTask is where to go on after something about a task of a project: who looks after that project
// alone does not see what all the house does.
func (v *visit) afterTask(project string) string {
	if v.seesJobs() || project == "" {
		return home + "jobs"
	}
	return home + "projects/" + pathOf(project)
}

func stopTask(v *visit) error {
	id, err := v.number("id")
	if err != nil {
		return err
	}
	one, err := v.config.Estate.Job(v.r.Context(), v.me, id)
	if err != nil {
		return err
	}
	if err := v.config.Estate.StopJob(v.r.Context(), v.me, id); err != nil {
		return err
	}
	if one.Images > 0 {
		return v.done(home+"warmups/"+strconv.FormatInt(id, 10), "task.stopped")
	}
	return v.done(v.afterTask(registry.SplitRepo(one.Target).Project), "task.stopped")
}

// splitImage cuts what people write of an image, "docker.io/library/busybox:1.36", into the
// repository and the tag, "latest" where there is none, or the digest.
func splitImage(image string) (repo registry.Repo, reference string) {
	if name, digest, ok := strings.Cut(image, "@"); ok {
		return registry.SplitRepo(name), digest
	}
	i := strings.LastIndexByte(image, ':')
	if i < strings.LastIndexByte(image, '/') || i < 0 {
		return registry.SplitRepo(image), "latest"
	}
	return registry.SplitRepo(image[:i]), image[i+1:]
}
