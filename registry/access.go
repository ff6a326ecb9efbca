package registry

// Principal is who asks: a user, a robot, or anybody. What it may do is known to whoever has
// identified it, and to nobody else.
type Principal interface {
	// Name is how it is called in the log and owns its uploads; "" for the anonymous one.
	Name() string
}

// Action is what a principal wants to do, in the words that Harbor has for it.
type Action string

// The actions. Pull and Push are those of the distribution API; the rest is what a principal
// does to anything that has a place in a list.
const (
	Pull   Action = "pull"
	Push   Action = "push"
	List   Action = "list"
	Read   Action = "read"
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Kind is the kind of a resource, in the words that Harbor has for it.
type Kind string

// The kinds of the distribution API. What they are part of is a repository of a project.
const (
	Repository Kind = "repository" // pull, push, list; delete: all of it
	Artifact   Kind = "artifact"   // read, list; delete: a manifest by its digest, or a blob
	Tags       Kind = "tag"        // list; create: a push to a tag; delete
	Catalog    Kind = "catalog"    // list: the names of all repositories that may be pulled from
)

// Resource is what something is done to. Repo.Name is empty for what belongs to a project as a
// whole, and all of Repo for what belongs to the system.
type Resource struct {
	Kind Kind
	Repo Repo
}

// Result is how something ended that the audit log has a record of.
type Result string

// The results.
const (
	Done    Result = "done"
	Refused Result = "refused" // for want of the right to do it
	Failed  Result = "failed"  // for any other reason
)

// Event is something that was done to a registry, or was tried: a record of the audit log.
type Event struct {
	Principal Principal
	Action    Action
	Resource  Resource
	Reference string // the tag, or the digest where there is none; "" for what has neither
	Digest    Digest // of what a tag was pushed to; "" when that is not known
	Remote    string // address and port that the request came from
	Outcome   Result
}
