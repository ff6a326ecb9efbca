package registries

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"roadstead/registry"
	"roadstead/rewrite"
)

// rewrites looks at each rule of a mirror, and at each two.
func (l *linter) rewrites(ctx context.Context, m *Mirror) error {
	all, blame, err := decoded(m.Rewrites)
	if err != nil {
		l.escape(*blame, err)
		// What the others come to in containerd is no question any more; wharfie still reads them.
		all = m.Rewrites
	}
	for i, rule := range m.Rewrites {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && (all[i].Pattern != rule.Pattern || all[i].Replace != rule.Replace) {
			l.twoReadings(rule, all[i])
		}
		if l.left <= 0 {
			l.unfinished(rule.Line)
			return nil
		}
		l.rule(m, all[i])
	}
	for i := range all {
		for j := i + 1; j < len(all); j++ {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if l.left <= 0 || l.pairs == mostPairs {
				l.unfinished(all[j].Line)
				return nil
			}
			l.two(m, all[i], all[j])
			l.pairs++
		}
	}
	return nil
}

const (
	// mostPairs is how many pairs of rules of a file are compared, of which most take some microseconds:
	// those of one mirror with 140 rules.
	mostPairs = 10_000

	// mostWork bounds how long rules are looked at that nobody has written by hand, by the letters
	// that names are made of in search of examples: two seconds or so. Two patterns that people have
	// written take some thousand of them, and those that exclude one another none.
	mostWork = 3_000_000

	// nameWork is what a whole name is that is tried.
	nameWork = 20
)

// unfinished says that a file has more rules than are looked at, from a line on; once for each mirror.
func (l *linter) unfinished(line int) {
	l.note(line, "unfinished", fmt.Sprintf("not all rules of this mirror were looked at and compared with each other; %d pairs of rules of the file were", l.pairs),
		"each two that a mirror has may stand in each other's way, and for so many that takes too long", "fewer rules; or have the mirrors looked at in files of their own")
}

// witness is witness, counted.
func (l *linter) witness(host string, known, patterns []string, ok func(name string) bool) string {
	return witness(host, known, patterns, func(name string) bool {
		l.left -= nameWork
		return ok(name)
	})
}

// escape is a rule that makes hosts.toml something that cannot be read.
func (l *linter) escape(rule Rewrite, err error) {
	line := rule.Line
	if _, patternErr := basic(rule.Pattern); patternErr == nil {
		line = rule.ReplaceLine
	}
	l.breaks(line, "escape", fmt.Sprintf("the rule %q: %q makes hosts.toml unreadable, because %v", rule.Pattern, rule.Replace, err),
		"containerd then asks the registry itself without a word, even where the default endpoint is disabled", insteadOfEscape(rule, rule.Pattern))
}

// twoReadings is a rule whose escapes hosts.toml takes away.
func (l *linter) twoReadings(rule, read Rewrite) {
	l.breaks(rule.Line, "escape", fmt.Sprintf("containerd reads the rule %q: %q as %q: %q", rule.Pattern, rule.Replace, read.Pattern, read.Replace),
		"its backslashes go through hosts.toml, and wharfie takes them as they are, so RKE2's own images are looked for under another name", insteadOfEscape(rule, read.Pattern))
}

// plainer are the classes that need no backslash.
var plainer = strings.NewReplacer(`\.`, `[.]`, `\d`, `[0-9]`, `\w`, `[0-9A-Za-z_]`, `\s`, `[ ]`, `\-`, `-`, `\/`, `/`, `\+`, `[+]`, `\*`, `[*]`,
	`\(`, `[(]`, `\)`, `[)]`, `\$`, `[$]`, `\?`, `[?]`, `\\`, ``)

var backreference = regexp.MustCompile(`\\+(\d)`)

