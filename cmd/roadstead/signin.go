package main

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
)

// oidcFields are what has to be known of whoever people sign in with.
var oidcFields = []field[OIDC]{
	{"issuer", func(v value, o *OIDC) {
		text, ok := v.plainURL()
		if !ok {
			return
		}
		if strings.HasPrefix(text, "http://") && !private(text, nil) {
			v.fault("people's passwords and names would go there in clear text", "write https://")
			return
		}
		// As it is written: it has to be what the issuer calls itself, to the last slash.
		o.Issuer, _ = v.text()
	}},
	{"client_id", func(v value, o *OIDC) { v.setText(&o.ClientID) }},
	{"client_secret", func(v value, o *OIDC) { v.setSecret(&o.ClientSecret) }},
	{"client_secret_file", func(v value, o *OIDC) { v.setSecretFile(&o.ClientSecret) }},
	{"client_secret_name", func(v value, o *OIDC) { v.setSecretName(&o.ClientSecretName) }},
	{"ca_file", func(v value, o *OIDC) {
		b := v.setFile(&o.CAFile)
		if b != nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
			v.fault("no certificate is in the file", `name a PEM file with "BEGIN CERTIFICATE" in it`)
		}
		o.CA = string(b)
	}},
	{"scopes", func(v value, o *OIDC) {
		o.Scopes = nil
		for _, item := range v.list() {
			if text, ok := item.text(); ok {
				o.Scopes = append(o.Scopes, text)
			}
		}
	}},
	{"username_claim", func(v value, o *OIDC) { v.setText(&o.UsernameClaim) }},
	{"groups_claim", func(v value, o *OIDC) { v.setText(&o.GroupsClaim) }},
	{"admin_group", func(v value, o *OIDC) { v.setText(&o.AdminGroup) }},
	{"trust", func(v value, o *OIDC) {
		v.setDuration(&o.Trust)
		if o.Trust == 0 && !v.doc.faulty[v.path] {
			v.fault("nobody's secret would be good for anything", "write how long it is after the last sign-in, such as 7d")
		}
	}},
	{"groups", func(v value, o *OIDC) {
		o.Groups = nil
		for _, item := range v.list() {
			var g Group
			before := len(v.doc.faults)
			readMapping(item, groupFields, &g)
			if before == len(v.doc.faults) && (g.Group == "" || g.Project == "" || g.Role == "") {
				item.fault("one of group, project and role is not there", "write { group: dev, project: production, role: developer }")
			}
			o.Groups = append(o.Groups, g)
		}
	}},
}

var groupFields = []field[Group]{
	{"group", func(v value, g *Group) { v.setText(&g.Group) }},
	{"project", func(v value, g *Group) {
		text, ok := v.text()
		if ok && registry.CheckProject(text) != nil {
			v.fault(fmt.Sprintf("%q is not the name of a project", registry.Clip(text)), "write lower-case letters and digits joined by single '.', '_' or '-', such as production")
			return
		}
		g.Project = text
	}},
	{"role", func(v value, g *Group) {
		text, ok := v.text()
		if ok && !slices.Contains(roles(), text) {
			v.fault(fmt.Sprintf("%q is not a role", registry.Clip(text)), suggestRole(text))
			return
		}
		g.Role = text
	}},
}

// roles are what a member of a project can be.
func roles() []string {
	var all []string
	for _, r := range access.Roles {
		all = append(all, string(r))
	}
	return all
}

// suggestRole is suggest for words that are not all in lower case.
func suggestRole(got string) string {
	for _, role := range roles() {
		if strings.EqualFold(role, got) {
			return fmt.Sprintf("did you mean %q?", role)
		}
	}
	return suggest(got, roles())
}

// checkOIDC looks at what its keys say together.
func (f *file) checkOIDC(v value) {
	o, line := &f.OIDC, v.at("oidc")
	if line == 0 {
		return
	}
	for _, need := range []struct{ key, value, instead string }{
		{"issuer", o.Issuer, `write its URL, such as "https://id.example.com"`},
		{"client_id", o.ClientID, "write what the issuer calls this server"},
	} {
		if need.value == "" && !v.doc.faulty["/oidc/"+need.key] {
			v.doc.fault(line, "oidc: there is no "+need.key, need.instead)
		}
	}
	var given []string
	for _, key := range []string{"client_secret", "client_secret_file", "client_secret_name"} {
		if v.doc.lines["/oidc/"+key] > 0 {
			given = append(given, key)
		}
	}
	if len(given) > 1 {
		v.doc.fault(v.doc.lines["/oidc/"+given[1]], fmt.Sprintf("%s: %s is there as well", given[1], given[0]), "remove one of them")
	}
	if f.URL == "" && !v.doc.faulty["/url"] {
		v.doc.fault(line, "oidc: there is no url, and the issuer has to know where to send people back to", `write url: "https://mirror.example.com" at the top, with the name that people use`)
	}
}
