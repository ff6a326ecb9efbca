package main

import (
	"sync/atomic"

	"roadstead/registry/admin"
	"roadstead/registry/api"
)

// figures are those of the upstreams, as the REST API shows them.
func (u *upstreams) figures() []api.Upstream {
	var all []api.Upstream
	for project, s := range u.Stats() {
		one := api.Upstream{Project: project, Endpoints: []api.Endpoint{}, Requests: s.Requests, Tokens: s.Tokens, Retries: s.Retries, Resumes: s.Resumes, Received: s.Bytes}
		if !s.Limit.At.IsZero() {
			one.Limit = &api.PullLimit{Limit: s.Limit.Limit, Remaining: s.Limit.Remaining, Window: int64(s.Limit.Window.Seconds()), At: s.Limit.At}
		}
		for _, e := range s.Endpoints {
			one.Endpoints = append(one.Endpoints, api.Endpoint{Host: e.Host, Asked: e.Asked, Up: !e.Down, QuietUntil: e.QuietUntil})
		}
		all = append(all, one)
	}
	return all
}

// figures are those of the cache.
func (h *House) figures() api.Figures {
	s := h.cache.Stats()
	f := api.Figures{
		Projects: map[string]api.Answers{}, Sent: h.server.Stats().Bytes, Flights: s.Flights, MemoryBytes: s.MemoryBytes,
		StoredBytes: s.StoredBytes, ProxiedBytes: s.ProxiedBytes, StoredCount: s.StoredCount, MaxSize: s.MaxSize, EvictedBytes: s.EvictedBytes, EvictedCount: s.EvictedCount,
		PassThrough: s.PassThrough, Dropped: s.Dropped, Faults: s.Faults,
	}
	for project, p := range s.Projects {
		f.Projects[project] = api.Answers{
			Hits: p.Hits, Misses: p.Misses, Joins: p.Joins, Stale: p.Stale, Denied: p.Denied, Corrupt: p.Corrupt, Received: p.BytesUpstream,
		}
	}
	return f
}

// reloads count how often the configuration was read again.
type reloads struct {
	done, refused atomic.Int64
	faulty        atomic.Bool // the last time
}

func (r *reloads) note(err error) {
	r.faulty.Store(err != nil)
	if err != nil {
		r.refused.Add(1)
		return
	}
	r.done.Add(1)
}

// settings is how the configuration and the certificate fare, for metrics.
func (h *House) settings() admin.Settings {
	s := admin.Settings{Reloaded: h.reloads.done.Load(), Refused: h.reloads.refused.Load(), Faulty: h.reloads.faulty.Load()}
	if h.certificate != nil {
		s.Certificate, s.Expires, s.CertificateFaults = true, h.certificate.current.Load().Leaf.NotAfter, h.certificate.faults.Load()
	}
	return s
}

// disk is the file system of the data directory.
func (h *House) disk() (d admin.Disk, err error) {
	d.Free, d.Size, err = h.data.Store.Free()
	d.Floor = h.data.Store.Floor(d.Size)
	return d, err
}

// bucketRequests are those of this node; nil where content lies in a directory.
func (h *House) bucketRequests() (all []admin.BucketRequests) {
	if h.data.bucket == nil {
		return nil
	}
	for _, s := range h.data.bucket.Stats() {
		all = append(all, admin.BucketRequests{Method: s.Method, Classes: s.Requests, Bounds: s.Bounds, Counts: s.Counts, Sum: s.Sum})
	}
	return all
}

// jobs are those of this node.
func (h *House) jobs() (all []admin.Jobs) {
	for _, j := range h.estate.JobFigures() {
		all = append(all, admin.Jobs{Kind: string(j.Kind), Waiting: j.Waiting, Running: j.Running, Success: j.Success, Failed: j.Failed, Stopped: j.Stopped})
	}
	return all
}
