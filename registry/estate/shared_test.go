package estate

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/accesstest"
	"roadstead/registry/hosted"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
	"roadstead/storage/postgrestest"
)

// outpost is an Estate of a cluster, with the hosted registry that cleans for it.
type outpost struct {
	*Estate
	admin registry.Principal

	begun  chan struct{} // has one for each cleaning that has begun here
	goesOn chan struct{} // each waits for one
}

func startOutpost(t *testing.T, url, name string) *outpost {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o := &outpost{begun: make(chan struct{}, 8), goesOn: make(chan struct{}, 8)}
	db, err := catalogtest.Open(t.Context(), url)
	must(err)
	a, err := accesstest.Open(t.Context(), access.Config{Catalog: db, Directory: t.TempDir(), AdminPassword: password, Secret: "of the cluster"})
	must(err)
	store, err := storage.New(storage.Config{Root: t.TempDir()})
	must(err)
	h, err := hosted.New(hosted.Config{Store: store, Catalog: db, Node: name, Every: -1, Note: func(c hosted.Cleaning) {
		if err := o.Note(c); err != nil {
			t.Error(err)
		}
		if c.Ended.IsZero() {
			o.begun <- struct{}{}
			<-o.goesOn
		}
	}})
	must(err)
	o.Estate = New(Config{
		Catalog: db, Access: a, Cleaner: h, Node: name,
		Scrub: func(ctx context.Context, step func(done, total int64)) (string, error) {
			step(1, 2)
			<-ctx.Done()
			return "", ctx.Err()
		},
	})
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth("admin", password)
	o.admin, err = a.Identify(r)
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- o.Run(ctx) }()
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
		store.Close()
		db.Close()
	})
	return o
}

// collection is the newest one, as it is seen here.
func (o *outpost) collection(t *testing.T) Collection {
	t.Helper()
	all, err := o.Collections(t.Context(), o.admin)
	if err != nil || len(all) == 0 {
		t.Fatalf("collections %v, %v", all, err)
	}
	return all[0]
}

// soon is how late one node may see what another does.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("%s: not within five seconds", what)
		}
	}
}

