package s3

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// That a client left says nothing of the server.
func TestStatsOfThoseWhoWait(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			asked <- struct{}{}
			<-r.Context().Done()
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	tr, err := newTransport(Config{Stall: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context, path string) error {
		t.Helper()
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := tr.RoundTrip(q)
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-asked; leave() }()
	if err := ask(ctx, "/slow"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := ask(t.Context(), "/fast"); err != nil {
		t.Error(err)
	}
	server.Close()
	if err := ask(t.Context(), "/fast"); err == nil {
		t.Error("a server that is away has answered")
	}
	stats := (&Driver{transport: tr}).Stats()[0]
	if stats.Method != http.MethodGet || stats.Requests["404"] != 1 || stats.Requests["none"] != 1 {
		t.Errorf("%+v", stats)
	}
	var n int64
	for _, count := range stats.Counts {
		n += count
	}
	if n != 2 {
		t.Errorf("%d durations of two requests", n)
	}
}
