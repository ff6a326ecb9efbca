package api

const (
	myProject    = mine + "/projects/{project}"
	myRepository = myProject + "/repositories/{repository}"
	myTag        = myRepository + "/tags/{tag}"
	myArtifact   = myRepository + "/artifacts/{reference}"
)

// mines are the calls that Harbor lacks, beside what of them is among routes, and the document of all.
var mines = []route{
	{"GET", "/api/openapi.yaml", (*call).readDocument},
	{"GET", "/api/openapi.json", (*call).readDocumentJSON},

	{"GET", mine + "/flights", (*call).listFlights},
	{"GET", mine + "/flights/events", (*call).watchFlights},

	{"GET", myTag + "/freshness", (*call).readFreshness},
	{"POST", myTag + "/refresh", (*call).refresh},
	{"POST", myTag + "/release", (*call).release},
	{"GET", myArtifact + "/policy", (*call).readVerdict},
	{"PUT", myArtifact + "/override", (*call).override},
	{"DELETE", myArtifact + "/override", (*call).withdraw},
	{"POST", myRepository + "/warm", (*call).warm},

	{"POST", mine + "/warmups", (*call).warmAll},
	{"GET", mine + "/warmups/{id}", (*call).readWarmup},

	{"GET", mine + "/jobs", (*call).listJobs},
	{"GET", mine + "/jobs/{id}", (*call).readJob},
	{"POST", mine + "/jobs/{id}/stop", (*call).stopJob},
	{"POST", mine + "/scrub", (*call).scrub},
	{"POST", mine + "/eviction", (*call).evict},

	{"GET", mine + "/clients/{client}", (*call).readClient},

	{"POST", mine + "/explain", (*call).explain},
	{"GET", mine + "/clients-seen", (*call).listClients},
	{"GET", mine + "/upstreams", (*call).listUpstreams},
	{"GET", mine + "/cache", (*call).readCache},
}
