package main

import (
	"strings"

	"gopkg.in/yaml.v3"

	"roadstead/cache"
	"roadstead/registry/signature"
)

// Verify says what a project asks of the signatures of its images.
type Verify struct {
	Mode string // cache.Warn or cache.Enforce; "": nothing
	Keys []VerifyKey
}

// VerifyKey is a PEM text of public keys, and the file that it was read from.
type VerifyKey struct {
	File string // "": it stands in the configuration itself
	Text string
}

// policy is that in the words of the cache. Keys that cannot be read are none, and a project that
// verifies signatures without keys cannot be.
func (v Verify) policy() cache.Verify {
	p := cache.Verify{Mode: v.Mode}
	for _, k := range v.Keys {
		keys, _ := signature.ParseKeys([]byte(k.Text)) // whoever has written it was told what is wrong
		p.Keys = append(p.Keys, keys...)
	}
	return p
}

var verifyFields = []field[Verify]{
	{"mode", func(v value, to *Verify) {
		if text, ok := v.oneOf(cache.Enforce, cache.Warn); ok {
			to.Mode = text
		}
	}},
	{"keys", func(v value, to *Verify) {
		to.Keys = nil
		for _, item := range v.list() {
			if key, ok := item.publicKey(); ok {
				to.Keys = append(to.Keys, key)
			}
		}
	}},
	{"identities", func(v value, _ *Verify) {
		v.fault("identities are those of keyless signatures, which are not supported", `remove the line, and name the public keys that images are signed with as keys: [ "cosign.pub" ]`)
	}},
}

func readVerify(v value, to *Verify) {
	if isNull(v.node) {
		v.fault("it says nothing", `write mode and keys below it, or remove the line`)
		return
	}
	*to = Verify{Mode: cache.Enforce}
	readMapping(v, verifyFields, to)
	if v.node.Kind == yaml.MappingNode && len(to.Keys) == 0 && v.sound("keys", "identities") {
		v.fault("there is no key to verify signatures with", `write keys: [ "cosign.pub" ] below it, the public keys that images are signed with`)
	}
}

// publicKey reads the path of a PEM file, or PEM text itself.
func (v value) publicKey() (VerifyKey, bool) {
	text, ok := v.text()
	if !ok {
		return VerifyKey{}, false
	}
	key := VerifyKey{Text: text}
	if !strings.Contains(text, "-----BEGIN") {
		b := v.setFile(&key.File)
		if b == nil {
			return VerifyKey{}, false
		}
		key.Text = string(b)
	}
	if _, err := signature.ParseKeys([]byte(key.Text)); err != nil {
		v.fault(err.Error(), `name a file such as the cosign.pub of "cosign generate-key-pair", or write its text`)
		return VerifyKey{}, false
	}
	return key, true
}

func exportVerify(m *mapping, v Verify) {
	if v.Mode == "" {
		return
	}
	m.text("mode", v.Mode)
	var keys []string
	for _, k := range v.Keys {
		if k.File != "" {
			keys = append(keys, k.File)
		} else {
			keys = append(keys, k.Text)
		}
	}
	m.list("keys", keys)
}
