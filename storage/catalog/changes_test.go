package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"roadstead/registry"
)

// watched is what one node is told.
type watched chan Change

func watch(t *testing.T, db *DB) watched {
	t.Helper()
	told := make(watched, 10_000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- db.Watch(ctx, func(c Change) { told <- c }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch = %v", err)
		}
	})
	return told
}

// next returns the next change, or fails when there is none within the time in which each node has
// to know of it.
func (w watched) next(t *testing.T) Change {
	t.Helper()
	select {
	case c := <-w:
		return c
	case <-time.After(5 * time.Second):
		t.Error("nothing is told within 5 seconds")
		return Change{}
	}
}

func TestWatch(t *testing.T) {
	url := server.Database(t)
	one, two := openURL(t, url), openURL(t, url)
	first, second := watch(t, one), watch(t, two)
	anything := Change{Topic: Anything}
	for _, w := range []watched{first, second} {
		if got := w.next(t); got != anything {
			t.Errorf("the first change is %+v, want that anything may be", got)
		}
	}
	var robot int64
	for _, tt := range []struct {
		name string
		fn   func(tx *Tx) error
		want []Change
	}{
		{"content that comes is found by whoever asks", func(tx *Tx) error {
			return errors.Join(manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox), tx.AddBlob(busybox, dg("layer"), 1),
				tx.AddBlob(alpine, dg("layer"), 1), tx.PutTag(busybox, "latest", Tag{Descriptor: blob("image", 1)}))
		}, nil},
		{"a project", func(tx *Tx) error { return tx.PutProject(Project{Name: "production"}) }, []Change{{Topic: Rules}}},
		{"several accounts", func(tx *Tx) (err error) {
			_, e := tx.AddUser(User{Name: "alice"}, "")
			robot, err = tx.AddRobot(Robot{Name: "r"}, []byte("s"))
			return errors.Join(e, err, tx.PutMember(Member{Project: "production", Name: "alice"}))
		}, []Change{{Topic: Rules}}},
		{"a registry", func(tx *Tx) error { _, err := tx.AddRegistry(Registry{Name: "r"}); return err }, []Change{{Topic: Rules}}},
		{"an override", func(tx *Tx) error {
			return tx.PutVerdicts(busybox, Verdict{Digest: dg("image"), Basis: "said", Actor: "ada", At: time.Now()}, Verdict{Digest: dg("image"), Basis: "key", At: time.Now()})
		}, []Change{{Topic: Overruled, Repo: busybox}}},
		{"one that is taken back", func(tx *Tx) error { return tx.DropVerdicts(busybox, "", "said") }, []Change{{Topic: Overruled, Repo: busybox}}},
		{"what is verified", func(tx *Tx) error {
			return errors.Join(tx.DropVerdicts(busybox, dg("image"), ""), tx.PutVerdicts(busybox, Verdict{Digest: dg("image"), Basis: "other", At: time.Now()}))
		}, nil},
		{"a release", func(tx *Tx) error {
			_, held := tx.Hold(busybox, "held", blob("image", 100), time.Now())
			_, released := tx.Release(busybox, "held")
			return errors.Join(held, released)
		}, []Change{{Topic: Overruled, Repo: busybox, Tag: "held"}}},
		{"a setting", func(tx *Tx) error { return tx.PutSetting("collect", 1) }, []Change{{Topic: Rules}}},
		{"a setting that nobody keeps", func(tx *Tx) error { return tx.KeepSetting("last", 1) }, nil},
		{"a login", func(tx *Tx) error { return tx.LoggedIn(1, noon) }, nil},
		{"a tag that goes", func(tx *Tx) error { return tx.DeleteTag(busybox, "latest") },
			[]Change{{Topic: TagGone, Repo: busybox, Tag: "latest"}}},
		{"content that goes from a repository", func(tx *Tx) error { _, err := tx.Unlink(alpine, dg("layer")); return err },
			[]Change{{Topic: ContentGone, Repo: alpine, Digest: dg("layer")}}},
		{"content that goes", func(tx *Tx) error { _, err := tx.Forget(dg("image")); return err },
			[]Change{{Topic: ContentGone, Digest: dg("image")}}},
	} {
		update(t, one, tt.fn)
		for _, want := range tt.want {
			if got := second.next(t); got != want {
				t.Errorf("%s: told %+v, want %+v", tt.name, got, want)
			}
		}
	}
	if robot == 0 {
		t.Error("no robot was made")
	}
	// What is not committed is not told.
	broken := errors.New("broken off")
	if err := one.Update(t.Context(), func(tx *Tx) error { return errors.Join(tx.DeleteTag(busybox, "x"), broken) }); !errors.Is(err, broken) {
		t.Error(err)
	}
	update(t, two, func(tx *Tx) error { return tx.PutProject(Project{Name: "last"}) })
	if got := first.next(t); got.Topic != Rules {
		t.Errorf("the other node is told %+v", got)
	}
	for _, w := range []watched{first, second} {
		if len(w) > 0 {
			t.Errorf("a node is told %+v, of which it has heard or which never was", <-w)
		}
	}
}