// TestOrdersAtAnyNode: whichever node of a cluster is asked, it shows and stops what another one does,
// and nothing is done twice.
func TestOrdersAtAnyNode(t *testing.T) {
	s := postgrestest.New(t)
	name, err := s.Create("")
	if err != nil {
		t.Fatal(err)
	}
	one, other := startOutpost(t, s.URL(name), "node-0"), startOutpost(t, s.URL(name), "node-1")

	t.Run("a collection", func(t *testing.T) {
		id, err := one.Collect(t.Context(), one.admin, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-one.begun
		if c := other.collection(t); c.ID != id || !c.EndedAt.IsZero() || c.Node != "node-0" {
			t.Errorf("at the other node it is %+v", c)
		}
		if _, err := other.Collect(t.Context(), other.admin, false, false, nil); !errors.Is(err, registry.Conflict) {
			t.Errorf("another one: %v", err)
		}
		if err := other.StopCollection(t.Context(), other.admin, id+7); !errors.Is(err, registry.NameUnknown) {
			t.Errorf("stop one that is none: %v", err)
		}
		if err := other.StopCollection(t.Context(), other.admin, id); err != nil {
			t.Error(err)
		}
		time.Sleep(1500 * time.Millisecond) // until it has heard of that
		one.goesOn <- struct{}{}
		find := func() Collection {
			all, err := other.Collections(t.Context(), other.admin)
			for _, c := range all {
				if c.ID == id {
					return c
				}
			}
			t.Fatalf("it is not among %+v, %v", all, err)
			return Collection{}
		}
		soon(t, "the end of a collection", func() bool { return !find().EndedAt.IsZero() })
		if c := find(); c.Error != "it was stopped" {
			t.Errorf("it is %+v in the end", c)
		}
		// The next one is carried out where it is ordered, as soon as the lease is free.
		soon(t, "another collection", func() bool {
			_, err := other.Collect(t.Context(), other.admin, true, false, nil)
			return err == nil
		})
		<-other.begun
		other.goesOn <- struct{}{}
		soon(t, "its end", func() bool { c := one.collection(t); return !c.EndedAt.IsZero() && c.Error == "" && c.Node == "node-1" })
	})

	t.Run("a job", func(t *testing.T) {
		j, err := one.StartScrub(t.Context(), one.admin)
		if err != nil || j.Node != "node-0" {
			t.Fatalf("%+v, %v", j, err)
		}
		if _, err := other.StartScrub(t.Context(), other.admin); !errors.Is(err, registry.Conflict) {
			t.Errorf("the same at the other node: %v", err)
		}
		var seen Job
		look := func() Job {
			t.Helper()
			if seen, err = other.Job(t.Context(), other.admin, j.ID); err != nil {
				t.Fatal(err)
			}
			return seen
		}
		if look(); seen.State != Running || seen.Node != "node-0" || seen.By != "admin" {
			t.Errorf("at the other node it is %+v", seen)
		}
		soon(t, "how far it is", func() bool { return look().Done == 1 && seen.Total == 2 })
		if err := other.StopJob(t.Context(), other.admin, j.ID); err != nil {
			t.Error(err)
		}
		soon(t, "its end", func() bool { return look().State == Stopped })
		next, err := other.StartScrub(t.Context(), other.admin)
		if err != nil || next.ID <= j.ID {
			t.Errorf("the next one is %+v, %v", next, err)
		}
		if err := other.StopJob(t.Context(), other.admin, next.ID); err != nil {
			t.Error(err)
		}
		soon(t, "the end of that", func() bool {
			all, err := one.Jobs(t.Context(), one.admin, access.Scrub)
			return err == nil && len(all) == 2 && all[0].ID == next.ID && all[0].State == Stopped
		})
	})

	gone, err := ofAnother(catalog.Job{ID: 7, Node: "node-9", Body: `{"State":"running"}`, SeenAt: time.Now(), Lost: true})
	if err != nil || gone.State != Failed || gone.Result != "node-9 ended before it did" || gone.EndedAt.IsZero() {
		t.Errorf("a job of a node that is gone is %+v, %v", gone, err)
	}
}

// TestListsAtAnyNode: how each image of a list is, every node says, and remembers when the one that has
// brought them is gone.
func TestListsAtAnyNode(t *testing.T) {
	s := postgrestest.New(t)
	name, err := s.Create("")
	if err != nil {
		t.Fatal(err)
	}
	one, other := startOutpost(t, s.URL(name), "node-0"), startOutpost(t, s.URL(name), "node-1")
	final := Warmup{Count: 2, Ended: 2, Failed: 1, Done: 7, Total: 7, Images: []WarmImage{
		{Name: "docker.io/a:1", State: cache.ImageFailed, Ordinal: 2, Error: "it is not there"}, {Name: "docker.io/b:1", State: cache.ImageHere, Ordinal: 1},
	}}
	job, err := one.jobs.assign(assignment{
		Job: Job{Kind: access.Warming, Target: "2 images", Images: 2, By: "somebody"}, task: "list", list: &warmList{final: final},
		do: func(context.Context, func(done, total int64)) (string, error) {
			return "one of two", errors.New("one is not")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	soon(t, "the list at the other node", func() bool {
		w, err := other.Warmup(t.Context(), other.admin, job.ID, -1)
		if err != nil {
			t.Fatal(err)
		}
		return w.Job.State == Failed && w.Job.Node == "node-0" && len(w.Images) == 2 && w.Images[0].Error == "it is not there" && w.Failed == 1
	})
	w, err := other.Warmup(t.Context(), other.admin, job.ID, 1)
	if err != nil || len(w.Images) != 1 || w.Images[0].Name != "docker.io/a:1" {
		t.Errorf("what has ended since is %+v, %v", w.Images, err)
	}
	scrub, err := one.StartScrub(t.Context(), one.admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Warmup(t.Context(), one.admin, scrub.ID, -1); !errors.Is(err, registry.NameUnknown) {
		t.Errorf("a scrub as a list: %v", err)
	}
}
