package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"roadstead/registry/peer"
)

// The figures of the cluster have no labels: nodes come and go, and each tells its own.
var (
	clusterNodes    = describe("cluster_nodes", "Nodes that are alive, this one among them, as far as it knows.")
	clusterRoll     = describe("cluster_roll_up", "0 while it cannot be read which nodes are alive, else 1.")
	clusterAsked    = describe("cluster_asked_total", "Questions to the node that owns a piece of content.")
	clusterFallback = describe("cluster_fallback_total", "Of these, those that upstream was asked after all.")
	clusterReceived = describe("cluster_received_bytes_total", "Bytes of blobs that came from other nodes.")
	clusterServed   = describe("cluster_served_total", "Questions of other nodes that were answered.")
	clusterRefused  = describe("cluster_refused_total", "Questions on the address for nodes that no node had signed.")
	clusterLeader   = describe("cluster_leader", "1 on the node that does what one of them has to, 0 on the others.")

	clusterForwarded   = describe("cluster_forwarded_total", "Requests of clients for uploads that are at other nodes.")
	clusterUnreachable = describe("cluster_unreachable_total", "Of these, those whose node did not answer.")
	clusterUploading   = describe("cluster_uploading", "Requests of other nodes' clients for uploads here that are under way.")
)

// peers is every description of this file.
var peers = []*prometheus.Desc{
	clusterNodes, clusterRoll, clusterAsked, clusterFallback, clusterReceived, clusterServed, clusterRefused, clusterLeader,
	clusterForwarded, clusterUnreachable, clusterUploading,
}

func (out output) cluster(s peer.Stats) {
	out.gauge(clusterNodes, float64(s.Nodes))
	out.gauge(clusterRoll, number(!s.RollDown))
	out.counter(clusterAsked, s.Asked)
	out.counter(clusterFallback, s.Fallback)
	out.counter(clusterReceived, s.Bytes)
	out.counter(clusterServed, s.Served)
	out.counter(clusterRefused, s.Refused)
	out.counter(clusterForwarded, s.Forwarded)
	out.counter(clusterUnreachable, s.Unreachable)
	out.gauge(clusterUploading, float64(s.Uploading))
}
