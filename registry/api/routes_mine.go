package api

const (
	myProject    = mine + "/projects/{project}"
	myRepository = myProject + "/repositories/{repository}"
	myTag        = myRepository + "/tags/{tag}"
)

// mines are the calls that Harbor lacks, beside what of them is among routes, and the document of all.
var mines = []route{
	{"GET", "/api/openapi.yaml", (*call).readDocument},
	{"GET", "/api/openapi.json", (*call).readDocumentJSON},

	{"GET", mine + "/flights", (*call).listFlights},
	{"GET", mine + "/flights/events", (*call).watchFlights},

	{"GET", myTag + "/freshness", (*call).readFreshness},
	{"POST", myTag + "/refresh", (*call).refresh},
	{"POST", myRepository + "/warm", (*call).warm},

	{"GET", mine + "/jobs", (*call).listJobs},
	{"GET", mine + "/jobs/{id}", (*call).readJob},
	{"POST", mine + "/jobs/{id}/stop", (*call).stopJob},
	{"POST", mine + "/scrub", (*call).scrub},
	{"POST", mine + "/eviction", (*call).evict},

	{"GET", mine + "/upstreams", (*call).listUpstreams},
	{"GET", mine + "/cache", (*call).readCache},
}
