package hosted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func (h *house) start(repo registry.Repo, owner string) registry.Upload {
	h.t.Helper()
	u, err := h.StartUpload(context.Background(), repo, owner, digest.SHA256)
	if err != nil {
		h.t.Fatal(err)
	}
	return u
}

func (h *house) append(u registry.Upload, at int64, text string) {
	h.t.Helper()
	if err := u.Append(context.Background(), at, strings.NewReader(text)); err != nil {
		h.t.Fatal(err)
	}
}

func TestUpload(t *testing.T) {
	h := newHouse(t)
	u := h.start(web, "alice")
	h.append(u, 0, "hello ")
	want(t, u.Append(t.Context(), 3, strings.NewReader("x")), registry.RangeInvalid, "at 6 and not at 3")
	h.append(u, 6, "wor")
	h.append(u, -1, "ld")
	if u.Size() != 11 || h.Stats().UploadBytes != 11 || h.Stats().Uploads != 1 {
		t.Errorf("size %d, stats %+v, want 11 bytes of one upload", u.Size(), h.Stats())
	}
	want(t, u.Commit(t.Context(), digest.FromString("other")), registry.DigestInvalid)
	again, err := h.Upload(t.Context(), web, "alice", u.ID())
	if err != nil {
		t.Fatal(err)
	}
	want(t, again.Commit(t.Context(), digest.FromString("hello world")), "")
	if text, err := h.read(web, digest.FromString("hello world")); err != nil || text != "hello world" {
		t.Errorf("read %q, %v", text, err)
	}
	want(t, u.Append(t.Context(), -1, strings.NewReader("x")), registry.BlobUploadUnknown)
	want(t, u.Commit(t.Context(), digest.FromString("hello world")), registry.BlobUploadUnknown)
	want(t, u.Cancel(t.Context()), registry.BlobUploadUnknown)
	_, err = h.Upload(t.Context(), web, "alice", u.ID())
	want(t, err, registry.BlobUploadUnknown)
	// Of another algorithm than was expected, and of no bytes at all.
	u = h.start(web, "")
	h.append(u, 0, "hello")
	want(t, u.Commit(t.Context(), digest.SHA512.FromString("hello")), "")
	want(t, h.start(web, "").Commit(t.Context(), digest.FromString("")), "")
	u = h.start(web, "")
	want(t, u.Cancel(t.Context()), "")
	if s := h.Stats(); s.Uploads != 0 || s.UploadBytes != 0 || s.PushedBlobs != 3 {
		t.Errorf("stats %+v, want three blobs and nothing under way", s)
	}
	wantNoUploads(t, h)
}

func wantNoUploads(t *testing.T, h *house) {
	t.Helper()
	if left, _ := os.ReadDir(filepath.Join(h.dir, "content/drafts/uploads")); len(left) != 0 {
		t.Errorf("%d files of uploads are left", len(left))
	}
}

// TestB11_UploadsOfOthers: an upload is unknown to any other repository and owner.
func TestB11_UploadsOfOthers(t *testing.T) {
	h := newHouse(t)
	u := h.start(web, "alice")
	restarted := func() {
		for _, tt := range []struct {
			name  string
			repo  registry.Repo
			owner string
			code  registry.Code
		}{
			{"hers", web, "alice", ""},
			{"another owner", web, "mallory", registry.BlobUploadUnknown},
			{"anybody", web, "", registry.BlobUploadUnknown},
			{"another repository", api, "alice", registry.BlobUploadUnknown},
			{"another project", other, "alice", registry.BlobUploadUnknown},
			{"none of ours", registry.Repo{}, "", registry.NameUnknown},
		} {
			t.Run(tt.name, func(t *testing.T) {
				_, err := h.Upload(t.Context(), tt.repo, tt.owner, u.ID())
				want(t, err, tt.code)
			})
		}
	}
	restarted()
	h.suspendAll()
	h.open(Config{})
	restarted()
	for _, id := range []string{"", "../" + u.ID(), u.ID() + ".note", strings.ToLower(u.ID())} {
		_, err := h.Upload(t.Context(), web, "alice", id)
		want(t, err, registry.BlobUploadUnknown)
	}
}

// TestUploadOneAtATime: of two requests at once one goes on and the other is told so.
// An upload goes with its project: one that comes under its name is another.
func TestUploadGoesWithItsProject(t *testing.T) {
	h := newHouse(t)
	if err := h.SetProjects([]catalog.Project{{ID: 7, Name: "production"}}); err != nil {
		t.Fatal(err)
	}
	u := h.start(web, "alice")
	h.append(u, 0, "hello")
	_, err := h.Upload(t.Context(), web, "alice", u.ID())
	want(t, err, "")
	if err := h.SetProjects([]catalog.Project{{ID: 8, Name: "production"}}); err != nil {
		t.Fatal(err)
	}
	_, err = h.Upload(t.Context(), web, "alice", u.ID())
	want(t, err, registry.BlobUploadUnknown)
}

