// Package rewrite says what names become on their way from an image reference to a
// repository of the house.
//
// Here live the two halves of that way. [Containerd] and [Wharfie] are the client's: what
// RKE2 and K3s make of a name by the rewrite rules of registries.yaml, traps included.
// [Table] is the server's: which project and repository a request means.
//
// Everything here is a pure function of what it is given. Requests and their paths, files,
// DNS and what a project contains are not known here; nothing is ever dialled.
package rewrite

import (
	"iter"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Rule is one entry of a mirror's rewrite map in registries.yaml.
//
// The map has no order, and the clients go through it in Go's random one, anew for each pull.
// The functions here take rules in an order so that they have one answer; [Outcomes] tells
// whether the real clients have it too.
type Rule struct {
	Pattern string // RE2, unanchored; one that does not compile is skipped
	Replace string // what every match becomes; $1, ${1} and $name as in [regexp.Regexp.Expand]
}

// Containerd returns the path that the containerd of K3s and RKE2 asks a mirror for, up to
// the repository, and the repository name in the scope of its token.
//
// repo is the repository alone, with the library/ of Docker Hub but without host, tag and
// digest. The first rule whose result differs from it wins. Nothing checks that result; the
// path is cleaned, so "../../etc" climbs out of /v2, but the scope is not.
func Containerd(rules []Rule, repo string) (requestPath, scope string) {
	scope = first(changes(rules, repo), repo)
	return path.Join("/v2", scope), scope
}

// Wharfie returns the repository that wharfie, the bootstrap puller of RKE2, asks a mirror of
// registryHost for.
//
// repo is as for [Containerd]. The first rule whose result differs from it and is a name to
// wharfie wins, with library/ before it when it is a single component of Docker Hub.
func Wharfie(rules []Rule, registryHost, repo string) string {
	repo = withLibrary(registryHost, repo)
	return first(wharfieChanges(rules, registryHost, repo), repo)
}

// Outcomes lists the distinct repository names that repo may become, one for each rule that
// can be the first to change it. There is at least one; where there are more, the random
// order of the client decides, and the rules should be made to exclude one another.
func Outcomes(rules []Rule, registryHost, repo string) (containerd, wharfie []string) {
	repo = withLibrary(registryHost, repo)
	return distinct(changes(rules, repo), repo), distinct(wharfieChanges(rules, registryHost, repo), repo)
}

// changes yields what each rule makes of repo, without the rules that leave it as it is.
func changes(rules []Rule, repo string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, rule := range rules {
			pattern, err := regexp.Compile(rule.Pattern)
			if err != nil {
				continue
			}
			if changed := pattern.ReplaceAllString(repo, rule.Replace); changed != repo && !yield(changed) {
				return
			}
		}
	}
}

// wharfieChanges is changes as wharfie sees them. What it calls different is compared before
// library/ comes back, so a rule that only takes library/ away wins and changes nothing.
func wharfieChanges(rules []Rule, registryHost, repo string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for changed := range changes(rules, repo) {
			if wharfieName(changed) && !yield(withLibrary(registryHost, changed)) {
				return
			}
		}
	}
}

// wharfieName reports whether go-containerregistry's weak validation takes name: 2 to 255
// characters of a set. Empty components, ".." and a leading slash are all right there.
func wharfieName(name string) bool {
	return len(name) >= 2 && len(name) <= 255 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-./") == ""
}

// withLibrary completes the name of an official image. The clients know Docker Hub by these
// two names only, in this spelling only.
func withLibrary(registryHost, repo string) string {
	hub := registryHost == "docker.io" || registryHost == "index.docker.io"
	if hub && !strings.Contains(repo, "/") {
		return "library/" + repo
	}
	return repo
}

func first(names iter.Seq[string], otherwise string) string {
	for name := range names {
		return name
	}
	return otherwise
}

func distinct(names iter.Seq[string], otherwise string) []string {
	var all []string
	for name := range names {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return []string{otherwise}
	}
	return all
}
