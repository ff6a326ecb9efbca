package registries

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"roadstead/registry"
)

// SyntaxError is a file that is no YAML, with which no node starts.
type SyntaxError struct {
	Line int // from 1
	What string
}

// Error says where and what.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// syntaxLine is how the parser says where it stopped.
var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): `)

// MaxSize is the largest file that is worth reading, in bytes. Real ones have some KiB.
const MaxSize = 1 << 20

// Parse reads a registries.yaml. It refuses what is no YAML, as a [SyntaxError]; all else that is wrong
// with the file, [Lint] says.
func Parse(text []byte) (*File, error) {
	if len(text) > MaxSize {
		return nil, &SyntaxError{1, fmt.Sprintf("the file has %d bytes, more than %d", len(text), MaxSize)}
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		what, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
		if at := syntaxLine.FindStringSubmatch(err.Error()); at != nil {
			line, _ = strconv.Atoi(at[1])
			what = strings.TrimPrefix(err.Error(), at[0])
		}
		return nil, &SyntaxError{line, what}
	}
	f := &File{}
	if len(document.Content) == 0 {
		return f, nil
	}
	r := reader{file: f}
	r.mapping(document.Content[0], "the file", fields{
		"mirrors": func(n *yaml.Node) {
			r.each(n, "mirrors", func(host string, key, value *yaml.Node) { f.Mirrors = append(f.Mirrors, r.mirror(host, key, value)) })
		},
		"configs": func(n *yaml.Node) {
			r.each(n, "configs", func(host string, key, value *yaml.Node) { f.Configs = append(f.Configs, r.config(host, key, value)) })
		},
		"auths": func(n *yaml.Node) {
			r.find(Finding{Line: n.Line, Rule: "unknown-key", Breaks: true, What: `"auths" is read by no containerd any more`,
				Why: "it was removed in containerd 1.4, so the credentials are not used", Instead: `configs."<host>".auth`})
		},
	})
	return f, r.err
}

// fields are the keys that a mapping may have.
type fields map[string]func(*yaml.Node)

// reader goes through the nodes of a file. Like the YAML decoder of K3s it overlooks keys that it does
// not know, and takes the last of several; unlike that it says so.
type reader struct {
	file  *File
	err   error
	nodes int // that were read
}

// mostNodes bounds them. A file of MaxSize cannot have more that are worth reading, but its aliases can
// mean any number of them again.
const mostNodes = 100_000

// spend says whether there may be another mapping or list: an anchor may be merged into itself, and a few
// that are merged twice each are more than there is time for. The decoders of the nodes take neither.
func (r *reader) spend(n *yaml.Node, where string) bool {
	before := r.nodes
	if r.nodes += 1 + len(n.Content); before <= mostNodes && r.nodes > mostNodes {
		r.shape(n, where, "finite", "the keys out, instead of so many aliases and merges")
	}
	return r.nodes <= mostNodes
}

func (r *reader) find(f Finding) { r.file.findings = append(r.file.findings, f) }

func (r *reader) mirror(host string, key, value *yaml.Node) Mirror {
	m := Mirror{Host: host, Line: key.Line}
	where := "mirrors." + strconv.Quote(host)
	r.mapping(value, where, fields{
		"endpoint": func(n *yaml.Node) {
			if null(n) {
				return
			}
			if n.Kind != yaml.SequenceNode {
				r.shape(n, where+".endpoint", "a list", `endpoint: [ "https://…" ]`)
				return
			}
			if !r.spend(n, where+".endpoint") {
				return
			}
			for _, item := range n.Content {
				m.Endpoints = append(m.Endpoints, Endpoint{r.text(item, where+".endpoint"), item.Line})
			}
		},
		"rewrite": func(n *yaml.Node) {
			r.each(n, where+".rewrite", func(pattern string, key, value *yaml.Node) {
				one := Rewrite{Line: key.Line, ReplaceLine: value.Line}
				one.Pattern, one.Replace = pattern, r.text(value, where+".rewrite")
				m.Rewrites = append(m.Rewrites, one)
			})
		},
	})
	return m
}

func (r *reader) config(host string, key, value *yaml.Node) Config {
	c := Config{Host: host, Line: key.Line}
	where := "configs." + strconv.Quote(host)
	text := func(to *string, where string) func(*yaml.Node) {
		return func(n *yaml.Node) { *to = r.text(n, where) }
	}
	r.mapping(value, where, fields{
		"auth": func(n *yaml.Node) {
			if null(n) {
				return
			}
			a := &Auth{Line: n.Line}
			c.Auth = a
			before := len(r.file.findings)
			defer func() { a.odd = len(r.file.findings) > before }()
			r.mapping(n, where+".auth", fields{
				"username": text(&a.Username, where+".auth.username"), "password": text(&a.Password, where+".auth.password"),
				"auth": text(&a.Auth, where+".auth.auth"), "identity_token": text(&a.IdentityToken, where+".auth.identity_token"),
			})
		},
		"tls": func(n *yaml.Node) {
			if null(n) {
				return
			}
			t := &TLS{Line: n.Line}
			c.TLS = t
			r.mapping(n, where+".tls", fields{
				"ca_file": text(&t.CAFile, where+".tls.ca_file"), "cert_file": text(&t.CertFile, where+".tls.cert_file"),
				"key_file": text(&t.KeyFile, where+".tls.key_file"),
				"insecure_skip_verify": func(n *yaml.Node) {
					if n = resolve(n); !null(n) && n.Decode(&t.SkipVerify) != nil {
						r.shape(n, where+".tls.insecure_skip_verify", "true or false", "true")
					}
				},
			})
		},
	})
	return c
}

// mapping reads one whose keys are known.
func (r *reader) mapping(n *yaml.Node, where string, known fields) {
	r.each(n, where, func(name string, key, value *yaml.Node) {
		if read := known[name]; read != nil {
			read(resolve(value))
			return
		}
		r.find(unknownKey(name, where, key.Line, known))
	})
}

// unknownKey is the finding of a key that no node looks at.
func unknownKey(name, where string, line int, known fields) Finding {
	f := Finding{Line: line, Rule: "unknown-key", Breaks: true, What: fmt.Sprintf("%q is not a key of %s", registry.Clip(name), where),
		Why: "the nodes overlook it without a word, with all that is below it"}
	if name == "token" && known["identity_token"] != nil {
		f.Rule, f.Why, f.Instead = "token-key", "it is in the documentation of K3s and in none of the programs, so requests go out without credentials", "username and password (of a robot, for example), or identity_token"
		return f
	}
	names := make([]string, 0, len(known))
	for k := range known {
		if k != "auths" {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	f.Instead = strings.Join(names, ", ")
	plain := strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
	for _, k := range names {
		if bare := strings.ReplaceAll(k, "_", ""); strings.HasPrefix(plain, bare) || strings.HasPrefix(bare, plain) && plain != "" {
			f.Instead = k
		}
	}
	return f
}

// pair is a key of a mapping and its value.
type pair struct{ key, value *yaml.Node }

// each calls fn for each key of a mapping, with its merges ("<<") taken in. Of a key that is there
// twice it calls it for the last one, as the decoders of the nodes do.
func (r *reader) each(n *yaml.Node, where string, fn func(name string, key, value *yaml.Node)) {
	n = resolve(n)
	if null(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.shape(n, where, "a mapping", `one "key: value" on each line below it`)
		return
	}
	var all []pair
	first := map[string]int{}
	for _, p := range r.pairs(n, where) {
		i, again := first[p.key.Value]
		if !again {
			first[p.key.Value] = len(all)
			all = append(all, p)
			continue
		}
		r.find(Finding{Line: all[i].key.Line, Rule: "duplicate-key", Breaks: true, What: fmt.Sprintf("%q is in %s again on line %d", registry.Clip(p.key.Value), where, p.key.Line),
			Why: "the nodes take the last one and drop this one", Instead: "all of it below one of them"})
		all[i] = p
	}
	for _, p := range all {
		fn(p.key.Value, p.key, resolve(p.value))
	}
}

// pairs are the keys that a mapping has itself, and those of what is merged into it that it has not.
func (r *reader) pairs(n *yaml.Node, where string) []pair {
	if !r.spend(n, where) {
		return nil
	}
	var own, merged []pair
	has := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode:
			r.shape(key, "a key of "+where, "a word", "a plain word before the colon")
		case key.Tag == "!!merge":
			sources := []*yaml.Node{value}
			if value.Kind == yaml.SequenceNode {
				sources = value.Content
			}
			for _, s := range sources {
				if s = resolve(s); s.Kind == yaml.MappingNode {
					merged = append(merged, r.pairs(s, where)...)
				}
			}
		default:
			own = append(own, pair{key, n.Content[i+1]})
			has[key.Value] = true
		}
	}
	for _, p := range merged {
		if !has[p.key.Value] {
			own = append(own, p)
			has[p.key.Value] = true
		}
	}
	return own
}

// text is a scalar, whatever it looks like.
func (r *reader) text(n *yaml.Node, where string) string {
	n = resolve(n)
	if null(n) {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		r.shape(n, where, "a text", "one value on the same line")
		return ""
	}
	return n.Value
}

// shape is what the decoder of the nodes does not take.
func (r *reader) shape(n *yaml.Node, where, want, instead string) {
	r.find(Finding{Line: n.Line, Rule: "shape", Breaks: true, What: fmt.Sprintf("%s is not %s", where, want),
		Why: "K3s and RKE2 cannot read the file and do not start", Instead: instead})
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// resolve follows an alias, which never leads to another one.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// Line is where an error of Parse is.
func Line(err error) int {
	if s, ok := errors.AsType[*SyntaxError](err); ok {
		return s.Line
	}
	return 1
}
