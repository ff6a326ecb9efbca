package storage

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// visit is told of each piece of content, or of what kept somebody from looking: then err is
// set, and d too when it is known what could not be looked at.
type visit func(d digest.Digest, size int64, err error) error

// Contents calls fn with everything that is stored, in no order, until fn fails. What comes or
// goes meanwhile may or may not be among it. Files that are not content, and empty files that
// should not be, are left out.
//
// A directory that cannot be read does not end the walk, but the walk then ends with an error:
// whoever concludes from absence must not do so.
func (s *Store) Contents(ctx context.Context, fn func(d digest.Digest, size int64) error) error {
	var first error
	unread := 0
	err := s.tree.content(ctx, func(d digest.Digest, size int64, err error) error {
		if err != nil {
			unread++
			if first == nil {
				first = err
			}
			return nil
		}
		if hollow(d, size) {
			return nil
		}
		return fn(d, size)
	})
	if err != nil {
		return err
	}
	if first != nil {
		return fmt.Errorf("walk contents: %d could not be read, the first: %w", unread, first)
	}
	return nil
}

// hollow reports whether content is an empty file under the digest of something. A power cut
// leaves such files behind writers that do not sync.
func hollow(d digest.Digest, size int64) bool {
	return size == 0 && d != d.Algorithm().FromBytes(nil)
}
