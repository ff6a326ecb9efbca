package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// flightView is a download under way.
type flightView struct {
	Repository string `json:"repository"` // with its project
	Digest     string `json:"digest"`
	MediaType  string `json:"media_type"` // "": not known
	Size       int64  `json:"size"`       // bytes; -1: not known
	Written    int64  `json:"written"`    // bytes of it that are here
	Whole      bool   `json:"whole"`      // all are, and are what the digest says
	Readers    int    `json:"readers"`
	Since      stamp  `json:"since"`
}

// flights are those that whoever asks may see, the oldest first.
func (c *call) flights() []flightView {
	views := []flightView{}
	for _, f := range c.estate.Flights(c.who) {
		views = append(views, flightView{f.Repo.String(), f.Digest.String(), f.MediaType, f.Size, f.Written, f.Whole, f.Readers, stamp(f.Since)})
	}
	return views
}

func (c *call) listFlights() error { return cut(c, c.flights()) }

const (
	eventEvery = time.Second

	// heartbeat is below the minute after which proxies take a connection for dead.
	heartbeat = 15 * time.Second

	// maxListening is how long one stream is. Browsers come again by themselves, and are looked at
	// again: who was logged out meanwhile sees no more than this.
	maxListening = 10 * time.Minute
)

// watchFlights is listFlights as server-sent events: the whole list at once, and again in every second
// in which it has changed. It is for accounts, which have a few each: nobody is somebody else by asking
// from another address.
func (c *call) watchFlights() error {
	name, _, admin, _ := c.access.Describe(c.who)
	if err := c.known(); err != nil {
		return err
	}
	leave, err := c.audience.enter(name, admin)
	if err != nil {
		return err
	}
	defer leave()
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would wait for a buffer to fill
	c.w.WriteHeader(http.StatusOK)

	to := http.NewResponseController(c.w)
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	end := time.After(maxListening)
	var last []byte
	quiet := time.Now()
	for {
		now, err := json.Marshal(c.flights())
		if err != nil {
			return err
		}
		switch {
		case !bytes.Equal(now, last):
			_, err = fmt.Fprintf(c.w, "event: flights\ndata: %s\n\n", now)
			last, quiet = now, time.Now()
		case time.Since(quiet) >= heartbeat:
			_, err = io.WriteString(c.w, ": still here\n\n")
			quiet = time.Now()
		}
		if err == nil {
			err = to.Flush()
		}
		if err != nil {
			return nil // nobody listens any more
		}
		select {
		case <-tick.C:
		case <-end:
			return nil
		case <-c.ctx().Done():
			return nil
		}
		if c.config.Stopping != nil && c.config.Stopping() {
			return nil // a stop of the server waits for all requests
		}
	}
}