func TestUploadOneAtATime(t *testing.T) {
	h := newHouse(t)
	u := h.start(web, "")
	body, feed := io.Pipe()
	done := make(chan error)
	go func() { done <- u.Append(context.Background(), 0, body) }()
	feed.Write([]byte("one")) // returns when it is being read
	want(t, u.Append(t.Context(), -1, strings.NewReader("two")), registry.Conflict)
	want(t, u.Commit(t.Context(), digest.FromString("one")), registry.Conflict)
	want(t, u.Cancel(t.Context()), registry.Conflict)
	feed.CloseWithError(errors.New("the client has gone"))
	want(t, <-done, registry.BlobUploadInvalid)
	h.append(u, 3, "two") // what came stays taken
	want(t, u.Commit(t.Context(), digest.FromString("onetwo")), "")
}

// TestUploadAcrossRestart: what was taken is there after a restart, and counts.
func TestUploadAcrossRestart(t *testing.T) {
	h := newHouse(t)
	u := h.start(web, "alice")
	h.append(u, 0, "hello ")
	h.start(other, "bob")
	h.suspendAll()
	h.open(Config{MaxProject: 8})
	if s := h.Stats(); s.Uploads != 2 || s.UploadBytes != 6 {
		t.Errorf("stats %+v, want two uploads of 6 bytes", s)
	}
	u, err := h.Upload(t.Context(), web, "alice", u.ID())
	if err != nil || u.Size() != 6 {
		t.Fatalf("upload after a restart: %v, %v", u, err)
	}
	want(t, u.Append(t.Context(), 6, strings.NewReader("world")), registry.TooLarge)
	h.append(u, 6, "w!")
	want(t, u.Commit(t.Context(), digest.FromString("hello w!")), "")
}

// TestB16_Limits: uploads take no more than they may, and nothing that was taken is lost by that.
func TestB16_Limits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		code   registry.Code
		says   string
	}{
		{"of an upload", Config{MaxUpload: 10}, registry.TooLarge, "one upload may be 10 B"},
		{"of a project", Config{MaxProject: 14}, registry.TooLarge, "production may take 14 B"},
		{"of the node", Config{MaxNode: 18}, registry.Full, "may take 18 B together"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			h.open(tt.config)
			before, elsewhere := h.start(api, ""), h.start(other, "")
			h.append(before, 0, "4444")
			h.append(elsewhere, 0, "4444")
			u := h.start(web, "")
			h.append(u, 0, "0123456789")
			want(t, u.Append(t.Context(), 10, strings.NewReader("x")), tt.code, tt.says)
			if u.Size() != 10 {
				t.Errorf("size %d after a refusal, want 10", u.Size())
			}
			// What others give back is free again.
			want(t, before.Cancel(t.Context()), "")
			err := u.Append(t.Context(), 10, strings.NewReader("x"))
			if tt.config.MaxUpload > 0 {
				want(t, err, tt.code)
				want(t, u.Commit(t.Context(), digest.FromString("0123456789")), "")
				return
			}
			want(t, err, "")
			want(t, u.Commit(t.Context(), digest.FromString("0123456789x")), "")
		})
	}
}

// TestB16_Expiry: an upload that nobody appends to goes, and one that somebody is at does not.
func TestB16_Expiry(t *testing.T) {
	h := newHouse(t)
	idle, busy, kept := h.start(web, ""), h.start(web, ""), h.start(web, "")
	h.append(idle, 0, "idle")
	h.append(kept, 0, "kept")
	body, feed := io.Pipe()
	done := make(chan error)
	go func() { done <- busy.Append(context.Background(), 0, body) }()
	feed.Write([]byte("busy"))
	h.expire(time.Now().Add(2 * suspendAfter)) // which closes their files
	h.uploads.mu.Lock()
	if h.uploads.open != 1 {
		t.Errorf("%d uploads are open, want the one that somebody is at", h.uploads.open)
	}
	h.uploads.mu.Unlock()
	h.append(kept, 4, "!")
	late := time.Now().Add(defaultAge)
	h.uploads.mu.Lock()
	for _, s := range h.uploads.all {
		if s.id == kept.ID() {
			s.touched = late
		}
	}
	h.uploads.mu.Unlock()
	h.expire(late.Add(time.Minute))
	want(t, idle.Append(t.Context(), -1, strings.NewReader("x")), registry.BlobUploadUnknown)
	feed.Close()
	want(t, <-done, "")
	want(t, busy.Commit(t.Context(), digest.FromString("busy")), "")
	want(t, kept.Commit(t.Context(), digest.FromString("kept!")), "")
	if s := h.Stats(); s.Expired != 1 || s.UploadBytes != 0 {
		t.Errorf("stats %+v, want one expired and nothing under way", s)
	}
	wantNoUploads(t, h)
}

