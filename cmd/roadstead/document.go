package main

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"roadstead/registry"
)

// Fault is one thing that is wrong in the configuration file, and where.
type Fault struct {
	File    string
	Line    int    // from 1; zero when the fault is that of the whole file
	What    string // what is wrong
	Instead string // what to write instead
}

// Error returns the fault as editors understand it: "file:line: what is wrong; what to write".
func (f Fault) Error() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s; %s", f.File, f.What, f.Instead)
	}
	return fmt.Sprintf("%s:%d: %s; %s", f.File, f.Line, f.What, f.Instead)
}

// document is a YAML file being read. It goes on after a fault, so that one run shows all.
type document struct {
	file   string
	dir    string // what relative paths in the file start from
	env    func(string) (string, bool)
	faults []Fault
	faulty map[string]bool // whether a key's own value has a fault, by its path
	lines  map[string]int  // where each key stands, by its path "/projects/quay.io/ttl"

	private []netip.Prefix // the networks that upstreams may be in, once they are read
}

func (doc *document) fault(line int, what, instead string) {
	doc.faults = append(doc.faults, Fault{File: doc.file, Line: line, What: what, Instead: instead})
}

// sorted returns the faults in the order of the file.
func (doc *document) sorted() []Fault {
	slices.SortStableFunc(doc.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return doc.faults
}

// value is a node of the document and the key it stands under.
type value struct {
	doc  *document
	node *yaml.Node
	path string // of keys, each after a slash, which no known key has in it
	key  string // the last of them; "" for the whole document
}

func (v value) fault(what, instead string) {
	v.doc.faulty[v.path] = true
	v.doc.fault(v.node.Line, v.key+": "+what, instead)
}

// field is one key of a mapping and how its value gets into a T.
type field[T any] struct {
	key  string
	read func(value, *T)
}

// readMapping reads the mapping v into t. A key that is not in fields is a fault.
func readMapping[T any](v value, fields []field[T], t *T) {
	v.pairs(func(key string, line int, child value) {
		i := slices.IndexFunc(fields, func(f field[T]) bool { return f.key == key })
		if i < 0 {
			known := make([]string, len(fields))
			for i, f := range fields {
				known[i] = f.key
			}
			v.doc.fault(line, fmt.Sprintf("%q is not a key of %s", registry.Clip(key), v.called()), suggest(key, known))
			return
		}
		fields[i].read(child, t)
	})
}

// sound reports whether none of these keys of the mapping v has a fault of its own, so that
// what they say together is worth looking at.
func (v value) sound(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return v.doc.faulty[v.path+"/"+key] })
}

// at returns the line of a key of the mapping v, zero when it is not there.
func (v value) at(key string) int { return v.doc.lines[v.path+"/"+key] }

// pairs calls fn for each key of a mapping with the line that the key is on.
func (v value) pairs(fn func(key string, line int, child value)) {
	node := v.node
	if isNull(node) {
		return // "projects:" with nothing below it
	}
	if node.Kind != yaml.MappingNode {
		v.doc.fault(node.Line, fmt.Sprintf("%s is %s", v.called(), kind(node)), "write one \"key: value\" per line, indented below it")
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, child := node.Content[i], resolve(node.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			v.doc.fault(key.Line, "a key is "+kind(key), "write a plain word before the colon")
			continue
		}
		if key.Tag == "!!merge" {
			v.doc.fault(key.Line, "\"<<\" merges are not understood", "write the keys out")
			continue
		}
		if line, twice := first[key.Value]; twice {
			v.doc.fault(key.Line, fmt.Sprintf("%q is there twice, first on line %d", registry.Clip(key.Value), line), "remove one of them")
			continue
		}
		first[key.Value] = key.Line
		path := v.path + "/" + key.Value
		v.doc.lines[path] = key.Line
		fn(key.Value, key.Line, value{doc: v.doc, node: child, path: path, key: key.Value})
	}
}

func (v value) called() string {
	if v.key == "" {
		return "the configuration"
	}
	return v.key
}

// text returns a scalar with the environment expanded. ok is false when that was a fault.
func (v value) text() (s string, ok bool) {
	switch {
	case isNull(v.node):
		v.fault("it has no value", `write one, "" for an empty one, or remove the line`)
		return "", false
	case v.node.Kind != yaml.ScalarNode:
		v.fault(fmt.Sprintf("it is %s", kind(v.node)), "write one value on the same line")
		return "", false
	}
	return v.expand(v.node.Value)
}

