package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Disk is the file system of the data directory, in bytes.
type Disk struct {
	Free, Size int64
	Floor      int64 // what is kept free
}

// BucketRequests are the requests to a bucket of one method since the start.
type BucketRequests struct {
	Method  string
	Classes map[string]int64 // by how they were answered

	// As of upstream.Histogram, until the beginning of the answer.
	Bounds []time.Duration
	Counts []int64
	Sum    time.Duration
}

// Jobs are those of one kind that this node does and has done since its start.
type Jobs struct {
	Kind                     string
	Waiting, Running         int
	Success, Failed, Stopped int64
}

// Settings is how the configuration and the certificate fare that are read while the server runs.
type Settings struct {
	Reloaded, Refused int64 // times that the configuration was put in force, and that it had faults
	Faulty            bool  // the last time it had
	Certificate       bool  // there is one, and so the next two mean something
	Expires           time.Time
	CertificateFaults int64 // times that its files could not be read
}

// The figures of what a node stands on.
var (
	diskFree  = describe("storage_free_bytes", "Bytes that are free where the data directory is.")
	diskSize  = describe("storage_size_bytes", "Bytes that the file system has where the data directory is.")
	diskFloor = describe("storage_floor_bytes", "Bytes that are kept free there.")

	bucketRequests = describe("bucket_requests_total", "Requests to the bucket, by how they were answered; none when there was no answer.", "method", "class")
	bucketLatency  = describe("bucket_request_duration_seconds", "Time from sending a request to the bucket to the beginning of its answer, or to its failure.", "method")

	jobsNow   = describe("jobs", "Jobs of this node that wait or run: scrubs, evictions by order and warm-ups.", "kind", "state")
	jobsEnded = describe("jobs_ended_total", "Jobs of this node that have ended, by how.", "kind", "result")

	configReloads     = describe("config_reloads_total", "Times that the configuration was read again: in force, or refused because of its faults.", "result")
	configFaulty      = describe("config_last_reload_successful", "0 while the configuration was refused when it was last read again, else 1.")
	certificateEnds   = describe("tls_certificate_expiry_timestamp_seconds", "When the certificate of the server ends. Absent without one.")
	certificateFaults = describe("tls_certificate_faults_total", "Times that the changed files of the certificate could not be read. Absent without one.")
)

// machines is every description of this file.
var machines = []*prometheus.Desc{
	diskFree, diskSize, diskFloor, bucketRequests, bucketLatency, jobsNow, jobsEnded,
	configReloads, configFaulty, certificateEnds, certificateFaults,
}

func (out output) machine(c Config) {
	if c.Disk != nil {
		if d, err := c.Disk(); err == nil { // a disk that does not say is what part_up tells of
			out.gauge(diskFree, float64(d.Free))
			out.gauge(diskSize, float64(d.Size))
			out.gauge(diskFloor, float64(d.Floor))
		}
	}
	if c.Bucket != nil {
		for _, r := range c.Bucket() {
			for class, n := range r.Classes {
				out.counter(bucketRequests, n, r.Method, class)
			}
			out.histogram(bucketLatency, r.Bounds, r.Counts, r.Sum, r.Method)
		}
	}
	if c.Jobs != nil {
		for _, j := range c.Jobs() {
			out.gauge(jobsNow, float64(j.Waiting), j.Kind, "waiting")
			out.gauge(jobsNow, float64(j.Running), j.Kind, "running")
			out.counter(jobsEnded, j.Success, j.Kind, "success")
			out.counter(jobsEnded, j.Failed, j.Kind, "failed")
			out.counter(jobsEnded, j.Stopped, j.Kind, "stopped")
		}
	}
	if c.Settings != nil {
		s := c.Settings()
		out.counter(configReloads, s.Reloaded, "success")
		out.counter(configReloads, s.Refused, "refused")
		out.gauge(configFaulty, number(!s.Faulty))
		if s.Certificate {
			out.gauge(certificateEnds, float64(s.Expires.Unix()))
			out.counter(certificateFaults, s.CertificateFaults)
		}
	}
}
