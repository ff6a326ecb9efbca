package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
)

// uploadsPath is where a node is asked for uploads of its own, with <id>: GET says how far one has
// come, PATCH appends, PUT commits and DELETE cancels it.
const uploadsPath = "/uploads/"

// outcome is what a node answers: how far an upload is after that, and what a client is to be told
// if it was refused.
type outcome struct {
	Size       int64         `json:"size"`
	Code       registry.Code `json:"code,omitempty"` // "": done
	Message    string        `json:"message,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	Timeout    bool          `json:"timeout,omitempty"`
}

const outcomeType = "application/json"

// fault is why a node has refused, as this one would have said it; nil when it has not.
func (o outcome) fault(n Node) error {
	if o.Code == "" {
		return nil
	}
	return &registry.Fault{
		Code: o.Code, Message: o.Message, RetryAfter: o.RetryAfter, Timeout: o.Timeout,
		Err: fmt.Errorf("the upload is at node %s", n.ID),
	}
}

// outcomeOf is what an error becomes on the way. What is known only to the log here is trouble of
// another node there, which passes.
func outcomeOf(size int64, err error) outcome {
	out := outcome{Size: size}
	if err == nil {
		return out
	}
	if fault, ok := errors.AsType[*registry.Fault](err); ok {
		out.Code, out.Message, out.RetryAfter, out.Timeout = fault.Code, fault.Message, fault.RetryAfter, fault.Timeout
	} else if code, ok := errors.AsType[registry.Code](err); ok {
		out.Code = code
	} else {
		out.Code, out.Message = registry.Unavailable, "the node that has this upload is in trouble, try again later"
	}
	return out
}

// takeUpload does what another node's client wants of an upload here. It goes to local and never to
// a third node, whatever the roll says.
func (c *Cluster) takeUpload(w http.ResponseWriter, r *http.Request, local Local) {
	c.stats.uploading.Add(1)
	defer c.stats.uploading.Add(-1)
	size, err := doUpload(r, local)
	out := outcomeOf(size, err)
	if out.Code == registry.Unavailable {
		c.log.Warn("an upload for another node", "err", err)
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err) // numbers and strings marshal
	}
	w.Header().Set("Content-Type", outcomeType)
	if out.Code != "" {
		w.WriteHeader(http.StatusConflict) // which ends the sending of a body
	}
	// The other node may be gone, and then there is nobody to tell.
	_, _ = w.Write(text)
}

// doUpload returns how far the upload is after that.
func doUpload(r *http.Request, local Local) (size int64, err error) {
	ctx, query := r.Context(), r.URL.Query()
	id := strings.TrimPrefix(r.URL.Path, uploadsPath)
	repo := registry.Repo{Project: query.Get("project"), Name: query.Get("name")}
	if number := local.Number(repo.Project); query.Get("number") != strconv.FormatInt(number, 10) {
		return 0, fmt.Errorf("project %s is number %d here, and %q there: %w", repo.Project, number, query.Get("number"), registry.BlobUploadUnknown)
	}
	u, err := local.Upload(ctx, repo, query.Get("owner"), id)
	if err != nil {
		return 0, err
	}
	switch r.Method {
	case http.MethodPatch:
		var at int64
		if at, err = strconv.ParseInt(query.Get("at"), 10, 64); err == nil {
			err = u.Append(ctx, at, r.Body)
		}
	case http.MethodPut:
		err = commit(r, u, query)
	case http.MethodDelete:
		err = u.Cancel(ctx)
	}
	return u.Size(), err
}

func commit(r *http.Request, u registry.Upload, query url.Values) error {
	d, err := registry.ParseDigest(query.Get("digest"))
	if err != nil {
		return err
	}
	return u.Commit(r.Context(), d)
}

// isUpload reports whether a request is for an upload.
func isUpload(r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, uploadsPath) {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
