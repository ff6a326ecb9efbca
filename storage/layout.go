package storage

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Where things lie, below the top of a directory or bucket. docker/registry/v2 is the layout
// of the stock registry, which looks at nothing else.
const (
	layoutDir     = "docker/registry/v2"
	blobsDir      = layoutDir + "/blobs"
	reposDir      = layoutDir + "/repositories"
	quarantineDir = "quarantine"
	draftsDir     = "drafts"
)

// algorithms are those that content can be addressed by.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

func hexLen(a digest.Algorithm) int {
	switch a {
	case digest.SHA256:
		return 64
	case digest.SHA512:
		return 128
	}
	return 0
}

func newHash(a digest.Algorithm) (hash.Hash, error) {
	switch a {
	case digest.SHA256:
		return sha256.New(), nil
	case digest.SHA512:
		return sha512.New(), nil
	}
	return nil, fmt.Errorf("digest algorithm %q is neither sha256 nor sha512", clip(string(a)))
}

// split checks a digest and cuts it into algorithm and hex. It runs before every path is
// built, so that nothing else can become one; digest.Validate would run a regular expression.
func split(d digest.Digest) (alg, hex string, err error) {
	alg, hex, _ = strings.Cut(string(d), ":")
	if !isHex(hex, hexLen(digest.Algorithm(alg))) {
		return "", "", fmt.Errorf("digest %q is not sha256:<64 hex> or sha512:<128 hex>", clip(string(d)))
	}
	return alg, hex, nil
}

func isHex(s string, n int) bool {
	if n == 0 || len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func blobPath(d digest.Digest) (string, error) {
	alg, hex, err := split(d)
	if err != nil {
		return "", err
	}
	return blobsDir + "/" + alg + "/" + hex[:2] + "/" + hex + "/data", nil
}

func quarantinePath(d digest.Digest) (string, error) {
	alg, hex, err := split(d)
	if err != nil {
		return "", err
	}
	return quarantineDir + "/" + alg + "/" + hex, nil
}

// parseBlobPath is the inverse of blobPath. Anything else that lies around is not content.
func parseBlobPath(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, blobsDir+"/")
	if !ok {
		return "", false
	}
	part := strings.Split(rest, "/")
	if len(part) != 4 || part[3] != "data" || !isHex(part[2], hexLen(digest.Algorithm(part[0]))) || part[1] != part[2][:2] {
		return "", false
	}
	return digest.Digest(part[0] + ":" + part[2]), true
}

// parseLink reads the content of a link file: a digest and nothing else, not even a newline,
// because the stock registry would not take that either.
func parseLink(b []byte) (digest.Digest, error) {
	d := digest.Digest(b)
	if _, _, err := split(d); err != nil {
		return "", err
	}
	return d, nil
}

// The directories of a repository. The caller has checked its name.
func layersDir(repo string) string    { return reposDir + "/" + repo + "/_layers" }
func revisionsDir(repo string) string { return reposDir + "/" + repo + "/_manifests/revisions" }
func tagsDir(repo string) string      { return reposDir + "/" + repo + "/_manifests/tags" }

func linkDir(dir string, d digest.Digest) string {
	return dir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// maxName bounds how deep the tree of repositories can be.
const maxName = 255

// checkRepo refuses names that would leave their place in the tree. Names are well formed by
// the distribution specification already when they come from a client; here it only matters
// that every component is a plain file name and none can be taken for one of the layout's own,
// which start with an underscore.
func checkRepo(repo string) error {
	if len(repo) > maxName {
		return fmt.Errorf("repository name is %d bytes long, at most %d are allowed", len(repo), maxName)
	}
	for part := range strings.SplitSeq(repo, "/") {
		if part == "" || !lowerAlphanumeric(part[0]) || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return fmt.Errorf("repository name %q is not made of lower-case letters, digits, '.', '_' and '-'", clip(repo))
		}
	}
	return nil
}

func checkTag(tag string) error {
	ok := len(tag) >= 1 && len(tag) <= 128 && tag[0] != '.' && tag[0] != '-'
	for i := 0; ok && i < len(tag); i++ {
		c := tag[i]
		ok = lowerAlphanumeric(c) || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("tag %q is not 1 to 128 letters, digits, '.', '_' or '-'", clip(tag))
	}
	return nil
}

func lowerAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// lasting reports whether a directory stays once it is made: content, links and tags are
// removed with the directory of their own name, what is above them never.
func lasting(dir string) bool {
	base := path.Base(dir)
	return !isHex(base, 64) && !isHex(base, 128) && !strings.Contains(dir, "/_manifests/tags/")
}

// entryOf returns the directory that is removed with dir, when that is not a lasting one: of a
// tag the whole, and else itself.
func entryOf(dir string) string {
	const tags = "/_manifests/tags/"
	i := strings.Index(dir, tags)
	if i < 0 {
		return dir
	}
	tag, _, _ := strings.Cut(dir[i+len(tags):], "/")
	return dir[:i+len(tags)+len(tag)]
}

// clip keeps text from outside short in messages.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
