package upstream

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// stream is the body of an answer. It is what the transport made, read without a copy, with a
// watch on how long each Read takes.
type stream struct {
	io.ReadCloser
	ctx    context.Context // bounds the body; ended by cancel
	cancel context.CancelCauseFunc
	timer  *time.Timer // cancels with errSilent
	end    *time.Timer // cancels too; nil unless hurried
	idle   time.Duration
	count  *atomic.Int64
}

func (s *stream) Read(p []byte) (int, error) {
	s.timer.Reset(s.idle)
	n, err := s.ReadCloser.Read(p)
	s.timer.Stop()
	s.count.Add(int64(n))
	if err != nil && err != io.EOF {
		// The transport says "canceled"; the cause says by whom.
		if cause := context.Cause(s.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (s *stream) Close() error {
	err := s.ReadCloser.Close()
	s.timer.Stop()
	if s.end != nil {
		s.end.Stop()
	}
	s.cancel(nil)
	return err
}

// hurry cuts the body off at the latest after d. It is called once.
func (s *stream) hurry(d time.Duration) {
	s.end = time.AfterFunc(d, func() { s.cancel(errSilent) })
}
