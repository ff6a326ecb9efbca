package api

// route is a call.
type route struct {
	method, pattern string
	serve           func(*call) error
}

const (
	project    = root + "/projects/{project}"
	repository = project + "/repositories/{repository}"
	artifact   = repository + "/artifacts/{reference}"

	// mine is where what Harbor lacks is.
	mine = "/api/roadstead/v1"
)

// routes are all calls that there are.
var routes = []route{
	{"GET", "/api/version", (*call).version},
	{"GET", root + "/ping", (*call).ping},
	{"GET", root + "/health", (*call).readHealth},
	{"GET", root + "/systeminfo", (*call).readSystem},
	{"GET", root + "/systeminfo/volumes", (*call).readVolumes},
	{"GET", root + "/statistics", (*call).readStatistics},
	{"GET", root + "/configurations", (*call).readConfiguration},
	{"PUT", root + "/configurations", (*call).updateConfiguration},
	{"GET", root + "/permissions", (*call).listPermissions},
	{"GET", root + "/replication/adapters", (*call).listAdapters},
	{"GET", root + "/search", (*call).search},
	{"GET", root + "/audit-logs", (*call).listAudit},
	{"GET", root + "/repositories", (*call).listAllRepositories},

	{"GET", root + "/registries", (*call).listRegistries},
	{"POST", root + "/registries", (*call).createRegistry},
	{"POST", root + "/registries/ping", (*call).pingRegistry},
	{"GET", root + "/registries/{id}", (*call).readRegistry},
	{"PUT", root + "/registries/{id}", (*call).updateRegistry},
	{"DELETE", root + "/registries/{id}", (*call).deleteRegistry},

	{"GET", root + "/projects", (*call).listProjects},
	{"HEAD", root + "/projects", (*call).headProject},
	{"POST", root + "/projects", (*call).createProject},
	{"GET", project, (*call).readProject},
	{"PUT", project, (*call).updateProject},
	{"DELETE", project, (*call).deleteProject},
	{"GET", project + "/_deletable", (*call).deletable},
	{"GET", project + "/summary", (*call).readSummary},
	{"GET", project + "/scanner", (*call).noScanner},
	{"GET", project + "/logs", (*call).listProjectAudit},
	{"GET", project + "/metadatas", (*call).listMetadata},
	{"POST", project + "/metadatas", (*call).setMetadata},
	{"GET", project + "/metadatas/{name}", (*call).readMetadata},
	{"PUT", project + "/metadatas/{name}", (*call).setMetadata},
	{"DELETE", project + "/metadatas/{name}", (*call).deleteMetadata},
	{"GET", project + "/members", (*call).listMembers},
	{"POST", project + "/members", (*call).createMember},
	{"GET", project + "/members/{id}", (*call).readMember},
	{"PUT", project + "/members/{id}", (*call).updateMember},
	{"DELETE", project + "/members/{id}", (*call).deleteMember},
	{"GET", project + "/immutabletagrules", (*call).listRules},
	{"POST", project + "/immutabletagrules", (*call).createRule},
	{"PUT", project + "/immutabletagrules/{id}", (*call).updateRule},
	{"DELETE", project + "/immutabletagrules/{id}", (*call).deleteRule},

	{"GET", project + "/repositories", (*call).listRepositories},
	{"GET", repository, (*call).readRepository},
	{"PUT", repository, (*call).updateRepository},
	{"DELETE", repository, (*call).deleteRepository},
	{"GET", repository + "/artifacts", (*call).listArtifacts},
	{"GET", artifact + "/accessories", (*call).listAccessories},
	{"GET", artifact, (*call).readArtifact},
	{"DELETE", artifact, (*call).deleteArtifact},
	{"GET", artifact + "/additions/build_history", (*call).readHistory},
	{"GET", artifact + "/tags", (*call).listTags},
	{"POST", artifact + "/tags", (*call).createTag},
	{"DELETE", artifact + "/tags/{tag}", (*call).deleteTag},

	{"GET", root + "/robots", (*call).listRobots},
	{"POST", root + "/robots", (*call).createRobot},
	{"GET", root + "/robots/{id}", (*call).readRobot},
	{"PUT", root + "/robots/{id}", (*call).updateRobot},
	{"PATCH", root + "/robots/{id}", (*call).setRobotSecret},
	{"DELETE", root + "/robots/{id}", (*call).deleteRobot},

	{"GET", root + "/quotas", (*call).listQuotas},
	{"GET", root + "/quotas/{id}", (*call).readQuota},
	{"PUT", root + "/quotas/{id}", (*call).updateQuota},

	{"POST", root + "/retentions", (*call).createRetention},
	{"GET", root + "/retentions/{id}", (*call).readRetention},
	{"PUT", root + "/retentions/{id}", (*call).updateRetention},
	{"DELETE", root + "/retentions/{id}", (*call).deleteRetention},
	{"GET", root + "/retentions/{id}/executions", (*call).listRetentionRuns},
	{"POST", root + "/retentions/{id}/executions", (*call).runRetention},

	{"GET", root + "/system/gc/schedule", (*call).readSchedule},
	{"POST", root + "/system/gc/schedule", (*call).createSchedule},
	{"PUT", root + "/system/gc/schedule", (*call).updateSchedule},
	{"GET", root + "/system/gc", (*call).listCollections},
	{"GET", root + "/system/gc/{id}", (*call).readCollection},
	{"GET", root + "/system/gc/{id}/log", (*call).readCollectionLog},
	{"PUT", root + "/system/gc/{id}", (*call).stopCollection},

	{"GET", root + "/users", (*call).listUsers},
	{"POST", root + "/users", (*call).createUser},
	{"GET", root + "/users/current", (*call).readCurrent},
	{"GET", root + "/users/search", (*call).searchUsers},
	{"GET", root + "/users/{id}", (*call).readUser},
	{"PUT", root + "/users/{id}", (*call).updateUser},
	{"DELETE", root + "/users/{id}", (*call).deleteUser},
	{"PUT", root + "/users/{id}/password", (*call).setPassword},
	{"PUT", root + "/users/{id}/sysadmin", (*call).setAdmin},

	{"GET", mine + "/projects/{project}/policy", (*call).readPolicy},
	{"PUT", mine + "/projects/{project}/policy", (*call).updatePolicy},
}
