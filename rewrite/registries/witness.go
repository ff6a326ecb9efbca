package registries

import (
	"regexp/syntax"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/rewrite"
)

// samples are names that images really have: a rule that none of them shows anything of is tried with
// names made of its own words.
var samples = []string{
	"library/busybox", "library/nginx", "rancher/mirrored-pause", "rancher/rke2-runtime", "rancher/hardened-etcd",
	"coreos/etcd", "kube-state-metrics/kube-state-metrics", "team/app", "team/group/app", "pause", "bitnami/redis",
}

// mostCandidates bounds the names that are tried for one finding.
const mostCandidates = 4000

// witness finds a name that images of host can have for which ok holds, from the names that are known
// and from the words of the patterns. "" is none.
func witness(host string, known []string, patterns []string, ok func(name string) bool) string {
	for name := range candidates(host, known, patterns) {
		if ok(name) {
			return name
		}
	}
	return ""
}

// candidates yields names worth trying, likely ones first.
func candidates(host string, known []string, patterns []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		try := func(name string) bool {
			name = strings.Trim(name, "/")
			if host == hub && !strings.Contains(name, "/") {
				name = "library/" + name
			}
			if seen[name] || registry.CheckName(name) != nil {
				return true
			}
			seen[name] = true
			return len(seen) <= mostCandidates && yield(name)
		}
		for _, name := range slices.Concat(known, samples) {
			if !try(name) {
				return
			}
		}
		var parts [][]string // of each pattern, texts that it matches
		for _, p := range patterns {
			parts = append(parts, instances(p))
		}
		for _, one := range parts {
			for _, text := range one {
				for _, name := range []string{text, text + "app", text + "/app", "team/" + text, "team" + text, "team/" + text + "/app", "x" + text + "x"} {
					if !try(name) {
						return
					}
				}
			}
		}
		for i, one := range parts {
			for j, other := range parts {
				if i == j {
					continue
				}
				for _, a := range one {
					for _, b := range other {
						for _, between := range []string{"", "/", "/x/", "x", "-"} {
							if !try(a + between + b) {
								return
							}
						}
						if !try(overlapping(a, b)) {
							return
						}
					}
				}
			}
		}
	}
}

// overlapping joins two texts where the end of one is the beginning of the other.
func overlapping(a, b string) string {
	for n := min(len(a), len(b)); n > 0; n-- {
		if strings.HasSuffix(a, b[:n]) {
			return a + b[n:]
		}
	}
	return a + b
}

// mostInstances bounds the texts made of one pattern.
const mostInstances = 12

// instances are some texts that a pattern matches, none when it is no pattern.
func instances(pattern string) []string {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	return expand(tree.Simplify())
}

func expand(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}
	case syntax.OpCharClass:
		return []string{member(re.Rune)}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"a"}
	case syntax.OpCapture:
		return expand(re.Sub[0])
	case syntax.OpStar, syntax.OpQuest:
		if anything(re.Sub[0]) {
			return []string{"app", "team/app", ""}
		}
		return crop(append(expand(re.Sub[0]), ""))
	case syntax.OpPlus:
		if anything(re.Sub[0]) {
			return []string{"app", "team/app"}
		}
		return expand(re.Sub[0])
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			all = append(all, expand(sub)...)
		}
		return crop(all)
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			var next []string
			for _, tail := range expand(sub) {
				for _, head := range all {
					next = append(next, head+tail)
				}
			}
			all = crop(next)
		}
		return all
	}
	return []string{""} // anchors, and what never matches
}

func anything(re *syntax.Regexp) bool {
	return re.Op == syntax.OpAnyChar || re.Op == syntax.OpAnyCharNotNL
}

func crop(all []string) []string { return all[:min(len(all), mostInstances)] }

// member is a character of a class that names have, if there is one.
func member(ranges []rune) string {
	for _, c := range "axz019-._/" {
		for i := 0; i+1 < len(ranges); i += 2 {
			if ranges[i] <= c && c <= ranges[i+1] {
				return string(c)
			}
		}
	}
	for _, c := range "bcdefghijklmnopqrstuvwy2345678" {
		for i := 0; i+1 < len(ranges); i += 2 {
			if ranges[i] <= c && c <= ranges[i+1] {
				return string(c)
			}
		}
	}
	return ""
}

// ambiguous reports whether the order of two rules matters to a name, for either client.
func ambiguous(a, b rewrite.Rule, host, name string) bool {
	containerd, wharfie := rewrite.Outcomes([]rewrite.Rule{a, b}, host, name)
	return len(containerd) > 1 || len(wharfie) > 1
}
