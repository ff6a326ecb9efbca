package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// Writer begins an object, or goes on with one that was closed and not committed. ctx bounds the
// life of what is returned. The interface wants it and the suite of distribution tests it; content
// of ours is a file before it comes here, and goes by PutFile.
func (d *Driver) Writer(ctx context.Context, path string, more bool) (storagedriver.FileWriter, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	w := &writer{driver: d, ctx: ctx, path: path, key: d.key(path)}
	if more {
		if err := w.resume(); err != nil {
			return nil, d.failed(ctx, "append to", path, err)
		}
	}
	return w, nil
}

// writer is an upload in parts, one after the other. What it has not sent yet and is too short for
// a part of its own lies, from Close to the next Writer, in an object beside it, its rest: parts
// cannot be read or be shorter than 5 MiB, and the name itself must not show what is not committed.
type writer struct {
	driver *Driver
	ctx    context.Context
	path   string
	key    string

	id     string // of the upload, or "" while there is none
	parts  []minio.CompletePart
	sent   int64 // in parts
	buf    []byte
	rested bool // there is a rest
	ended  error
}

var (
	errClosed    = errors.New("it is closed")
	errCommitted = errors.New("it is committed")
	errCancelled = errors.New("it is cancelled")
)

// rest is the key of the rest of an upload.
func rest(key, id string) string {
	sum := sha256.Sum256([]byte(id))
	return key + "._rest-" + hex.EncodeToString(sum[:8])
}

// Size is how much has been written, sent or not.
func (w *writer) Size() int64 { return w.sent + int64(len(w.buf)) }

// partLen is how long the next part is. They get longer, so that they do not run out.
func (w *writer) partLen() int { return int(w.driver.part) << (len(w.parts) / (maxParts / 4)) }

func (w *writer) Write(p []byte) (int, error) {
	if w.ended != nil {
		return 0, w.failed("write", w.ended)
	}
	n := 0
	for n < len(p) {
		if len(w.buf) >= w.partLen() {
			if err := w.flush(); err != nil {
				return n, w.failed("write", err)
			}
		}
		m := min(len(p)-n, w.partLen()-len(w.buf))
		w.buf = append(w.buf, p[n:n+m]...)
		n += m
	}
	return n, nil
}

func (w *writer) begin() error {
	if w.id != "" {
		return nil
	}
	ctx, done := w.driver.call(w.ctx)
	defer done()
	id, err := w.driver.core.NewMultipartUpload(ctx, w.driver.bucket, w.key, w.driver.options(false))
	w.id = id
	return err
}

