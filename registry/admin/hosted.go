package admin

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"roadstead/registry/hosted"
	"roadstead/registry/server"
)

// The figures of what is pushed. They have no labels: projects are made by people who may do
// nothing else, and would be series for ever.
var (
	hostedManifests   = describe("hosted_pushed_manifests_total", "Manifests pushed.")
	hostedBlobs       = describe("hosted_pushed_blobs_total", "Uploads that became blobs.")
	hostedBytes       = describe("hosted_pushed_bytes_total", "Bytes of manifests and blobs pushed.")
	hostedMounted     = describe("hosted_mounted_total", "Blobs mounted from another repository.")
	hostedDeleted     = describe("hosted_deleted_total", "Tags, manifests and blobs deleted by clients.")
	hostedRefused     = describe("hosted_refused_total", "Pushes and deletions that a tag rule or a quota refused.")
	hostedUploads     = describe("hosted_uploads", "Uploads under way.")
	hostedUploadBytes = describe("hosted_upload_bytes", "Bytes of uploads under way.")
	hostedExpired     = describe("hosted_expired_uploads_total", "Uploads thrown away because nobody went on with them.")
	hostedCollections = describe("hosted_collections_total", "Collections that came to their end.")
	hostedUncollected = describe("hosted_collections_failed_total", "Collections and retentions that failed. Those that somebody has stopped are none.")
	hostedCollected   = describe("hosted_collected_total", "Pieces of content that collections have removed from the disk.")
	hostedFreed       = describe("hosted_collected_bytes_total", "Bytes of content that collections have removed from the disk.")
	hostedRetired     = describe("hosted_retired_total", "Tags and manifests retired by the rules of their project.")
	hostedDamaged     = describe("hosted_damaged_total", "Times that stored content was found to be other than its digest says.")
	hostedFaults      = describe("hosted_faults_total", "Times that the storage or the catalog of pushed content did not do what it should. See the log.")

	serverReceived = describe("server_received_bytes_total", "Bytes of blobs and manifests that clients have sent, whatever became of them.")
)

// pushes is every description of this file.
var pushes = []*prometheus.Desc{
	hostedManifests, hostedBlobs, hostedBytes, hostedMounted, hostedDeleted, hostedRefused,
	hostedUploads, hostedUploadBytes, hostedExpired,
	hostedCollections, hostedUncollected, hostedCollected, hostedFreed, hostedRetired, hostedDamaged, hostedFaults,
	serverReceived,
}

// described is every description there is.
func described() []*prometheus.Desc { return slices.Concat(all, pushes, peers, hots, machines) }

func (out output) hosted(s hosted.Stats) {
	out.counter(hostedManifests, s.PushedManifests)
	out.counter(hostedBlobs, s.PushedBlobs)
	out.counter(hostedBytes, s.PushedBytes)
	out.counter(hostedMounted, s.Mounted)
	out.counter(hostedDeleted, s.Deleted)
	out.counter(hostedRefused, s.Refused)
	out.gauge(hostedUploads, float64(s.Uploads))
	out.gauge(hostedUploadBytes, float64(s.UploadBytes))
	out.counter(hostedExpired, s.Expired)
	out.counter(hostedCollections, s.Collections)
	out.counter(hostedUncollected, s.Uncollected)
	out.counter(hostedCollected, s.CollectedBlobs)
	out.counter(hostedFreed, s.CollectedBytes)
	out.counter(hostedRetired, s.Retired)
	out.counter(hostedDamaged, s.Damaged)
	out.counter(hostedFaults, s.Faults)
}

func (out output) received(s server.Stats) { out.counter(serverReceived, s.Received) }
