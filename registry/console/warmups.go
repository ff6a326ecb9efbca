package console

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"roadstead/cache"
	"roadstead/registry/estate"
)

// warmup is the page of the warm-up of a list.
type warmup struct {
	estate.Warmup
	Shown   []estate.WarmImage // those that cannot be brought, and then those that are under way
	More    int                // of them, that are not shown
	Running bool
}

// mostShown is how many images of a list are shown. Whoever has more trouble than this sees of which kind
// it is.
const mostShown = 200

// Share is how much of it is here, of 100.
func (w warmup) Share() int64 {
	if w.Total <= 0 {
		return 0
	}
	return min(w.Done*100/w.Total, 100)
}

func (v *visit) warmup() (warmup, error) {
	id, err := v.number("id")
	if err != nil {
		return warmup{}, err
	}
	w, err := v.config.Estate.Warmup(v.r.Context(), v.me, id, -1)
	if err != nil {
		return warmup{}, err
	}
	page := warmup{Warmup: w, Running: w.Job.EndedAt.IsZero()}
	for _, state := range []cache.ImageState{cache.ImageFailed, cache.ImageMissing, cache.ImageRunning} {
		for _, i := range w.Images {
			if i.State == state {
				page.Shown = append(page.Shown, i)
			}
		}
	}
	if page.More = len(page.Shown) - mostShown; page.More > 0 {
		page.Shown = slices.Clip(page.Shown[:mostShown])
	}
	return page, nil
}

func showWarmup(v *visit) error {
	page, err := v.warmup()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "warmup", v.say("warm.title", strconv.FormatInt(page.Job.ID, 10)), page)
}

// streamWarmup tells a browser how far it is, until it has ended.
func streamWarmup(v *visit) error {
	return v.follow("warmup", func() ([]place, bool, error) {
		page, err := v.warmup()
		return []place{{"warm-figures", page}, {"warm-layers", page}, {"warm-images", page}}, page.Running, err
	})
}

// startWarmup warms a list that somebody has pasted.
func startWarmup(v *visit) error {
	o := estate.WarmOrder{List: v.r.PostFormValue("list"), Dry: v.r.PostFormValue("dry") != "", Hosts: []string{v.address().Host}}
	o.Platforms = strings.FieldsFunc(v.r.PostFormValue("list_platforms"), func(c rune) bool { return c == ',' || c == ' ' })
	if slices.Equal(o.Platforms, []string{"all"}) {
		o.Platforms, o.AllPlatforms = nil, true
	}
	one, err := v.config.Estate.WarmAll(v.r.Context(), v.me, o)
	if err != nil {
		t := v.trouble(err)
		if !v.seesJobs() || !t.amends() && t.Status != http.StatusNotFound {
			return err
		}
		return v.showJobs(t.Status, &t)
	}
	return v.done(home+"warmups/"+strconv.FormatInt(one.ID, 10), "task.started")
}
