package registries

import (
	"regexp/syntax"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/rewrite"
)

// apart reports whether two patterns begin with texts that no name can both begin with, which is how
// people make rules exclude one another.
func apart(a, b string) bool {
	one, ok := head(a)
	if !ok {
		return false
	}
	two, ok := head(b)
	return ok && !strings.HasPrefix(one, two) && !strings.HasPrefix(two, one)
}

// head is the text that all that a pattern matches begins with, from the first letter of a name.
func head(pattern string) (string, bool) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil || tree.Op != syntax.OpConcat || tree.Sub[0].Op != syntax.OpBeginText || tree.Sub[1].Op != syntax.OpLiteral || tree.Sub[1].Flags&syntax.FoldCase != 0 {
		return "", false
	}
	return string(tree.Sub[1].Rune), true
}

// mostStates bounds the search below. Patterns that people write have some hundreds.
const mostStates = 30_000

// meet looks for a name for which the order of two rules matters in another way than by trying likely
// ones: it goes through all names, the shortest first, as far as the two patterns tell them apart.
// "" is none found, which for patterns of reasonable length means that there is none.
func (l *linter) meet(a, b rewrite.Rule, host string) string {
	one, ok := newMatcher(a.Pattern)
	if !ok {
		return ""
	}
	two, ok := newMatcher(b.Pattern)
	if !ok {
		return ""
	}
	type state struct {
		a, b string // what the matchers have in hand
		last byte   // of the name, by its class: separators do not follow one another
		deep bool   // there has been a slash
	}
	type item struct {
		name string
		a, b position
	}
	letters := alphabet(a.Pattern, b.Pattern)
	start := item{"", one.start(), two.start()}
	seen, queue := map[state]bool{}, []item{start}
	tried := 0
	for len(queue) > 0 && len(seen) < mostStates {
		at := queue[0]
		queue = queue[1:]
		// The same place in both matchers may be reached by names of which only one does, so some
		// more names are tried than there are places.
		if one.matches(at.a) && two.matches(at.b) && registry.CheckName(at.name) == nil && tried < 2000 {
			tried++
			l.left -= nameWork
			name := at.name
			if host == hub && !strings.Contains(name, "/") {
				name = "library/" + name
			}
			if ambiguous(a, b, host, name) {
				return name
			}
		}
		if len(at.name) >= 48 {
			continue
		}
		l.left -= len(letters)
		for _, c := range letters {
			separator := strings.IndexByte("./-_", c) >= 0
			if separator && (at.name == "" || strings.ContainsAny(at.name[len(at.name)-1:], "./-_")) {
				continue
			}
			next := item{at.name + string(c), one.step(at.a, rune(c)), two.step(at.b, rune(c))}
			class := byte('x')
			if separator {
				class = c
			}
			s := state{next.a.key(), next.b.key(), class, strings.Contains(next.name, "/")}
			if !seen[s] {
				seen[s] = true
				queue = append(queue, next)
			}
		}
	}
	return ""
}

// alphabet is what tells names apart: the characters that patterns have, and some that stand for all
// others.
func alphabet(patterns ...string) []byte {
	var all []byte
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789-_./") {
		used := slices.ContainsFunc(patterns, func(p string) bool { return strings.IndexByte(strings.ToLower(p), c) >= 0 })
		if used || strings.IndexByte("ax0/-", c) >= 0 {
			all = append(all, c)
		}
	}
	return all
}

// matcher runs a pattern over a name letter by letter, in all ways at once.
type matcher struct{ prog *syntax.Prog }

// position is where it is: the instructions that may be next, before empty-width ones are looked at,
// and whether there was a match already.
type position struct {
	pcs  []uint32
	last rune // the letter before; -1: none
	done bool
}

func (p position) key() string {
	if p.done {
		return "+"
	}
	var b strings.Builder
	for _, pc := range p.pcs {
		b.WriteByte(byte(pc))
		b.WriteByte(byte(pc >> 8))
	}
	if p.last >= 0 && syntax.IsWordChar(p.last) {
		b.WriteByte('w')
	}
	return b.String()
}

func newMatcher(pattern string) (matcher, bool) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return matcher{}, false
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > 1000 {
		return matcher{}, false
	}
	return matcher{prog}, true
}

func (m matcher) start() position { return position{pcs: []uint32{uint32(m.prog.Start)}, last: -1} }

// closure is what the instructions come to between two letters: those that take one, and whether one
// of the ways has ended.
func (m matcher) closure(p position, next rune) (takes []uint32, matched bool) {
	flags := syntax.EmptyOpContext(p.last, next)
	seen := make([]bool, len(m.prog.Inst))
	var visit func(pc uint32)
	visit = func(pc uint32) {
		if seen[pc] {
			return
		}
		seen[pc] = true
		switch in := &m.prog.Inst[pc]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			visit(in.Out)
			visit(in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			visit(in.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^flags == 0 {
				visit(in.Out)
			}
		case syntax.InstMatch:
			matched = true
		case syntax.InstFail:
		default:
			takes = append(takes, pc)
		}
	}
	for _, pc := range p.pcs {
		visit(pc)
	}
	return takes, matched
}

// step takes a letter. A match may begin at each.
func (m matcher) step(p position, c rune) position {
	if p.done {
		return position{last: c, done: true}
	}
	takes, matched := m.closure(p, c)
	next := position{last: c, done: matched}
	if matched {
		return next
	}
	next.pcs = append(next.pcs, uint32(m.prog.Start))
	for _, pc := range takes {
		in := &m.prog.Inst[pc]
		if in.MatchRune(c) && !slices.Contains(next.pcs, in.Out) {
			next.pcs = append(next.pcs, in.Out)
		}
	}
	slices.Sort(next.pcs)
	return next
}

// matches reports whether the name matches if it ends here.
func (m matcher) matches(p position) bool {
	if p.done {
		return true
	}
	_, matched := m.closure(p, -1)
	return matched
}