// TestRemainsExpire: what a crash has left of an upload counts, answers nobody, and goes.
func TestRemainsExpire(t *testing.T) {
	h := newHouse(t)
	u := h.start(web, "")
	h.append(u, 0, "remains")
	h.open(Config{}) // as after a kill, before there was enough of it to be worth a note
	_, err := h.Upload(t.Context(), web, "", u.ID())
	want(t, err, registry.BlobUploadUnknown)
	if s := h.Stats(); s.UploadBytes != 7 {
		t.Errorf("stats %+v, want its 7 bytes", s)
	}
	h.expire(time.Now().Add(defaultAge + time.Hour))
	wantNoUploads(t, h)
}

// TestManyIdleUploads: they do not hold a file each.
func TestManyIdleUploads(t *testing.T) {
	h := newHouse(t)
	var all []registry.Upload
	for i := range mostOpen + 3*atOnce {
		u := h.start(web, "")
		h.append(u, 0, fmt.Sprint(i))
		all = append(all, u)
	}
	h.uploads.mu.Lock()
	open := h.uploads.open
	h.uploads.mu.Unlock()
	if open > mostOpen {
		t.Errorf("%d uploads are open, want %d at most", open, mostOpen)
	}
	for _, i := range []int{0, mostOpen, len(all) - 1} {
		h.append(all[i], -1, "!")
		want(t, all[i].Commit(t.Context(), digest.FromString(fmt.Sprint(i)+"!")), "")
	}
}

// TestUploadBeyondQuota: the upload stays, for when there is room.
func TestUploadBeyondQuota(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Quota: 10})
	h.blob(web, "12345678")
	u := h.start(web, "")
	h.append(u, 0, "abcd")
	want(t, u.Commit(t.Context(), digest.FromString("abcd")), registry.TooLarge)
	h.set(catalog.Project{Name: "production", Quota: 12})
	want(t, u.Commit(t.Context(), digest.FromString("abcd")), "")
}

// What the house does with an upload is waited for: no client has done anything wrong.
func TestSuspendedIsWaitedFor(t *testing.T) {
	h := newHouse(t)
	var all []registry.Upload
	for i := range 100 {
		u := h.start(web, "")
		h.append(u, 0, fmt.Sprint(i))
		all = append(all, u)
	}
	var wg sync.WaitGroup
	wg.Go(func() { h.expire(time.Now().Add(2 * time.Minute)) })
	time.Sleep(5 * time.Millisecond)
	bad := 0
	for _, u := range all {
		if err := u.Append(t.Context(), -1, strings.NewReader("x")); errors.Is(err, registry.Conflict) {
			bad++
		}
	}
	wg.Wait()
	if bad > 0 {
		t.Errorf("%d of 100 clients were told 409: another request is at this upload", bad)
	}
}

// More uploads at once than files may stay open refuse nobody.
func TestManyUploadsAtOnce(t *testing.T) {
	h := newHouse(t)
	var bad atomic.Int64
	var wg sync.WaitGroup
	for i := range mostOpen + 200 {
		wg.Go(func() {
			u, err := h.StartUpload(context.Background(), web, "", digest.SHA256)
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				time.Sleep(20 * time.Millisecond)
				if err := u.Append(context.Background(), -1, strings.NewReader(fmt.Sprint(i))); err != nil {
					bad.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d requests refused", bad.Load())
	}
}

// Nobody takes all the uploads that there may be; those that a crash has left are counted too, and
// none of them is refused.
func TestB16_UploadsOfOneProject(t *testing.T) {
	u, tries := uploads{}, 0
	add := func(project string, code registry.Code) *session {
		t.Helper()
		tries++
		s := &session{id: fmt.Sprint(tries), whose: whose{Repo: registry.Repo{Project: project, Name: "web"}}}
		want(t, u.add(s), code)
		return s
	}
	for range mostOfProject - 1 {
		add("production", "")
	}
	last := add("production", "")
	add("production", registry.TooManyRequests)
	add("other", "")
	u.end(last)
	add("production", "")
	add("production", registry.TooManyRequests)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.enter(&session{id: "left", whose: last.whose}) // found at the start
	if len(u.all) != mostOfProject+2 || u.begun["production"] != mostOfProject+1 {
		t.Errorf("%d uploads, %v by project", len(u.all), u.begun)
	}
}
