package main

import (
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// ruleFields are the keys of a rule of retention. Without one of newest, last_pulled, pushed and pulled
// it keeps all that it is about.
var ruleFields = []field[catalog.Rule]{
	{"repositories", func(v value, r *catalog.Rule) { v.setSelector(&r.Repositories, false) }},
	{"except_repositories", func(v value, r *catalog.Rule) { v.setSelector(&r.Repositories, true) }},
	{"tags", func(v value, r *catalog.Rule) { v.setSelector(&r.Tags, false) }},
	{"except_tags", func(v value, r *catalog.Rule) { v.setSelector(&r.Tags, true) }},
	{"untagged", func(v value, r *catalog.Rule) { v.setBool(&r.Untagged) }},
	{"newest", func(v value, r *catalog.Rule) { v.setSome(&r.Newest) }},
	{"last_pulled", func(v value, r *catalog.Rule) { v.setSome(&r.LastPulled) }},
	{"pushed", func(v value, r *catalog.Rule) { v.setSpan(&r.Pushed) }},
	{"pulled", func(v value, r *catalog.Rule) { v.setSpan(&r.Pulled) }},
}

// readRules reads the rules of a retention.
func readRules(v value, r *Retain) {
	r.Rules = nil
	for _, item := range v.list() {
		var rule catalog.Rule
		readMapping(item, ruleFields, &rule)
		r.Rules = append(r.Rules, rule)
	}
}

// setSelector reads what a rule is about, or is not.
func (v value) setSelector(s *catalog.Selector, except bool) {
	text, ok := v.text()
	switch err := registry.Glob(text).Check(); {
	case !ok:
	case *s != catalog.Selector{}:
		v.fault("the rule says already which it is about", "write one of "+v.key+" and its opposite, and join patterns with {a,b}")
	case text == "" || err != nil:
		v.fault(fmt.Sprintf("%q is not a pattern", registry.Clip(text)), `write * within a component and ** across, such as "web/**" or "v*"`)
	default:
		if *s = (catalog.Selector{Glob: text, Except: except}); text == "**" {
			s.Glob = ""
		}
	}
}

// setSome is setCount for what is none without the key.
func (v value) setSome(n *int) {
	if v.setCount(n); *n == 0 && !v.doc.faulty[v.path] {
		v.fault("it keeps nothing", "write 1 or more, or remove the line")
	}
}

// setSpan is setDuration for what is none without the key.
func (v value) setSpan(d *time.Duration) {
	if v.setDuration(d); *d == 0 && !v.doc.faulty[v.path] {
		v.fault("it keeps nothing", "write a time, such as 30d, or remove the line")
	}
}

// exportRules writes the rules of a retention.
func exportRules(m *mapping, rules []catalog.Rule) {
	if len(rules) == 0 {
		return
	}
	all := &yaml.Node{Kind: yaml.SequenceNode}
	for _, rule := range rules {
		one := newMapping()
		exportSelector(one, "repositories", rule.Repositories)
		exportSelector(one, "tags", rule.Tags)
		one.flag("untagged", rule.Untagged, false)
		one.count("newest", rule.Newest)
		one.count("last_pulled", rule.LastPulled)
		one.duration("pushed", rule.Pushed, 0)
		one.duration("pulled", rule.Pulled, 0)
		all.Content = append(all.Content, &one.node)
	}
	m.add("rules", all, "")
}

func exportSelector(m *mapping, key string, s catalog.Selector) {
	switch {
	case s.Except && s.Glob == "":
		m.text("except_"+key, "**")
	case s.Except:
		m.text("except_"+key, s.Glob)
	default:
		m.text(key, s.Glob)
	}
}
