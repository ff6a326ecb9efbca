package wharfie

import (
	"math/rand/v2"
	"strings"

	"github.com/opencontainers/go-digest"

	"roadstead/rewrite"
)

var digestOfManifest = digest.FromString(manifest).String()

// hosts are the registries that images are asked for at. Docker Hub has rules of its own.
var hosts = []string{"docker.io", "docker.io", "quay.io", "ksd.example.com", "registry.local:5000"}

// components are what repository names are made of, and what patterns look for.
var components = []string{"library", "rancher", "coreos", "busybox", "pause", "etcd", "rke2-runtime", "mirrored-pause", "hardened_etcd", "a.b", "x__y"}

// patterns are the shapes found in the documentation and trackers of RKE2 and K3s.
var patterns = []string{
	"(^.+$)", "(.*)", "^(.*)$", "^", "$", "/", "", "^library/(.*)", "^library/", "^rancher/(.+)$", "rancher", "^([^/]+)/(.*)$",
	"^(?P<org>[^/]+)/(?P<img>.*)$", "(?i)^RANCHER/", "(.*):3.6", "[aeiou]", "^.", "e$", "(a|e)+", "a.b", "a[.]b", `a\\.b`,
}

// bad are patterns that users write and RE2 does not know.
var bad = []string{"(.*", "^(?!rancher)(.*)", "(?<=x)y", "[z-a]", "*", `(a)\\1`}

// replacements use groups that are there, groups that are not, and what is no name.
var replacements = []string{
	"docker.io/$1", "docker.io/", "$1", "/$1", "../../etc/$1", "mirror/${1}_cached", "mirror/$1_cached", "mirror/$1-cached", "$img/${org}", "$2/$1",
	"$0", "$$1", "$0/$0", "", "x", "-", "//", "Mirror/$1", "a b/$1", "é/$1", "m:5000/$1", "mirror/" + strings.Repeat("deep/", 49) + "$1",
}

// generator makes cases that look like real ones.
type generator struct{ *rand.Rand }

func (g generator) pick(all []string) string { return all[g.IntN(len(all))] }

func (g generator) repo() string {
	if g.IntN(4) == 0 {
		return "library/" + g.pick(components)
	}
	parts := make([]string, 1+g.IntN(3))
	for i := range parts {
		parts[i] = g.pick(components)
	}
	return strings.Join(parts, "/")
}

// rules makes up to three rules with patterns of their own, as the keys of a map have.
func (g generator) rules() []rewrite.Rule {
	var rules []rewrite.Rule
	used := make(map[string]bool)
	for range 1 + g.IntN(3) {
		if rule := g.rule(); !used[rule.Pattern] {
			used[rule.Pattern] = true
			rules = append(rules, rule)
		}
	}
	return rules
}

func (g generator) rule() rewrite.Rule {
	pattern := g.pick(patterns)
	switch g.IntN(8) {
	case 0:
		pattern = g.pick(bad)
	case 1:
		pattern = g.pick(components)
	case 2:
		return rewrite.Rule{Pattern: "^library/(.*)", Replace: g.pick([]string{"$1", "x", "${1}s"})}
	case 3:
		pattern = "^(" + g.pick(components) + "|" + g.pick(components) + ")/" + g.pick(patterns)
	}
	return rewrite.Rule{Pattern: pattern, Replace: g.pick(replacements)}
}
