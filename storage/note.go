package storage

import "fmt"

// UploadNote returns the note of an upload without opening it. ErrNotFound when there is none that
// could be gone on with.
func (s *Store) UploadNote(id string) ([]byte, error) {
	if err := checkUpload(id); err != nil {
		return nil, err
	}
	note, err := s.drafts.readNote(id)
	if err != nil {
		return nil, fmt.Errorf("note of upload %s: %w", id, missing(err))
	}
	return note, nil
}
