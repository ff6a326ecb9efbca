package hosted

import "sync/atomic"

// Stats is what a Registry has done since it was made.
type Stats struct {
	PushedManifests int64
	PushedBlobs     int64 // uploads that became blobs
	PushedBytes     int64 // of both
	Mounted         int64
	Deleted         int64 // tags, manifests and blobs that clients have deleted
	Refused         int64 // pushes and deletes that a tag rule or a quota refused

	Uploads     int64 // under way now
	UploadBytes int64 // that they have taken
	Expired     int64 // thrown away because nobody appended

	Collections    int64
	CollectedBlobs int64 // pieces of content that went from the disk
	CollectedBytes int64
	Uncollected    int64 // collections and retentions that failed; those that somebody stopped are none
	Retired        int64 // tags and manifests that the rules of their project retired

	Damaged int64 // times that stored content was found to be other than it should be
	Faults  int64 // times that the store or the catalog did not do what it should
}

// totals is Stats while it is counted.
type totals struct {
	manifests, blobs, bytes, mounted, deleted, refused atomic.Int64
	expired                                            atomic.Int64
	collections, collectedBlobs, collectedBytes        atomic.Int64
	uncollected, retired, damaged, faults              atomic.Int64
}

// Stats returns the figures of now.
func (r *Registry) Stats() Stats {
	t := &r.totals
	r.uploads.mu.Lock()
	uploads, taken := len(r.uploads.all), r.uploads.taken
	r.uploads.mu.Unlock()
	return Stats{
		Uploads: int64(uploads), UploadBytes: taken,
		PushedManifests: t.manifests.Load(), PushedBlobs: t.blobs.Load(), PushedBytes: t.bytes.Load(),
		Mounted: t.mounted.Load(), Deleted: t.deleted.Load(), Refused: t.refused.Load(),
		Expired:     t.expired.Load(),
		Collections: t.collections.Load(), CollectedBlobs: t.collectedBlobs.Load(), CollectedBytes: t.collectedBytes.Load(),
		Uncollected: t.uncollected.Load(), Retired: t.retired.Load(), Damaged: t.damaged.Load(), Faults: t.faults.Load(),
	}
}

// fault logs and counts trouble that no client is told of.
func (r *Registry) fault(doing string, err error, args ...any) {
	r.totals.faults.Add(1)
	r.log.Error(doing, append(args, "err", err)...)
}
