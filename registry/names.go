package registry

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// MaxName is the longest full repository name, in bytes. Clients build file and host names
// from it; 255 is what every registry and client accepts.
const MaxName = 255

// ParseDigest checks text from outside and returns it as a digest. Only sha256 and sha512 in
// lower-case hex are digests here, so a digest can be a file name (FAULTS A5, B12).
func ParseDigest(s string) (Digest, error) {
	algorithm, hex, ok := strings.Cut(s, ":")
	want := 0
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
		want = 64
	case digest.SHA512:
		want = 128
	}
	if !ok || want == 0 || len(hex) != want || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("digest %q is not sha256:<64 hex> or sha512:<128 hex>: %w", Clip(s), DigestInvalid)
	}
	return Digest(s), nil
}

// CheckName says whether a repository name is well formed: path components of lower-case
// letters and digits joined by single dots, one or two underscores or any number of dashes,
// separated by slashes (OCI distribution specification 1.1, "Pulling manifests").
func CheckName(name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("repository name is %d bytes long, at most %d are allowed: %w", len(name), MaxName, NameInvalid)
	}
	for component := range strings.SplitSeq(name, "/") {
		if !componentOK(component) {
			return fmt.Errorf("repository name %q: component %q is not lower-case letters and digits joined by '.', '_', '__' or '-': %w", Clip(name), Clip(component), NameInvalid)
		}
	}
	return nil
}

// CheckProject says whether a project name is well formed, by the same rule that Harbor has:
// one path component with single separators, so that "docker.io" is a project.
func CheckProject(project string) error {
	ok := len(project) <= MaxName && componentOK(project)
	for i := 1; ok && i < len(project); i++ {
		ok = alphanumeric(project[i-1]) || alphanumeric(project[i])
	}
	if !ok {
		return fmt.Errorf("project name %q is not lower-case letters and digits joined by single '.', '_' or '-': %w", Clip(project), NameInvalid)
	}
	return nil
}

// CheckTag says whether a tag is well formed: at most 128 letters, digits, '.', '_' and '-',
// the first of them no '.' or '-' (OCI distribution specification 1.1, "Pulling manifests").
func CheckTag(tag string) error {
	ok := len(tag) >= 1 && len(tag) <= 128 && tag[0] != '.' && tag[0] != '-'
	for i := 0; ok && i < len(tag); i++ {
		c := tag[i]
		ok = alphanumeric(c) || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("tag %q is not 1 to 128 letters, digits, '.', '_' or '-': %w", Clip(tag), TagInvalid)
	}
	return nil
}

// componentOK is written by hand because it runs on every request: a regular expression
// costs more here than the rest of a hit.
func componentOK(s string) bool {
	if s == "" || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		if alphanumeric(s[i]) {
			continue
		}
		run := i
		for s[run] == s[i] {
			run++
		}
		if !alphanumeric(s[run]) {
			return false
		}
		switch length := run - i; {
		case s[i] == '.' && length == 1, s[i] == '_' && length <= 2, s[i] == '-':
			i = run
		default:
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// Clip keeps text from outside short in messages: 80 bytes of it.
func Clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
