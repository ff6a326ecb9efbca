package server

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"roadstead/registry"
)

// A GET of a manifest that is answered is a pull, by tag as by digest. A HEAD, a blob and what is
// refused or not there are none.
func TestPulledIsTold(t *testing.T) {
	y := newYard()
	body := []byte(`{"schemaVersion":2}`)
	d, blob := y.tag("private/app", "v1", body), y.put("private/app", []byte("layer"))
	var told []string
	pulled := func(p registry.Principal, repo registry.Repo, d registry.Digest) {
		told = append(told, p.Name()+" "+repo.String()+"@"+d.String())
	}
	s := New(Config{Registry: y, Access: &gate{}, Pulled: pulled, Known: func(p string) bool { return p == "private" }})
	for _, row := range []struct {
		who, method, path string
		status            int
	}{
		{"dev", "HEAD", "manifests/v1", 200},
		{"dev", "GET", "manifests/v1", 200},
		{"guest", "GET", "manifests/" + d.String(), 200},
		{"guest", "HEAD", "manifests/" + d.String(), 200},
		{"guest", "GET", "blobs/" + blob.String(), 200},
		{"dev", "GET", "manifests/none", 404},
		{"alien", "GET", "manifests/v1", 404},
		{"", "GET", "manifests/v1", 401},
	} {
		r := httptest.NewRequest(row.method, "/v2/private/app/"+row.path, http.NoBody)
		if row.who != "" {
			r.SetBasicAuth(row.who, row.who)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != row.status {
			t.Errorf("%s %s by %q is answered %d, want %d", row.method, row.path, row.who, w.Code, row.status)
		}
	}
	want := []string{"dev private/app@" + d.String(), "guest private/app@" + d.String()}
	if !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}
