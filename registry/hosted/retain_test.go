package hosted

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// pushed has a tag pushed and pulled that long ago, and a manifest pushed and used.
func (h *house) pushed(repo registry.Repo, tag string, ago, pulled time.Duration) {
	h.t.Helper()
	now := time.Now()
	h.update(func(tx *catalog.Tx) error {
		t, err := tx.Tag(repo, tag)
		if err != nil {
			return err
		}
		t.CheckedAt = now.Add(-ago)
		if err := tx.PutTag(repo, tag, t); err != nil {
			return err
		}
		if pulled > 0 {
			return tx.Pulled(repo, tag, now.Add(-pulled))
		}
		return nil
	})
	h.old(repo, ago)
}

// old has all manifests of a repository pushed and used that long ago.
func (h *house) old(repo registry.Repo, ago time.Duration) {
	h.t.Helper()
	var all []registry.Digest
	err := h.catalog.Revisions(context.Background(), repo, func(m catalog.Revision) error {
		all = append(all, m.Digest)
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.age(repo, ago, all...)
	h.update(func(tx *catalog.Tx) error { return tx.Touch(all, time.Now().Add(-ago)) })
}

// retain retains dry and then not, and fails unless both retire what is wanted, as "tag" or as the
// name that names has for a manifest.
func (h *house) retain(names map[registry.Digest]string, want ...string) {
	h.t.Helper()
	slices.Sort(want)
	for _, dry := range []bool{true, false} {
		all, err := h.Retain(context.Background(), "production", dry)
		if err != nil {
			h.t.Fatal(err)
		}
		got := []string{}
		for _, one := range all {
			if one.Tag != "" {
				got = append(got, one.Tag)
			} else {
				got = append(got, "manifest "+names[one.Digest])
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			h.t.Errorf("retired (dry: %v) %q, want %q", dry, got, want)
		}
	}
	if all, err := h.Retain(context.Background(), "production", false); err != nil || len(all) != 0 {
		h.t.Errorf("a second time retires %v, %v", all, err)
	}
	h.agree(never)
}

const day = 24 * time.Hour

func TestRetainTags(t *testing.T) {
	for _, tt := range []struct {
		name string
		rule catalog.Retention
		gone string // of v1 to v5, pushed 10, 20, … 50 days ago; v4 and v5 were pulled 1 and 40 days ago
	}{
		{"no rule", catalog.Retention{}, ""},
		{"the two newest", catalog.Retention{Newest: 2}, "v3 v4 v5"},
		{"more than there are", catalog.Retention{Newest: 9}, ""},
		{"pulled or pushed within a month", catalog.Retention{Pulled: 25 * day}, "v3 v5"},
		{"either", catalog.Retention{Newest: 3, Pulled: 5 * day}, "v5"},
		{"neither", catalog.Retention{Pulled: time.Hour}, "v1 v2 v3 v4 v5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, catalog.Project{Name: "production", Retention: tt.rule})
			names := map[registry.Digest]string{}
			for i := range 5 {
				tag := fmt.Sprintf("v%d", i+1)
				names[h.push(web, image(h.blob(web, tag)), tag).Digest] = tag
			}
			pulls := map[int]time.Duration{3: day, 4: 40 * day}
			for i := range 5 {
				h.pushed(web, fmt.Sprintf("v%d", i+1), time.Duration(i+1)*10*day, pulls[i])
			}
			h.old(web, 60*day)
			var want []string
			for _, tag := range strings.Fields(tt.gone) {
				want = append(want, tag, "manifest "+tag)
			}
			h.retain(names, want...)
		})
	}
}

// TestRetainPulls: a pull that nobody has written down yet counts.
func TestRetainPulls(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Retention: catalog.Retention{Pulled: 30 * day}})
	names := map[registry.Digest]string{}
	for _, tag := range []string{"by-tag", "by-digest", "never"} {
		names[h.push(web, image(h.blob(web, tag)), tag).Digest] = tag
	}
	for _, tag := range names {
		h.pushed(web, tag, 40*day, 0)
	}
	if _, err := h.Resolve(t.Context(), web, "by-tag"); err != nil {
		t.Fatal(err)
	}
	for d, name := range names {
		if name == "by-digest" {
			if _, err := h.Manifest(t.Context(), web, d); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.retain(names, "by-digest", "never", "manifest never")
}

// TestRetainKeepsWhatStaysIsMadeOf: what a kept index is made of stays, and what refers to it; what
// goes takes its own with it.
func TestRetainKeepsWhatStaysIsMadeOf(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Immutable: []string{"**:fixed"}, Retention: catalog.Retention{Newest: 1}})
	names := map[registry.Digest]string{}
	push := func(name string, v any, tags ...string) v1.Descriptor {
		d := h.push(web, v, tags...)
		names[d.Digest] = name
		return d
	}
	about := func(name string, subject v1.Descriptor) v1.Manifest {
		m := image(h.blob(web, name))
		m.Subject = &subject
		return m
	}
	for _, age := range []string{"old", "new"} {
		child := push(age+" child", image(h.blob(web, age)))
		list := push(age+" index", index(child), age)
		signature := push(age+" signature", about(age+" signature", list))
		push(age+" signature of the signature", about(age+" second", signature))
		push(age+" cosign", image(h.blob(web, age+" cosign")), strings.Replace(string(child.Digest), ":", "-", 1)+".sig")
	}
	push("fixed", image(h.blob(web, "fixed")), "fixed")
	push("orphan", image(h.blob(web, "orphan")))
	oldSig := ""
	for d, name := range names {
		if name == "old child" {
			oldSig = strings.Replace(string(d), ":", "-", 1) + ".sig"
		}
	}
	for _, tag := range []string{"old", "fixed", oldSig} {
		h.pushed(web, tag, 50*day, 0)
	}
	h.pushed(web, "new", 10*day, 0)
	h.old(web, 10*day)
	push("young", image(h.blob(web, "young"))) // whose index may be on its way
	h.retain(names, "old", oldSig, "manifest old child", "manifest old index", "manifest old signature",
		"manifest old signature of the signature", "manifest old cosign", "manifest orphan")
	for d, name := range names {
		if _, err := h.Manifest(t.Context(), web, d); (err != nil) != (strings.HasPrefix(name, "old") || name == "orphan") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRetainAsksAgain: a tag that is pushed, and a manifest that is tagged or put into an index, after
// it was chosen stays.
func TestRetainAsksAgain(t *testing.T) {
	rule := catalog.Project{Name: "production", Retention: catalog.Retention{Newest: 1}}
	for _, tt := range []struct {
		name string
		do   func(h *house, child v1.Descriptor)
		tag  bool // the tag stays too
	}{
		{"pushed again", func(h *house, _ v1.Descriptor) { h.push(web, crashEarlier, "old") }, true},
		{"moved", func(h *house, _ v1.Descriptor) { h.push(web, crashOld, "old") }, true},
		{"made immutable", func(h *house, _ v1.Descriptor) {
			now := rule
			now.Immutable = []string{"**:old"}
			h.set(now)
		}, true},
		{"tagged otherwise", func(h *house, _ v1.Descriptor) { h.push(web, crashEarlier, "another") }, false},
		{"put into an index", func(h *house, child v1.Descriptor) { h.push(web, index(child), "list") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, rule)
			h.blob(web, "config")
			h.blob(web, "layer")
			child := h.push(web, crashEarlier, "old")
			h.push(web, crashOld, "new")
			h.pushed(web, "old", 50*day, 0)
			h.at = func(step string) {
				if step == "retain: chosen" {
					h.at = nil
					tt.do(h, child)
				}
			}
			if _, err := h.Retain(t.Context(), "production", false); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Resolve(t.Context(), web, "old"); (err == nil) != tt.tag {
				t.Errorf("tag old: %v, want it to stay: %v", err, tt.tag)
			}
			if _, err := h.Manifest(t.Context(), web, child.Digest); err != nil && tt.name != "moved" {
				t.Error(err)
			}
			h.agree(never)
		})
	}
}

// A pull that could not be written down at once counts all the same.
func TestPullsWaitUntilTheyAreWritten(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Retention: catalog.Retention{Pulled: 30 * day}})
	m := h.push(web, image(h.blob(web, "c")), "v1")
	h.pushed(web, "v1", 60*day, 0)
	if _, err := h.Resolve(t.Context(), web, "v1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.writePulls(ctx); err == nil { // stands for a disk that is full for a moment
		t.Fatal("no error")
	}
	gone, err := h.Retain(t.Context(), "production", true)
	if err != nil || len(gone) > 0 {
		t.Errorf("pulled a moment ago, and would go: %v %v %v", gone, err, m.Digest)
	}
}
