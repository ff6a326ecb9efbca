package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// report is what both questions answer.
type report struct {
	Status     string
	Components []Component
	Degraded   []string
	Reasons    []string
}

func get(t testing.TB, handler http.Handler, path string) (int, report) {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	var got report
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Errorf("GET %s = %d %q: %v", path, w.Code, w.Body, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("GET %s is %q, want application/json", path, got)
	}
	return w.Code, got
}

func TestHealth(t *testing.T) {
	disk := Component{Name: "storage", Status: Healthy}
	broken := Component{Name: "catalog", Status: Unhealthy, Error: `damaged: "catalog.db"`}
	for _, tt := range []struct {
		name   string
		health func(context.Context) []Component
		want   report
	}{
		{"nothing to tell", nil, report{Status: "healthy", Components: []Component{}}},
		{"all is well", func(context.Context) []Component { return []Component{disk} },
			report{Status: "healthy", Components: []Component{disk}}},
		{"a part is not well: alive all the same", func(context.Context) []Component { return []Component{disk, broken} },
			report{Status: "unhealthy", Components: []Component{disk, broken}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, got := get(t, New(Config{Health: tt.health}), "/healthz")
			if code != http.StatusOK || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("GET /healthz = %d %+v, want 200 %+v", code, got, tt.want)
			}
		})
	}
}

func TestReady(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ready func(context.Context) error
		code  int
		want  report
	}{
		{"nothing in the way", nil, 200, report{Status: "ready"}},
		{"ready", func(context.Context) error { return nil }, 200, report{Status: "ready"}},
		{"stopping", func(context.Context) error { return errors.New("it is stopping") },
			503, report{Status: "not ready", Reasons: []string{"it is stopping"}}},
		{"several reasons", func(context.Context) error {
			return errors.Join(errors.New("storage: read-only"), errors.New("catalog: damaged"))
		}, 503, report{Status: "not ready", Reasons: []string{"storage: read-only", "catalog: damaged"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, got := get(t, New(Config{Ready: tt.ready}), "/readyz")
			if code != tt.code || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("GET /readyz = %d %+v, want %d %+v", code, got, tt.code, tt.want)
			}
		})
	}
}

func TestDegraded(t *testing.T) {
	away := errors.Join(errors.New("catalog: away"), errors.New("bucket: away"))
	handler := New(Config{
		Degraded: func(context.Context) error { return away },
		Parts: func(context.Context) []Component {
			return []Component{{Name: "catalog", Status: Unhealthy, Error: "away"}, {Name: "storage", Status: Healthy}}
		},
	})
	want := report{Status: "degraded", Degraded: []string{"catalog: away", "bucket: away"}}
	for path, code := range map[string]int{"/readyz": 200, "/readyz?whole": 503} {
		if status, got := get(t, handler, path); status != code || !reflect.DeepEqual(got, want) {
			t.Errorf("GET %s = %d %+v, want %d %+v", path, status, got, code, want)
		}
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{`roadstead_part_up{part="catalog"} 0`, `roadstead_part_up{part="storage"} 1`} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("GET /metrics has no %s", line)
		}
	}
	away = nil
	if status, got := get(t, handler, "/readyz?whole"); status != 200 || !reflect.DeepEqual(got, report{Status: "ready"}) {
		t.Errorf("GET /readyz?whole = %d %+v, want 200 and nothing missing", status, got)
	}
}

func TestOtherRequests(t *testing.T) {
	handler := New(Config{})
	for _, tt := range []struct {
		name, method, path string
		want               int
	}{
		{"HEAD of health", "HEAD", "/healthz", 200},
		{"HEAD of readiness", "HEAD", "/readyz", 200},
		{"HEAD of metrics", "HEAD", "/metrics", 200},
		{"a method that changes things", "POST", "/healthz", 405},
		{"a path below", "GET", "/healthz/x", 404},
		{"the registry's own", "GET", "/v2/", 404},
		{"the root", "GET", "/", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			if w.Code != tt.want {
				t.Errorf("%s %s = %d, want %d", tt.method, tt.path, w.Code, tt.want)
			}
		})
	}
}

// TestHangingCheck has a disk that hangs: whoever asks hears so in time, and no second question
// is put to it until it answers.
func TestHangingCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		disk := make(chan struct{})
		hang := func() {
			asked.Add(1)
			<-disk
		}
		handler := New(Config{
			Ready: func(context.Context) error {
				hang()
				return nil
			},
			Health: func(context.Context) []Component {
				hang()
				return []Component{{Name: "storage", Status: Healthy}}
			},
		})
		start := time.Now()
		var probes sync.WaitGroup
		for range 10 {
			probes.Go(func() {
				want := report{Status: "not ready", Reasons: []string{"the check has not ended for 2s"}}
				if code, got := get(t, handler, "/readyz"); code != 503 || !reflect.DeepEqual(got, want) {
					t.Errorf("GET /readyz = %d %+v, want 503 %+v", code, got, want)
				}
			})
			probes.Go(func() {
				want := []Component{{Name: "health", Status: Unhealthy, Error: "the check has not ended for 2s"}}
				if code, got := get(t, handler, "/healthz"); code != 200 || !reflect.DeepEqual(got.Components, want) {
					t.Errorf("GET /healthz = %d %+v, want 200 %+v", code, got, want)
				}
			})
		}
		probes.Wait()
		if took := time.Since(start); took != patience {
			t.Errorf("the answers took %s, want %s", took, patience)
		}
		time.Sleep(time.Minute - patience)
		if _, got := get(t, handler, "/readyz"); len(got.Reasons) != 1 || got.Reasons[0] != "the check has not ended for 1m2s" {
			t.Errorf("GET /readyz later = %+v, want how long it has hung", got)
		}
		if got := asked.Load(); got != 2 {
			t.Errorf("the hanging disk was asked %d times, want once for each question", got)
		}
		close(disk)
		synctest.Wait()
		if code, got := get(t, handler, "/readyz"); code != 200 {
			t.Errorf("GET /readyz when the disk is back = %d %+v, want 200", code, got)
		}
		if got := asked.Load(); got != 3 {
			t.Errorf("the disk was asked %d times, want once more", got)
		}
	})
}

// TestCheckHasADeadline: a question that heeds its ctx ends with the patience of whoever asked,
// and not with his connection, for others may wait for the same answer.
func TestCheckHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := New(Config{Ready: func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		ctx, leave := context.WithCancel(t.Context())
		leave()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil).WithContext(ctx))
		start := time.Now()
		code, _ := get(t, handler, "/readyz")
		if took := time.Since(start); code != 503 || took != patience {
			t.Errorf("GET /readyz = %d after %s, want 503 after %s", code, took, patience)
		}
		synctest.Wait()
	})
}
