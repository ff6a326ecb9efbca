package catalog

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// suite is what every database behind a catalog has to pass. open returns an empty catalog that
// is closed when its test ends.
func suite(t *testing.T, open func(t *testing.T) *DB) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *DB)
	}{
		{"a tag comes back as it was put", testTagRoundTrip},
		{"tags are listed in byte order without the gone ones", testTags},
		{"tags of a digest", testTagsOf},
		{"repositories are listed in byte order", testRepositories},
		{"a repository without tags and content is not listed", testEmptyRepository},
		{"project tags are walked across pages", testProjectTags},
		{"find", testFind},
		{"a manifest linked before its content came lends its layers", testLinkBeforeContent},
		{"a lying manifest in one repository says nothing in another", testLyingManifest},
		{"content with very many parents", testManyParents},
		{"forget", testForget},
		{"forget then add again", testForgetAndAdd},
		{"what one repository forgets others keep", testForgetIn},
		{"referrers", testReferrers},
		{"closure", testClosure},
		{"project content is walked across pages", testProjectContent},
		{"links of a repository are walked across pages", testLinks},
		{"coldest", testColdest},
		{"coldest is walked by pages, equal times included", testColdestPages},
		{"only what is still cold is forgotten", testForgetCold},
		{"what is lost is forgotten unless it is there again", testForgetLost},
		{"a removal is listed until it has come to its end", testRemovals},
		{"new content is warm", testNewContentIsWarm},
		{"what an import has staged stays until it ends", testStage},
		{"usage counts shared content once", testUsage},
		{"an update is all or nothing", testUpdateAtomic},
		{"a turn to write is waited for no longer than ctx", testUpdateQueue},
		{"projects", testProjects},
		{"a project goes with what is not listed of it", testDeleteUnlisted},
		{"registries and their proxies", testRegistries},
		{"settings", testSettings},
		{"calls of Durable that wait share a commit", testDurableShares},
		{"a Durable that fails takes no others with it", testDurableFails},
		{"a Durable that leaves is not waited for", testDurableLeaves},
		{"hosted projects hold what they link themselves", testHosted},
		{"what is loose is asked for again", testLoose},
		{"verdicts", testVerdicts},
		{"held tags", testHolds},
		{"evicted tags", testEvictedTags},
		{"users", testUsers},
		{"members go with their project", testMembers},
		{"robots", testRobots},
		{"users are found by number and by text", testUsersFound},
		{"members have numbers", testMemberNumbers},
		{"robots are changed by number", testRobotNumbers},
		{"secrets", testSecrets},
		{"the audit log only grows", testAudit},
		{"what lists accounts has no secrets", testListsHaveNoSecrets},
		{"digests of both algorithms", testAlgorithms},
		{"a malformed digest is refused", testMalformedDigest},
		{"pages of repositories", testBrowseRepositories},
		{"a repository is described and pulled from", testRepository},
		{"what is shown of a repository that comes and goes", testListed},
		{"pages of artifacts", testBrowseArtifacts},
		{"an artifact by tag and by digest", testArtifact},
		{"what an artifact is made of", testArtifactParts},
		{"what a hosted project has by a manifest's word is not shown", testBrowseHosted},
		{"who pulled last", testLastPulls},
		{"pages of tags", testBrowseTags},
		{"summaries", testSummaries},
		{"pages of the audit log", testBrowseAudit},
		{"the audit log is pruned", testPruneAudit},
		{"random operations keep what is browsed right", testBrowseModel},
		{"random operations agree with a model", testModel},
		{"readers beside a writer see whole updates", testReadersBesideWriter},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

var (
	busybox = registry.Repo{Project: "docker.io", Name: "library/busybox"}
	alpine  = registry.Repo{Project: "docker.io", Name: "library/alpine"}
	etcd    = registry.Repo{Project: "quay.io", Name: "coreos/etcd"}
	noon    = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
)

// dg is the digest of a name.
func dg(name string) registry.Digest { return digest.FromString(name) }

func dgs(names ...string) []registry.Digest {
	var digests []registry.Digest
	for _, name := range names {
		digests = append(digests, dg(name))
	}
	return digests
}

func blob(name string, size int64) registry.Descriptor {
	return registry.Descriptor{MediaType: "application/octet-stream", Digest: dg(name), Size: size}
}

// manifest is an image, or an index, of the given name; each piece it names is 10 bytes long.
type manifest struct {
	name     string
	config   string
	layers   []string
	children []string
	subject  string
	kind     string // artifact type
	notes    map[string]string
}

func (m manifest) add(tx *Tx, repo registry.Repo) error {
	made := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: dg(m.name), Size: 100}}
	refs := registry.References{ArtifactType: m.kind, Annotations: m.notes}
	if m.children != nil {
		made.MediaType = registry.MediaTypeOCIIndex
	}
	if m.config != "" {
		config := blob(m.config, 10)
		refs.Config = &config
	}
	for _, layer := range m.layers {
		refs.Layers = append(refs.Layers, blob(layer, 10))
	}
	for _, child := range m.children {
		refs.Manifests = append(refs.Manifests, registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: dg(child), Size: 10})
	}
	if m.subject != "" {
		subject := blob(m.subject, 10)
		refs.Subject = &subject
	}
	return tx.AddManifest(repo, made, refs)
}

func update(t testing.TB, db *DB, fn func(tx *Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// aged has stored content used at a time, however much later it was, which Touch does not where several
// nodes write.
func aged(tx *Tx, digests []registry.Digest, at time.Time) error {
	var keys [][]byte
	for _, d := range digests {
		key, err := pack(d)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	return tx.touchEach(keys, millis(at))
}

func found(t testing.TB, db *DB, repo registry.Repo, name string) Found {
	t.Helper()
	f, err := db.Find(t.Context(), repo, dg(name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// LinkOnly says that repo has a digest, whether its content is stored or not.
func (tx *Tx) LinkOnly(repo registry.Repo, d registry.Digest) error {
	c, err := tx.find(d)
	if err == nil {
		err = tx.linkWhole(c, repo)
	}
	if err != nil {
		return tx.spoil(err, "link %s to %s", d, repo)
	}
	return nil
}