// list returns the elements of a sequence as values of their own. A single scalar is a list
// of one, because that is how people write it.
func (v value) list() []value {
	switch {
	case isNull(v.node):
		v.fault("it has no value", "write a list, [] for an empty one, or remove the line")
		return nil
	case v.node.Kind == yaml.ScalarNode:
		return []value{v}
	case v.node.Kind != yaml.SequenceNode:
		v.fault(fmt.Sprintf("it is %s", kind(v.node)), `write a list, [ "a", "b" ]`)
		return nil
	}
	var values []value
	for _, node := range v.node.Content {
		values = append(values, value{doc: v.doc, node: resolve(node), path: v.path, key: v.key})
	}
	return values
}

// reference matches "${" up to its "}", and "$${", which stands for a literal "${".
var reference = regexp.MustCompile(`\$?\$\{[^}]*\}?`)

// name is what the environment calls a variable.
var name = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} and ${NAME:-default} from the environment. What comes from there is
// not expanded again.
func (v value) expand(s string) (string, bool) {
	ok := true
	out := reference.ReplaceAllStringFunc(s, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		body, closed := strings.CutSuffix(ref[len("${"):], "}")
		variable, fallback, hasFallback := strings.Cut(body, ":-")
		if !closed || !name.MatchString(variable) {
			v.fault(fmt.Sprintf("%q is not a reference to the environment", registry.Clip(ref)), "write ${NAME} or ${NAME:-default}, or $${ for the characters themselves")
			ok = false
			return ""
		}
		got, set := v.doc.env(variable)
		if hasFallback && got == "" {
			return fallback
		}
		if !set {
			v.fault(fmt.Sprintf("the environment variable %s is not set", variable), fmt.Sprintf("set it, or write ${%s:-default}", variable))
			ok = false
		}
		return got
	})
	return out, ok
}

// path makes a path absolute enough to be opened: relative ones start from the folder of the
// configuration file.
func (doc *document) path(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(doc.dir, path)
}

// secret returns what a variable of the environment holds, or the file that the variable of that name and
// _FILE names, and which of the two it was. Empty is none, be it the variable or the file: a compose file
// that has a place for a secret has to name something where there is no secret. Relative paths start from
// the working directory, as nothing says where the environment is.
func (doc *document) secret(variable string) (Secret, string) {
	text, _ := doc.env(variable)
	named := variable + "_FILE"
	path, _ := doc.env(named)
	if path == "" {
		return Secret(text), variable
	}
	fault := func(what, instead string) (Secret, string) {
		doc.faults = append(doc.faults, Fault{File: "environment", What: named + ": " + what, Instead: instead})
		return "", named
	}
	if text != "" {
		return fault(variable+" is set as well", "unset one of them")
	}
	b, err := readSmall(path)
	if err != nil {
		return fault(fmt.Sprintf("the file cannot be read: %v", err), "name a file that this user can read, or unset it")
	}
	return Secret(bytes.TrimRight(b, "\r\n")), named
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Tag == "!!null"
}

// resolve follows an alias. An anchor can only be one level away: the parser resolves none of
// them inside another alias.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		return node.Alias
	}
	return node
}

func kind(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(registry.Clip(node.Value))
}

// foreign are words of other registries' configurations, and what they are here.
var foreign = map[string]string{
	"url": "endpoints", "remoteurl": "endpoints", "remote": "endpoints", "upstream": "endpoints", "mirror": "endpoints",
}

// suggest names the known word nearest to a misspelt one, or all of them.
func suggest(got string, known []string) string {
	if ours := foreign[strings.ToLower(got)]; slices.Contains(known, ours) {
		return fmt.Sprintf("did you mean %q?", ours)
	}
	best, least := "", len(got)/3+2
	for _, word := range known {
		if len(got) > 2 && strings.HasPrefix(word, strings.ToLower(got)) {
			return fmt.Sprintf("did you mean %q?", word)
		}
		if d := distance(strings.ToLower(got), word); d < least {
			best, least = word, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known are " + strings.Join(known, ", ")
}

// distance is the number of letters to insert, remove or exchange to make b out of a.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
