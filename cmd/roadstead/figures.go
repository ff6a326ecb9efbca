package main

import (
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
		StoredBytes: s.StoredBytes, StoredCount: s.StoredCount, MaxSize: s.MaxSize, EvictedBytes: s.EvictedBytes, EvictedCount: s.EvictedCount,
		PassThrough: s.PassThrough, Dropped: s.Dropped, Faults: s.Faults,
	}
	for project, p := range s.Projects {
		f.Projects[project] = api.Answers{
			Hits: p.Hits, Misses: p.Misses, Joins: p.Joins, Stale: p.Stale, Denied: p.Denied, Corrupt: p.Corrupt, Received: p.BytesUpstream,
		}
	}
	return f
}
