package api

import (
	"time"

	"roadstead/registry"
)

// verdictView is what the policies of a proxy mean for a tag or a digest.
type verdictView struct {
	Digest   string    `json:"digest"`
	Verify   string    `json:"verify"` // "warn", "enforce" or "" for nothing
	Verified bool      `json:"verified"`
	By       string    `json:"by"`
	Of       string    `json:"of"`
	Actor    string    `json:"actor"`
	At       *stamp    `json:"time"`
	Why      string    `json:"why"`
	Cooldown string    `json:"cooldown"`
	Held     *heldView `json:"held"`
}

type heldView struct {
	Digest   string `json:"digest"`
	Since    stamp  `json:"since"`
	Until    stamp  `json:"until"`
	Released bool   `json:"released"`
}

func (c *call) readVerdict() error {
	repo, err := c.repo()
	if err != nil {
		return err
	}
	p, ok, err := c.estate.Policy(c.ctx(), c.who, repo, c.item("reference"))
	if err == nil && !ok {
		err = unknown("%s is no repository of a proxy, and has no policy", repo)
	}
	if err != nil {
		return err
	}
	v := verdictView{Digest: p.Digest.String(), Verify: p.Mode, Verified: p.Verified, By: p.By, Of: p.Of.String(), Actor: p.Actor, Why: p.Why}
	if !p.At.IsZero() {
		at := stamp(p.At)
		v.At = &at
	}
	if p.Cooldown > 0 {
		v.Cooldown = p.Cooldown.String()
	}
	if h := p.Held; h != nil {
		v.Held = &heldView{h.Digest.String(), stamp(h.Since), stamp(h.Until), h.Released || !time.Now().Before(h.Until)}
	}
	return c.ok(v)
}

// release lets a tag follow upstream now.
func (c *call) release() error {
	repo, err := c.tagged()
	if err != nil {
		return err
	}
	if err := c.estate.Release(c.ctx(), c.who, repo, c.item("tag")); err != nil {
		return err
	}
	return c.done()
}

// override has a digest served without a signature.
func (c *call) override() error {
	var b struct {
		Reason string `json:"reason"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	repo, d, err := c.digest()
	if err != nil {
		return err
	}
	if err := c.estate.Override(c.ctx(), c.who, repo, d, b.Reason); err != nil {
		return err
	}
	return c.done()
}

// withdraw takes that back.
func (c *call) withdraw() error {
	repo, d, err := c.digest()
	if err != nil {
		return err
	}
	if err := c.estate.Withdraw(c.ctx(), c.who, repo, d); err != nil {
		return err
	}
	return c.done()
}

// digest is repo, and the digest of the path.
func (c *call) digest() (registry.Repo, registry.Digest, error) {
	d, err := registry.ParseDigest(c.item("reference"))
	if err != nil {
		return registry.Repo{}, "", invalid("%q is no digest", registry.Clip(c.item("reference")))
	}
	repo, err := c.repo()
	return repo, d, err
}
