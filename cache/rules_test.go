package cache

import (
	"errors"
	"testing"

	"roadstead/registry"
)

func TestRules(t *testing.T) {
	o := newOrigin()
	for _, at := range []string{"library/busybox:1.35", "rancher/pause:v1.2", "rancher/pause:latest", "rancher/deep/er:v1", "evil/miner:1"} {
		for i := range at {
			if at[i] == ':' {
				o.putImage(t, at[:i], at[i+1:], []byte(at))
			}
		}
	}
	h := proxy(t, o, func(p *Project) {
		p.Allow = []string{"library/*", "rancher/*:v1.*", "evil/**"}
		p.Deny = []string{"evil/miner"}
	})
	rows := []struct {
		name, repo, tag string
		ok              bool
	}{
		{"repository allowed", "library/busybox", "1.35", true},
		{"tag allowed", "rancher/pause", "v1.2", true},
		{"tag not allowed", "rancher/pause", "latest", false},
		{"star stays within a component", "rancher/deep/er", "v1", false},
		{"deny goes before allow", "evil/miner", "1", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			o.asked()
			err := h.pull(t, hub(row.repo), row.tag)
			if row.ok && err != nil || !row.ok && !errors.Is(err, registry.Denied) {
				t.Errorf("got %v", err)
			}
			if !row.ok {
				wantAsked(t, o)
			}
		})
	}
	latest := o.tags["rancher/pause:latest"]
	if _, err := h.Manifest(t.Context(), hub("rancher/pause"), latest); !errors.Is(err, registry.Denied) {
		t.Errorf("the digest of a tag that is not allowed: %v", err)
	}
	if _, err := h.Manifest(t.Context(), hub("rancher/pause"), o.tags["rancher/pause:v1.2"]); err != nil {
		t.Errorf("the digest of a tag that is: %v", err)
	}
}

func TestPatternsThatAreNone(t *testing.T) {
	for _, glob := range []string{"", ":1", "a:", "a[", "a:[z"} {
		if _, err := registry.ParsePattern(glob); err == nil {
			t.Errorf("%q passed", glob)
		}
	}
}
