package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// reload puts a changed configuration in force, whole or not at all. Requests under way end
// under the old one. It has said why when it was not.
func (h *House) reload() error {
	cfg, err := h.load()
	if err == nil && h.cfg.File != "" && cfg.File != h.cfg.File {
		// Found in its place at the start, and not now: it is being replaced, most likely, and
		// nobody meant the built-in configuration.
		err = fmt.Errorf("%s is not there any more; put it back, or restart without it", h.cfg.File)
	}
	if err == nil {
		err = h.apply(cfg)
	}
	h.reloads.note(err)
	if err == nil {
		return nil
	}
	if faults, ok := errors.AsType[faultsError](err); ok {
		for _, f := range faults.faults {
			h.log.Error("fault in the configuration", "fault", f.Error())
		}
	}
	h.log.Error("configuration not reloaded, the old one stays in force", "err", err)
	return err
}

// apply switches to a configuration. What can fail comes before what cannot.
func (h *House) apply(cfg Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := newTable(cfg, cfg.hosted()); err != nil {
		return err
	}
	next, err := settle(ctx, h.data.Catalog, cfg)
	if err != nil {
		return err
	}
	if h.certificate != nil && cfg.TLS.Certificate != "" {
		if err := h.certificate.Reload(cfg.TLS); err != nil {
			return err
		}
	}
	if err := h.estate.Follow(ctx); err != nil {
		return err
	}
	waiting := needRestart(h.cfg, cfg)
	if err := h.enforce(h.revealed(ctx, keepUntilRestart(h.cfg, cfg)), next); err != nil {
		return err
	}
	h.level.Set(cfg.Log.Level)
	h.pruning.keep.Store(int64(cfg.Audit.Keep))
	h.plans.set(cfg.Plans)
	h.log.Info("configuration reloaded", "projects", h.serves())
	if len(waiting) > 0 {
		h.log.Warn("some changes take effect at the next start only", "settings", waiting)
	}
	return nil
}

// needRestart names the settings that have changed and that a running server cannot change:
// they are about what it has opened.
func needRestart(old, new Config) []string {
	var names []string
	for _, setting := range []struct {
		name    string
		changed bool
	}{
		{"listen", old.Listen != new.Listen},
		{"admin", old.Admin != new.Admin},
		{"tls", (old.TLS.Certificate == "") != (new.TLS.Certificate == "")},
		{"url", old.URL != new.URL},
		{"storage", old.Storage != new.Storage},
		{"cluster", old.Cluster != new.Cluster},
		{"oidc", !reflect.DeepEqual(old.OIDC, new.OIDC)},
		{"uploads", old.Uploads != new.Uploads},
		{"collect", old.Collect != new.Collect},
		{"memory", old.Memory != new.Memory},
		{"drain", old.Drain != new.Drain},
		{"log.format", old.Log.JSON != new.Log.JSON},
	} {
		if setting.changed {
			names = append(names, setting.name)
		}
	}
	return names
}

// keepUntilRestart is the new configuration with those settings as they still are, so that
// the next reload compares with what is in force.
func keepUntilRestart(old, new Config) Config {
	new.Listen, new.Admin, new.Storage, new.Cluster = old.Listen, old.Admin, old.Storage, old.Cluster
	new.URL, new.OIDC, new.Uploads, new.Collect = old.URL, old.OIDC, old.Uploads, old.Collect
	new.Memory, new.Drain, new.Log.JSON = old.Memory, old.Drain, old.Log.JSON
	if (old.TLS.Certificate == "") != (new.TLS.Certificate == "") {
		new.TLS = old.TLS
	}
	return new
}