// A thousand digests are several messages, and so many that nobody wants to hear of each are one.
func TestPayloads(t *testing.T) {
	for _, tt := range []struct {
		digests  int
		anything bool
	}{{1, false}, {100, false}, {3000, false}, {20_000, true}} {
		told := map[Change]struct{}{}
		for i := range tt.digests {
			told[Change{Topic: ContentGone, Digest: numbered('d', i)}] = struct{}{}
		}
		told[Change{Topic: TagGone, Repo: registry.Repo{Project: "p", Name: "a/b"}, Tag: "v1"}] = struct{}{}
		got := map[Change]struct{}{}
		db := &DB{node: "one"}
		all := payloads("two", told)
		for _, payload := range all {
			if len(payload) >= 8000 {
				t.Errorf("a payload of %d digests has %d bytes", tt.digests, len(payload))
			}
			db.hear(payload, func(c Change) { got[c] = struct{}{} })
		}
		if _, anything := got[Change{Topic: Anything}]; anything != tt.anything || !anything && len(got) != len(told) {
			t.Errorf("of %d changes %d are heard, anything %v", len(told), len(got), anything)
		}
		for c := range got {
			if _, ok := told[c]; !ok && c.Topic != Anything {
				t.Errorf("heard %+v, which was not told", c)
			}
		}
	}
	if got := parseChange("z something newer"); got != (Change{Topic: Anything}) {
		t.Errorf("what is not understood is %+v", got)
	}
}

// TestWatchGap: after a time without a connection a node is told that anything may have changed, and
// hears all from then on.
func TestWatchGap(t *testing.T) {
	db, proxy := behind(t)
	other := openURL(t, server.Server(t).URL(databaseOf(t, db)))
	told := watch(t, db)
	told.next(t)
	for _, tt := range []struct {
		name string
		gap  func()
	}{
		{"cut", proxy.Cut},
		{"stalled", func() {
			proxy.Stall()
			time.Sleep(2*heartbeat + time.Second)
			update(t, other, func(tx *Tx) error { return tx.DeleteTag(busybox, "missed") })
			proxy.Cut()
			proxy.Heal()
		}},
	} {
		update(t, other, func(tx *Tx) error { return tx.PutTag(busybox, "missed", Tag{}) })
		tt.gap()
		heard := []Change{told.next(t)}
		for heard[len(heard)-1].Topic != Anything && !t.Failed() {
			heard = append(heard, told.next(t))
		}
		update(t, other, func(tx *Tx) error { return tx.PutProject(Project{Name: fmt.Sprint("after ", tt.name)}) })
		for !slices.Contains(heard, Change{Topic: Rules}) && !t.Failed() {
			heard = append(heard, told.next(t))
		}
	}
}

func databaseOf(t *testing.T, db *DB) (name string) {
	t.Helper()
	if err := db.read.one(t.Context(), `SELECT current_database()`, nil, &name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWatchAFile(t *testing.T) {
	told := watch(t, openAt(t, t.TempDir()+"/catalog.db"))
	if len(told) > 0 {
		t.Errorf("one node alone is told %+v", <-told)
	}
}
