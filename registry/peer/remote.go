package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"roadstead/registry"
)

// remote is an upload at another node.
type remote struct {
	uploads *Uploads
	node    Node
	name    string // for clients
	label   string // of the node
	id      string // at the node
	repo    registry.Repo
	owner   string
	number  int64 // of the project
	size    int64 // as the node last said
}

// ID is the name of the upload.
func (o *remote) ID() string { return o.name }

// Size is how many bytes have been taken, as far as the node has said.
func (o *remote) Size() int64 { return o.size }

// finding is how long a node may take to say that it has an upload, which it does from memory.
const finding = 5 * time.Second

func (o *remote) find(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, finding)
	defer cancel()
	return o.ask(ctx, http.MethodGet, url.Values{}, nil)
}

// Append sends body on as it comes, and no faster than the other node takes it. That one reads none
// of it before it has the upload for itself.
func (o *remote) Append(ctx context.Context, at int64, body io.Reader) error {
	if at >= 0 && at != o.size {
		return &registry.Fault{Code: registry.RangeInvalid, Message: fmt.Sprintf("the upload is at %d and not at %d", o.size, at)}
	}
	from, to := io.Pipe()
	p := &pull{PipeReader: from, wanted: make(chan struct{})}
	var out outcome
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, err = o.ask(ctx, http.MethodPatch, url.Values{"at": {strconv.FormatInt(at, 10)}}, p)
		from.Close() // nobody is to go on writing
	}()
	var broke error
	select {
	case <-p.wanted:
		broke = send(to, body)
	case <-done:
	}
	// A body that has broken off ends here too: what has come of it stays taken.
	to.Close()
	<-done
	if err != nil {
		return o.lost(ctx, err)
	}
	o.size = out.Size
	if err := out.fault(o.node); err != nil {
		return err
	}
	if broke != nil {
		return &registry.Fault{Code: registry.BlobUploadInvalid, Message: "the body broke off: go on from where the upload is", Err: broke}
	}
	return nil
}

// pull is the end of a pipe that says when something is wanted of it.
type pull struct {
	*io.PipeReader
	wanted chan struct{} // closed then
	once   sync.Once
}

// Read waits for what is written at the other end.
func (p *pull) Read(b []byte) (int, error) {
	p.once.Do(func() { close(p.wanted) })
	return p.PipeReader.Read(b)
}

// piece is how much of a body is sent on at a time: enough that the calls for it cost little.
const piece = 64 << 10

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

// send writes all of body, or until nobody wants it. What it returns is the body's fault.
func send(to io.Writer, body io.Reader) error {
	buf := pieces.Get().(*[piece]byte)
	defer pieces.Put(buf)
	for {
		n, end := body.Read(buf[:])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return nil // the other node has said why
			}
		}
		if end == io.EOF {
			return nil
		}
		if end != nil {
			return end
		}
	}
}

// Commit has the other node make a blob of the upload.
func (o *remote) Commit(ctx context.Context, d registry.Digest) error {
	return o.end(ctx, http.MethodPut, url.Values{"digest": {d.String()}})
}

// Cancel has the other node throw the upload away.
func (o *remote) Cancel(ctx context.Context) error {
	return o.end(ctx, http.MethodDelete, url.Values{})
}

func (o *remote) end(ctx context.Context, method string, query url.Values) error {
	out, err := o.ask(ctx, method, query, nil)
	if err != nil {
		return o.lost(ctx, err)
	}
	o.size = out.Size
	return out.fault(o.node)
}

// lost is what a client is told when the other node has found the upload, and gave no answer then.
// What of the request it has done is not known, so it is not asked again.
func (o *remote) lost(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	o.uploads.cluster.log.Warn("an upload is cut off, the node that has it does not answer", "node", o.node.ID, "repo", o.repo.String(), "err", err)
	return o.uploads.unreachable(err)
}

// ask has the other node do something with the upload. An error means that there was no answer.
func (o *remote) ask(ctx context.Context, method string, query url.Values, body io.Reader) (out outcome, err error) {
	c := o.uploads.cluster
	query.Set("project", o.repo.Project)
	query.Set("name", o.repo.Name)
	query.Set("owner", o.owner)
	query.Set("number", strconv.FormatInt(o.number, 10))
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(o.node.URL, "/")+uploadsPath+o.id+"?"+query.Encode(), body)
	if err != nil {
		return outcome{}, fmt.Errorf("node %s: %w", o.node.ID, err)
	}
	if body != nil {
		r.ContentLength = -1 // a client's body may break off, and the rest is not waited for then
		r.Header.Set("Expect", "100-continue")
	}
	c.secret.sign(r, c.self.ID, time.Now())
	res, err := c.client.Do(r)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			c.shuns.shun(o.node.ID, time.Now())
		}
		return outcome{}, fmt.Errorf("node %s: %w", o.node.ID, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err == nil && res.Header.Get("Content-Type") != outcomeType {
		err = fmt.Errorf("it answered %s: %.200q", res.Status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		return outcome{}, fmt.Errorf("node %s: %w", o.node.ID, err)
	}
	return out, nil
}
