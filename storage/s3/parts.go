package s3

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
)

// slow is how many times as long as any other request one may be without progress that has the
// server put parts together or copy an object.
const slow = 10

// inParts uploads a file in parts. The order matters: what is visible is made by one request, the
// last, and whatever ends before that leaves parts that no reader sees and that a sweep removes.
func (o *upload) inParts(ctx context.Context) error {
	call, done := o.call(ctx)
	id, err := o.core.NewMultipartUpload(call, o.bucket, o.key, o.options(false))
	done()
	if err != nil {
		return o.explainStall(call, err)
	}
	parts, err := o.sendParts(ctx, id)
	if err == nil {
		err = o.complete(ctx, id, parts)
	}
	if err != nil {
		o.abort(ctx, o.key, id)
	}
	return err
}

// sendParts uploads all parts, a few at a time. The first that cannot be ends it.
func (o *upload) sendParts(ctx context.Context, id string) ([]minio.CompletePart, error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	parts := make([]minio.CompletePart, (o.size+o.part-1)/o.part)
	next := make(chan int)
	var senders sync.WaitGroup
	for range min(o.parallel, len(parts)) {
		senders.Go(func() {
			for i := range next {
				at := int64(i) * o.part
				part, err := o.sendPart(ctx, o.key, id, i+1, io.NewSectionReader(o.file, at, min(o.part, o.size-at)))
				if err != nil {
					end(fmt.Errorf("part %d of %d: %w", i+1, len(parts), err))
					return
				}
				parts[i] = part
			}
		})
	}
feed:
	for i := range parts {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	senders.Wait()
	return parts, context.Cause(ctx)
}

func (d *Driver) sendPart(ctx context.Context, key, id string, n int, content *io.SectionReader) (minio.CompletePart, error) {
	ctx, done := d.call(ctx)
	defer done()
	part, err := d.core.PutObjectPart(ctx, d.bucket, key, id, n, content, content.Size(), minio.PutObjectPartOptions{DisableContentSha256: true})
	if err != nil {
		return minio.CompletePart{}, d.explainStall(ctx, err)
	}
	return minio.CompletePart{PartNumber: n, ETag: part.ETag}, nil
}

// complete has the parts put together. Its answer may be lost, and be an error about an upload
// that is no more when it is asked again; so what is at the key decides, by its bytes.
func (o *upload) complete(ctx context.Context, id string, parts []minio.CompletePart) error {
	call, done := o.patientCall(ctx, o.transport.slow)
	defer done()
	err := o.completeParts(call, o.key, id, parts, true)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	if same, _ := o.same(ctx); same {
		o.abort(ctx, o.key, id) // where it is somebody else's; ours is no more
		return nil
	}
	if refusedCondition(err) {
		again, done := o.patientCall(ctx, o.transport.slow)
		defer done()
		return o.completeParts(again, o.key, id, parts, false)
	}
	return o.explainStall(call, err)
}

func (d *Driver) completeParts(ctx context.Context, key, id string, parts []minio.CompletePart, create bool) error {
	_, err := d.core.CompleteMultipartUpload(ctx, d.bucket, key, id, parts, d.options(create))
	if create && d.cannotCreate(err) {
		return d.completeParts(ctx, key, id, parts, false)
	}
	return err
}

// abort forgets an upload, although its caller may have gone. What cannot be aborted now is swept.
func (d *Driver) abort(ctx context.Context, key, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	ctx, done := d.call(ctx)
	defer done()
	_ = d.core.AbortMultipartUpload(ctx, d.bucket, key, id)
}

// Sweep removes the parts of uploads that were begun longer ago than age and have not ended: what a
// crash has left, and, if age is less than an upload takes, what others are at.
func (d *Driver) Sweep(ctx context.Context, age time.Duration) error {
	ctx, done := d.call(ctx)
	defer done()
	limit := time.Now().Add(-age)
	uploads, err := d.unfinished(ctx, d.key("/"), func(u minio.ObjectMultipartInfo) bool { return u.Initiated.Before(limit) })
	if err != nil {
		return d.failed(ctx, "look for unfinished uploads in", d.bucket, err)
	}
	for _, u := range uploads {
		err := d.core.AbortMultipartUpload(ctx, d.bucket, u.Key, u.UploadID)
		if err != nil && !absent(err) {
			return d.failed(ctx, "abort an unfinished upload of", d.path(u.Key), err)
		}
		if err := d.client.RemoveObject(ctx, d.bucket, rest(u.Key, u.UploadID), minio.RemoveObjectOptions{}); err != nil {
			return d.failed(ctx, "remove the rest of an unfinished upload of", d.path(u.Key), err)
		}
	}
	return nil
}

// unfinished are the uploads below a prefix that have not ended and that are wanted.
func (d *Driver) unfinished(ctx context.Context, prefix string, want func(minio.ObjectMultipartInfo) bool) ([]minio.ObjectMultipartInfo, error) {
	var uploads []minio.ObjectMultipartInfo
	var first error
	for u := range d.client.ListIncompleteUploads(ctx, d.bucket, prefix, true) { // to its end, or it leaks
		switch {
		case u.Err != nil && first == nil:
			first = u.Err
		case u.Err == nil && want(u):
			uploads = append(uploads, u)
		}
	}
	return uploads, first
}