// flush sends what is there as a part.
func (w *writer) flush() error {
	if err := w.begin(); err != nil {
		return err
	}
	content := io.NewSectionReader(bytes.NewReader(w.buf), 0, int64(len(w.buf)))
	part, err := w.driver.sendPart(w.ctx, w.key, w.id, len(w.parts)+1, content)
	if err != nil {
		return err
	}
	w.parts = append(w.parts, part)
	w.sent += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// Close keeps what is not committed for the next Writer.
func (w *writer) Close() error {
	switch {
	case errors.Is(w.ended, errClosed):
		return w.failed("close", w.ended)
	case w.ended != nil: // committed or cancelled
		w.ended = errClosed
		return nil
	}
	w.ended = errClosed
	if err := w.keep(); err != nil {
		return w.failed("close", err)
	}
	return nil
}

func (w *writer) keep() error {
	if len(w.buf) >= minPart {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.begin(); err != nil || len(w.buf) == 0 {
		return err
	}
	// Where it belongs is part of it: after a crash there may be an old rest whose bytes are in a
	// part meanwhile.
	b := append(binary.BigEndian.AppendUint64(nil, uint64(w.sent)), w.buf...)
	ctx, done := w.driver.call(w.ctx)
	defer done()
	_, err := w.driver.put(ctx, rest(w.key, w.id), bytes.NewReader(b), int64(len(b)), false)
	return err
}

// Cancel forgets what was written. An object that was under the name before stays.
func (w *writer) Cancel(ctx context.Context) error {
	if errors.Is(w.ended, errCommitted) || errors.Is(w.ended, errClosed) {
		return w.failed("cancel", w.ended)
	}
	w.ended, w.buf = errCancelled, nil
	if w.id == "" {
		return nil
	}
	w.driver.abort(ctx, w.key, w.id)
	return w.removeRest(ctx)
}

// Commit makes what was written visible under the name.
func (w *writer) Commit(ctx context.Context) error {
	if w.ended != nil {
		return w.failed("commit", w.ended)
	}
	if err := w.commit(ctx); err != nil {
		return w.failed("commit", err)
	}
	w.ended, w.sent, w.buf = errCommitted, w.Size(), nil
	return nil
}

func (w *writer) commit(ctx context.Context) error {
	if w.id != "" && len(w.buf) > 0 && len(w.parts) > 0 || len(w.buf) > w.partLen() {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(w.parts) == 0 {
		// All of it is here, and one request is enough.
		call, done := w.driver.call(ctx)
		defer done()
		if _, err := w.driver.put(call, w.key, bytes.NewReader(w.buf), int64(len(w.buf)), false); err != nil {
			return err
		}
		if w.id != "" {
			w.driver.abort(ctx, w.key, w.id)
		}
		return w.removeRest(ctx)
	}
	call, done := w.driver.patientCall(ctx, w.driver.transport.slow)
	defer done()
	if err := w.driver.completeParts(call, w.key, w.id, w.parts, false); err != nil {
		return w.driver.explainStall(call, err)
	}
	return w.removeRest(ctx)
}

func (w *writer) removeRest(ctx context.Context) error {
	if !w.rested {
		return nil
	}
	ctx, done := w.driver.call(ctx)
	defer done()
	return w.driver.client.RemoveObject(ctx, w.driver.bucket, rest(w.key, w.id), minio.RemoveObjectOptions{})
}

// resume finds the upload that was begun last under this name.
func (w *writer) resume() error {
	ctx, done := w.driver.call(w.ctx)
	defer done()
	uploads, err := w.driver.unfinished(ctx, w.key, func(u minio.ObjectMultipartInfo) bool { return u.Key == w.key })
	if err != nil {
		return err
	}
	if len(uploads) == 0 {
		info, err := w.driver.StatFile(w.ctx, w.path)
		if err == nil && info.Size() > 0 {
			err = errCommitted
		}
		return err
	}
	last := uploads[0]
	for _, u := range uploads {
		if u.Initiated.After(last.Initiated) {
			last = u
		}
	}
	w.id = last.UploadID
	if err := w.listParts(ctx); err != nil {
		return err
	}
	return w.readRest()
}

func (w *writer) listParts(ctx context.Context) error {
	for after := 0; ; {
		page, err := w.driver.core.ListObjectParts(ctx, w.driver.bucket, w.key, w.id, after, 1000)
		if err != nil {
			return err
		}
		for _, p := range page.ObjectParts {
			w.parts = append(w.parts, minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag})
			w.sent += p.Size
		}
		if !page.IsTruncated || page.NextPartNumberMarker <= after {
			return nil
		}
		after = page.NextPartNumberMarker
	}
}

func (w *writer) readRest() error {
	b, err := w.driver.GetContent(w.ctx, w.driver.path(rest(w.key, w.id)))
	if _, none := errors.AsType[storagedriver.PathNotFoundError](err); none {
		return nil
	}
	if err != nil {
		return err
	}
	w.rested = true
	if len(b) >= 8 && binary.BigEndian.Uint64(b) == uint64(w.sent) {
		w.buf = b[8:]
	}
	return nil
}

func (w *writer) failed(doing string, err error) error {
	return w.driver.failed(w.ctx, doing, w.path, fmt.Errorf("an upload: %w", err))
}
