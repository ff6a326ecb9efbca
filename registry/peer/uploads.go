package peer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// Local is what takes uploads in on a node.
type Local interface {
	registry.Uploader

	// Number is that of a project, which no other will ever have; 0 for what is none. Nodes may
	// for seconds have different ones under a name.
	Number(project string) int64
}

// Uploads takes uploads in for the whole cluster: those that begin here stay here, and those that
// have begun at another node are gone on with there. Who may push has been decided; whose an upload
// is decides the node that has it.
type Uploads struct {
	cluster *Cluster
	local   Local
	label   string // of this node
	absence time.Duration

	mu   sync.Mutex
	away map[string]time.Time // by label: since when a node has not answered
}

// Uploads has uploads gone on with wherever they are.
func (c *Cluster) Uploads(local Local) *Uploads {
	return &Uploads{cluster: c, local: local, label: c.secret.label(c.self.ID), absence: absence, away: map[string]time.Time{}}
}

// StartUpload begins one here.
func (u *Uploads) StartUpload(ctx context.Context, repo registry.Repo, owner string, alg digest.Algorithm) (registry.Upload, error) {
	one, err := u.local.StartUpload(ctx, repo, owner, alg)
	if err != nil {
		return nil, err
	}
	return named{one, u.cluster.secret.name(u.label, one.ID())}, nil
}

// named is an upload on this node under the name that leads all nodes here.
type named struct {
	registry.Upload
	name string
}

// ID is that name.
func (n named) ID() string { return n.name }

// Upload finds one, here or at the node that its name says. What no node has named may be from
// before this one had others beside it.
func (u *Uploads) Upload(ctx context.Context, repo registry.Repo, owner, name string) (registry.Upload, error) {
	label, id, ok := u.cluster.secret.parseName(name)
	if !ok {
		return u.local.Upload(ctx, repo, owner, name)
	}
	if label == u.label {
		one, err := u.local.Upload(ctx, repo, owner, id)
		if err != nil {
			return nil, err
		}
		return named{one, name}, nil
	}
	u.cluster.stats.forwarded.Add(1)
	one := &remote{uploads: u, name: name, id: id, label: label, repo: repo, owner: owner, number: u.local.Number(repo.Project)}
	if err := u.reach(ctx, one); err != nil {
		return nil, err
	}
	return one, nil
}

const (
	// absence is how long a client is kept waiting for a node that does not answer: longer than
	// one takes to start again, with all that was sent to it. It costs a client whose upload is
	// lost these seconds, and spares many the whole upload: skopeo begins none again by itself.
	absence = 10 * time.Second

	// knock is how often such a node is asked in the meantime.
	knock = 200 * time.Millisecond
)

// reach finds the node of an upload, and the upload at it.
//
// That a node does not answer is no word on the upload, which may be there when it is back. So it is
// Unavailable, and not unknown: docker and podman begin an upload again after either, and crane
// after the first only.
func (u *Uploads) reach(ctx context.Context, one *remote) error {
	for {
		node, known := u.cluster.labelled(one.label)
		err := fmt.Errorf("the node with the label %s is not on the roll", one.label)
		if known {
			one.node = node
			var out outcome
			if out, err = one.find(ctx); err == nil {
				u.answered(one.label)
				one.size = out.Size
				return out.fault(node)
			}
		}
		if !u.waits(one.label, time.Now()) {
			return u.unreachable(err)
		}
		select {
		case <-time.After(knock):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unreachable is what a client is told of a node that does not answer.
func (u *Uploads) unreachable(err error) error {
	u.cluster.stats.unreachable.Add(1)
	return &registry.Fault{
		Code: registry.Unavailable, Err: err,
		Message: "the node that has this upload does not answer: go on in a moment, or begin it again",
	}
}

// waits reports whether a node that has not answered is to be waited for, for all that ask together:
// whoever comes when it has been away for too long already does not wait. After a minute the next
// one does, since nobody may have asked in between.
func (u *Uploads) waits(label string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	since, ok := u.away[label]
	if !ok || now.Sub(since) > missed {
		since, u.away[label] = now, now
	}
	return now.Sub(since) < u.absence
}

func (u *Uploads) answered(label string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.away, label)
}

// labelled finds a node by its label: only those that are on the roll, or were a minute ago, are
// ever asked for anything.
func (c *Cluster) labelled(label string) (Node, bool) {
	v := c.view.Load()
	for _, n := range v.nodes {
		if c.secret.label(n.ID) == label {
			return n, true
		}
	}
	for _, g := range v.gone {
		if c.secret.label(g.ID) == label {
			return g.Node, true
		}
	}
	return Node{}, false
}
