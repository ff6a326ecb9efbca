package cache

import (
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Override has a manifest served in a repository, and all that it names, as if it were signed. It is
// part of a transaction, so that who did it and why is noted with it or not at all; Reconsider after it.
func Override(tx *catalog.Tx, repo registry.Repo, d registry.Digest, actor, reason string) error {
	return tx.PutVerdicts(repo, catalog.Verdict{Digest: d, Basis: overridden(d), Actor: actor, Reason: reason, At: time.Now()})
}

// Withdraw takes an override back. There may be none.
func Withdraw(tx *catalog.Tx, repo registry.Repo, d registry.Digest) error {
	return tx.DropVerdicts(repo, "", overridden(d))
}

// Reconsider has the next question for anything of a repository find out anew whether it may be served.
// Other nodes are told by the catalog, see Gone.
func (c *Cache) Reconsider(repo registry.Repo) { c.memory.unjudge(repo) }