// insteadOfEscape is the rule without backslashes, if that can be said.
func insteadOfEscape(rule Rewrite, pattern string) string {
	pattern = plainer.Replace(pattern)
	replace := strings.ReplaceAll(backreference.ReplaceAllString(rule.Replace, "$${$1}"), `\`, "")
	if strings.ContainsAny(pattern, "\\\"\x08\t\n\f\r") || strings.ContainsAny(replace, "\"\x08\t\n\f\r") {
		return `classes such as [.] and [0-9] in place of backslashes, and no quotation marks`
	}
	if _, err := regexp.Compile(pattern); err != nil {
		return `classes such as [.] and [0-9] in place of backslashes`
	}
	return fmt.Sprintf("%q: %q", pattern, replace)
}

// rule looks at one rule as containerd reads it.
func (l *linter) rule(m *Mirror, rule Rewrite) {
	pattern, err := regexp.Compile(rule.Pattern)
	if err != nil {
		l.pattern(rule, err)
		return
	}
	l.groups(rule, pattern)
	known := l.known(m.Host)
	changed := l.witness(m.Host, known, []string{rule.Pattern}, func(name string) bool {
		return pattern.ReplaceAllString(name, rule.Replace) != name
	})
	if changed == "" || namesHost(m.Host, rule.Pattern) && !slices.ContainsFunc(slices.Concat(known, samples), pattern.MatchString) {
		l.noMatch(m, rule, pattern, known)
		return
	}
	host := m.Host
	out := pattern.ReplaceAllString(changed, rule.Replace)
	l.climbs(m, rule, changed, out)
	if !strings.Contains(out, "..") && out != "" {
		if got := rewrite.Wharfie([]rewrite.Rule{rule.Rule}, host, changed); got == changed && out != changed {
			if stripped := "library/" + out; host == hub && stripped == changed {
				l.note(rule.Line, "library", fmt.Sprintf("the rule %q: %q takes library/ away", rule.Pattern, rule.Replace),
					fmt.Sprintf("containerd asks for %s, and wharfie for %s all the same", out, got), "a replacement with a project or an organisation in it")
			} else {
				l.breaks(rule.ReplaceLine, "wharfie-name", fmt.Sprintf("the rule %q: %q makes %q of %q", rule.Pattern, rule.Replace, registry.Clip(out), changed),
					"that is no name to wharfie, which skips the rule: 2 to 255 of a-z, 0-9, '.', '_', '-' and '/' are one", "a replacement of those characters")
			}
		}
	}
}

// pattern is one that does not compile.
func (l *linter) pattern(rule Rewrite, err error) {
	why := "both clients skip the rule"
	if e, ok := errors.AsType[*syntax.Error](err); ok {
		why += fmt.Sprintf(": %s: %q", e.Code, e.Expr)
	}
	instead := "a regular expression of Go (RE2)"
	for _, ahead := range []string{"(?!", "(?=", "(?<!", "(?<="} {
		if strings.Contains(rule.Pattern, ahead) {
			instead = "a pattern that says what it is for, such as \"^rancher/(.*)\": what it is not for cannot be said, as there is no lookahead or lookbehind"
		}
	}
	l.breaks(rule.Line, "pattern", fmt.Sprintf("the pattern %q does not compile", rule.Pattern), why, instead)
}

// reference is a group as a replacement names it.
var reference = regexp.MustCompile(`\$(?:\$|\{(\w+)\}|(\w+))`)

// groups looks for groups that a replacement names and the pattern has not.
func (l *linter) groups(rule Rewrite, pattern *regexp.Regexp) {
	for _, at := range reference.FindAllStringSubmatch(rule.Replace, -1) {
		name := at[1] + at[2]
		if name == "" {
			continue
		}
		if n, err := strconv.Atoi(name); err == nil && n <= pattern.NumSubexp() || slices.Contains(pattern.SubexpNames(), name) {
			continue
		}
		why, instead := fmt.Sprintf("the pattern has %d groups, and what is not there becomes nothing", pattern.NumSubexp()), "the number or name of one of its groups"
		if digits := strings.TrimRight(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"); digits == "" && at[2] != "" {
			number := leadingDigits(name)
			if n, err := strconv.Atoi(number); err == nil && n <= pattern.NumSubexp() && number != name {
				why = fmt.Sprintf("letters, digits and '_' belong to the name of a group, and there is none called %q, so it becomes nothing", name)
				instead = fmt.Sprintf("${%s}%s", number, name[len(number):])
			}
		}
		l.breaks(rule.ReplaceLine, "group", fmt.Sprintf("the replacement %q has %s", rule.Replace, at[0]), why, instead)
	}
}

func leadingDigits(s string) string { return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))] }

// noMatch is a rule that changes no name.
func (l *linter) noMatch(m *Mirror, rule Rewrite, pattern *regexp.Regexp, known []string) {
	if !namesHost(m.Host, rule.Pattern) && l.witness(m.Host, known, []string{rule.Pattern}, pattern.MatchString) != "" {
		l.note(rule.Line, "no-match", fmt.Sprintf("the rule %q: %q changes nothing", rule.Pattern, rule.Replace), "what it matches becomes the same again", "no such rule")
		return
	}
	why := "no name of a repository matches it"
	instead := "a pattern for names such as library/busybox"
	switch {
	case strings.ContainsAny(rule.Pattern, ":@") && !strings.Contains(rule.Pattern, "(?:"):
		why, instead = "a rule sees the repository only: never a host, a tag or a digest", "the pattern without the tag or digest, and tags as they are"
	case namesHost(m.Host, rule.Pattern):
		why, instead = "a rule sees the repository only: never a host, a tag or a digest", "the pattern without the host"
	}
	l.breaks(rule.Line, "no-match", fmt.Sprintf("the pattern %q matches nothing", rule.Pattern), why, instead)
}

// namesHost reports whether a pattern has the host of the images in it, which no name has.
func namesHost(host, pattern string) bool {
	return host != wildcard && strings.Contains(strings.NewReplacer("[.]", ".", `\.`, ".").Replace(pattern), host+"/")
}

// climbs is a result that is not below the path of an endpoint any more.
func (l *linter) climbs(m *Mirror, rule Rewrite, name, out string) {
	for _, e := range m.Endpoints {
		l.left--
		u, _, override, err := address(e.Text)
		if err != nil {
			continue
		}
		root := asked(u, override)
		if got := path.Join(root, out); !strings.HasPrefix(got, strings.TrimSuffix(root, "/")+"/") {
			l.breaks(rule.ReplaceLine, "climbs", fmt.Sprintf("the rule %q: %q makes %q of %q", rule.Pattern, rule.Replace, registry.Clip(out), name),
				fmt.Sprintf("containerd cleans the path, so it asks for %s/manifests/…, which is not below %s", got, root), "a replacement without \"..\", and with something in it")
			return
		}
	}
}

// two looks for a name for which the order of two rules matters.
func (l *linter) two(m *Mirror, a, b Rewrite) {
	one, err := regexp.Compile(a.Pattern)
	if err != nil {
		return
	}
	two, err := regexp.Compile(b.Pattern)
	if err != nil {
		return
	}
	if apart(a.Pattern, b.Pattern) {
		return
	}
	name := l.witness(m.Host, l.known(m.Host), []string{a.Pattern, b.Pattern}, func(name string) bool {
		return one.MatchString(name) && two.MatchString(name) && ambiguous(a.Rule, b.Rule, m.Host, name)
	})
	if name == "" {
		name = l.meet(a.Rule, b.Rule, m.Host)
	}
	if name == "" {
		return
	}
	if a.Line > b.Line {
		a, b = b, a
	}
	l.breaks(b.Line, "ambiguous", fmt.Sprintf("the patterns %q (line %d) and %q both match %q", a.Pattern, a.Line, b.Pattern, name),
		fmt.Sprintf("the rules have no order, so each pull asks for %q or %q by chance (rke2#3227)", only(a, name), only(b, name)),
		"patterns that exclude one another, such as \"^library/(.*)\" and \"^rancher/(.*)\"; one that matches everything must be the only one")
}

// only is what one rule alone makes of a name.
func only(r Rewrite, name string) string {
	_, scope := rewrite.Containerd([]rewrite.Rule{r.Rule}, name)
	return scope
}
