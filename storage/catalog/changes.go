package catalog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"roadstead/registry"
)

// Topic is what a change is about.
type Topic string

// The topics.
const (
	Anything    Topic = "*" // something may have been missed: all that is remembered may be wrong
	Rules       Topic = "r" // projects, registries, users, robots, members, secrets or settings
	ContentGone Topic = "c" // Digest is not stored any more or, if there is a Repo, that has it no more
	TagGone     Topic = "t" // Tag of Repo is gone
	Overruled   Topic = "o" // somebody has said what is served of Repo, or where Tag of it is to follow, or has taken that back
)

// Change is what another node has changed in the catalog that this one may remember otherwise.
type Change struct {
	Topic  Topic
	Repo   registry.Repo
	Tag    string
	Digest registry.Digest
}

// Watch calls fn for what other nodes change, one change at a time and in their order, until ctx ends;
// it returns ctx's error then. What this process changes it is not told. fn has to be quick.
//
// After a time in which changes may have been missed, and at the beginning, comes Anything. While the
// database is away none comes: whoever has to know asks for what is older than some time by itself.
//
// A catalog in a file has one node, and fn is never called.
func (db *DB) Watch(ctx context.Context, fn func(Change)) error {
	if !db.Shared() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		err := db.listen(ctx, func(payload string) { db.hear(payload, fn) })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// hear reads what one transaction said.
func (db *DB) hear(payload string, fn func(Change)) {
	node, lines, _ := strings.Cut(payload, "\n")
	switch {
	case payload == "":
		fn(Change{Topic: Anything})
		return
	case node == db.node:
		return
	}
	for line := range strings.SplitSeq(lines, "\n") {
		fn(parseChange(line))
	}
}

// mostSaid is how long a payload may be: PostgreSQL takes less than 8,000 bytes.
const mostSaid = 7900

// mostPayloads is how many of them one transaction sends before it says that anything may be
// different: evicting some thousand digests at once is about a dozen.
const mostPayloads = 64

// tell notes what other nodes have to know once this transaction is committed.
func (tx *Tx) tell(c Change) {
	if !tx.db.Shared() {
		return
	}
	if tx.told == nil {
		tx.told = map[Change]struct{}{}
	}
	tx.told[c] = struct{}{}
}

// announce sends it. It is heard when the transaction is committed, and not otherwise.
func (tx *Tx) announce() error {
	for _, payload := range payloads(tx.db.node, tx.told) {
		if _, err := tx.exec(`SELECT pg_notify('`+channel+`', $1)`, payload); err != nil {
			return fmt.Errorf("tell other nodes: %w", err)
		}
	}
	if _, ok := tx.told[Change{Topic: Rules}]; ok {
		// A number that was given to somebody, or a generation that somebody has seen, must not be
		// given again after the server has lost its last transactions.
		if _, err := tx.exec(`SELECT set_config('synchronous_commit', 'on', true)`); err != nil {
			return err
		}
	}
	return nil
}

func payloads(node string, told map[Change]struct{}) []string {
	var all []string
	var next strings.Builder
	for c := range told {
		line := "\n" + c.line()
		if next.Len() > 0 && next.Len()+len(line) > mostSaid {
			all = append(all, next.String())
			next.Reset()
		}
		if next.Len() == 0 {
			next.WriteString(node)
		}
		next.WriteString(line)
	}
	if next.Len() > 0 {
		all = append(all, next.String())
	}
	if len(all) > mostPayloads {
		all = []string{node + "\n" + Change{Topic: Anything}.line()}
	}
	return all
}

// line is a change as text. No name, tag or digest has a space in it.
func (c Change) line() string {
	repo := ""
	if c.Repo != (registry.Repo{}) {
		repo = c.Repo.String()
	}
	return strings.Join([]string{string(c.Topic), repo, c.Tag, string(c.Digest)}, " ")
}

// parseChange is the inverse of line. What it does not understand comes from a newer program, and
// may be about anything.
func parseChange(line string) Change {
	words := strings.Split(line, " ")
	if len(words) != 4 {
		return Change{Topic: Anything}
	}
	c := Change{Topic: Topic(words[0]), Tag: words[2], Digest: registry.Digest(words[3])}
	switch c.Topic {
	case Rules, ContentGone, TagGone, Overruled:
	default:
		return Change{Topic: Anything}
	}
	if words[1] != "" {
		c.Repo = registry.SplitRepo(words[1])
	}
	return c
}
