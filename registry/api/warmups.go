package api

import (
	"fmt"
	"net/http"
	"strconv"

	"roadstead/registry/estate"
)

// warmupView is how far a warm-up of a list is.
type warmupView struct {
	Job       jobView         `json:"job"`
	Platforms []string        `json:"platforms"` // empty: all
	Dry       bool            `json:"dry_run"`
	Images    []warmImageView `json:"images"`
	Layers    []warmLayerView `json:"layers"`
	Count     int             `json:"image_count"`
	Ended     int             `json:"ended_count"`
	Failed    int             `json:"failed_count"`
	Unknown   int             `json:"unknown_count"`
	Done      int64           `json:"done"`
	Total     int64           `json:"total"`
	Fetched   int64           `json:"fetched"`
	Blobs     int             `json:"blob_count"`
	Forgotten bool            `json:"forgotten"`
}

type warmImageView struct {
	Name       string `json:"name"`
	Repository string `json:"repository"` // with its project; "": there is none
	State      string `json:"state"`
	Ordinal    int    `json:"ordinal"`
	Digest     string `json:"digest"`
	Done       int64  `json:"done"`
	Total      int64  `json:"total"`
	Error      string `json:"error"`
}

type warmLayerView struct {
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	Size       int64  `json:"size"`
	Written    int64  `json:"written"`
	Since      stamp  `json:"since"`
}

func viewWarmup(w estate.Warmup) warmupView {
	v := warmupView{
		viewJob(w.Job), append([]string{}, w.Platforms...), w.Dry, []warmImageView{}, []warmLayerView{},
		w.Count, w.Ended, w.Failed, w.Unknown, w.Done, w.Total, w.Fetched, w.Blobs, w.Forgotten,
	}
	for _, i := range w.Images {
		one := warmImageView{Name: i.Name, State: string(i.State), Ordinal: i.Ordinal, Digest: i.Digest.String(), Done: i.Done, Total: i.Total, Error: i.Error}
		if i.Repo.Project != "" {
			one.Repository = i.Repo.String()
		}
		v.Images = append(v.Images, one)
	}
	for _, l := range w.Layers {
		v.Layers = append(v.Layers, warmLayerView{l.Repo.String(), l.Digest.String(), l.Size, l.Written, stamp(l.Since)})
	}
	return v
}

// warmAll brings the images of a list here.
func (c *call) warmAll() error {
	var b struct {
		Images       []string `json:"images"`
		List         string   `json:"list"`
		Platforms    []string `json:"platforms"`
		AllPlatforms bool     `json:"all_platforms"`
		Dry          bool     `json:"dry_run"`
		Signatures   bool     `json:"signatures"`
	}
	if err := c.known(); err != nil {
		return err
	}
	if err := c.body(&b); err != nil {
		return err
	}
	j, err := c.estate.WarmAll(c.ctx(), c.who, estate.WarmOrder{
		Images: b.Images, List: b.List, Platforms: b.Platforms, AllPlatforms: b.AllPlatforms, Dry: b.Dry, Signatures: b.Signatures, Hosts: []string{c.r.Host},
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", fmt.Sprintf("%s/warmups/%d", mine, j.ID))
	return c.write(http.StatusAccepted, viewJob(j))
}

// readWarmup says how far it is; with "ended_after" only of the images that have ended since.
func (c *call) readWarmup() error {
	if err := c.known(); err != nil {
		return err
	}
	id, err := c.number("id", "job")
	if err != nil {
		return err
	}
	after := -1
	if text := c.r.URL.Query().Get("ended_after"); text != "" {
		if after, err = strconv.Atoi(text); err != nil || after < 0 {
			return invalid("ended_after is how many images had ended before, from 0")
		}
	}
	w, err := c.estate.Warmup(c.ctx(), c.who, id, after)
	if err != nil {
		return err
	}
	return c.ok(viewWarmup(w))
}
