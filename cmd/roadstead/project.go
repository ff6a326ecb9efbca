package main

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/registry/hosted"
	"roadstead/registry/upstream"
)

// projectFields are the keys of one project: what any can have, what one that people push to can
// have, and what a proxy can.
var projectFields = slices.Concat(commonFields, hostedFields, proxyFields)

var commonFields = []field[Project]{
	{"hosted", func(v value, p *Project) { v.setBool(&p.Hosted) }},
	{"public", func(v value, p *Project) { v.setBool(&p.Public) }},
	{"redirect", func(v value, p *Project) { v.setRedirect(&p.Redirect) }},
}

var hostedFields = []field[Project]{
	{"quota", func(v value, p *Project) {
		v.setSize(&p.Quota)
		if p.Quota == 0 && !v.doc.faulty[v.path] {
			v.fault("nothing fits into no bytes", "write a size, or remove the line for no limit")
		}
	}},
	{"immutable", func(v value, p *Project) { v.setGlobs(p.Name, &p.Immutable) }},
	{"retain", func(v value, p *Project) { readMapping(v, retainFields, &p.Retain) }},
}

var retainFields = []field[Retain]{
	{"newest", func(v value, r *Retain) { v.setCount(&r.Newest) }},
	{"pulled", func(v value, r *Retain) { v.setDuration(&r.Pulled) }},
	{"schedule", func(v value, r *Retain) { v.setSchedule(&r.Schedule) }},
	{"rules", readRules},
}

// setSchedule reads when tags are retained.
func (v value) setSchedule(cron *string) {
	text, ok := v.text()
	if !ok {
		return
	}
	if _, err := hosted.ParseSchedule(text); err != nil && text != hosted.Never {
		v.fault(err.Error(), "or write @daily and the like, or never for by command only")
		return
	}
	*cron = text
}

// What a project has already, from the built-in one of its name, stays as long as its key is not
// given.
var proxyFields = []field[Project]{
	{"endpoints", func(v value, p *Project) {
		p.Remote.Endpoints = nil
		for _, item := range v.list() {
			if endpoint, ok := item.endpointURL(); ok {
				p.Remote.Endpoints = append(p.Remote.Endpoints, endpoint)
			}
		}
		if len(v.node.Content) == 0 && v.node.Value == "" {
			v.fault("the list is empty", `write at least one URL, such as "https://quay.io"`)
		}
	}},
	{"hub", func(v value, p *Project) { v.setBool(&p.Hub) }},
	{"names", func(v value, p *Project) {
		p.Names = nil
		for _, item := range v.list() {
			if name, ok := item.hostText(); ok {
				p.Names = append(p.Names, name)
			}
		}
	}},
	{"prefix", readPrefix},
	{"username", func(v value, p *Project) { v.setText(&p.Remote.Username) }},
	{"password", func(v value, p *Project) { v.setSecret(&p.Remote.Password) }},
	{"password_file", func(v value, p *Project) { v.setPasswordFile(&p.Remote.PasswordFile) }},
	{"password_secret", func(v value, p *Project) { v.setSecretName(&p.Remote.PasswordSecret) }},
	{"credential_helper", readHelper},
	{"auth_hosts", func(v value, p *Project) {
		p.Remote.AuthHosts = nil
		for _, item := range v.list() {
			if name, ok := item.hostText(); ok {
				p.Remote.AuthHosts = append(p.Remote.AuthHosts, name)
			}
		}
	}},
	{"ca_file", func(v value, p *Project) {
		b := v.setFile(&p.Remote.CAFile)
		if b != nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
			v.fault("no certificate is in the file", `name a PEM file with "BEGIN CERTIFICATE" in it`)
		}
		p.Remote.CA = string(b)
	}},
	{"ca", func(v value, p *Project) {
		if v.setText(&p.Remote.CA); !x509.NewCertPool().AppendCertsFromPEM([]byte(p.Remote.CA)) {
			v.fault("it is no certificate", "write a block of text that begins with -----BEGIN CERTIFICATE-----, or name a file with ca_file")
		}
	}},
	{"client_certificate", func(v value, p *Project) { v.setPath(&p.Remote.ClientCertificate) }},
	{"client_key", func(v value, p *Project) { v.setPath(&p.Remote.ClientKey) }},
	{"insecure", func(v value, p *Project) { v.setBool(&p.Remote.Insecure) }},
	{"allow_private", func(v value, p *Project) { v.setBool(&p.Remote.AllowPrivate) }},
	{"proxy", func(v value, p *Project) { v.setProxy(&p.Remote.Proxy) }},
	{"ttl", func(v value, p *Project) { v.setDuration(&p.TTL) }},
	{"negative_ttl", func(v value, p *Project) { v.setDuration(&p.Negative) }},
	{"stale_for", func(v value, p *Project) { v.setDuration(&p.StaleFor) }},
	{"keep", func(v value, p *Project) { v.setDuration(&p.Keep) }},
	{"allow", func(v value, p *Project) { v.setGlobs(p.Name, &p.Allow) }},
	{"deny", func(v value, p *Project) { v.setGlobs(p.Name, &p.Deny) }},
	{"pin", func(v value, p *Project) { v.setGlobs(p.Name, &p.Pin) }},
	{"cooldown", func(v value, p *Project) { v.setDuration(&p.Cooldown) }},
	{"cooldown_new", func(v value, p *Project) { v.setBool(&p.CooldownNew) }},
	{"verify", func(v value, p *Project) { readVerify(v, &p.Verify) }},
	{"keep_gone", func(v value, p *Project) { v.setBool(&p.KeepGone) }},
	{"deny_with_upstream", func(v value, p *Project) { v.setBool(&p.DenyWithUpstream) }},
}

func readPrefix(v value, p *Project) {
	text, ok := v.text()
	if !ok {
		return
	}
	if text != "" && registry.CheckName(text) != nil {
		v.fault(fmt.Sprintf("%q is not the beginning of a repository's name", registry.Clip(text)), `write lower-case components without a slash at the ends, such as "team/images"`)
		return
	}
	p.Remote.Prefix = text
}

func readHelper(v value, p *Project) {
	text, ok := v.text()
	if !ok {
		return
	}
	p.Remote.CredentialHelper = strings.TrimPrefix(text, "docker-credential-")
	if strings.ContainsAny(p.Remote.CredentialHelper, "/ ") {
		v.fault(fmt.Sprintf("%q is not the name of a credential helper", registry.Clip(text)), `write what follows "docker-credential-", such as ecr-login`)
	}
}

// setFile reads the path of a file and what is in it. The content is nil after a fault.
func (v value) setFile(path *string) []byte {
	*path = ""
	v.setPath(path)
	if *path == "" {
		return nil
	}
	b, err := readSmall(*path)
	if err != nil {
		v.fault(fmt.Sprintf("the file cannot be read: %v", err), "name a file that this user can read; relative paths start from the folder of the configuration file")
		return nil
	}
	return b
}

// setPasswordFile reads the path of a file and the password in it, which is nil after a fault.
func (v value) setPasswordFile(path *string) []byte {
	b := v.setFile(path)
	if b == nil {
		return nil
	}
	if b = bytes.TrimRight(b, "\r\n"); len(b) == 0 {
		what := "secret"
		if strings.HasSuffix(v.path, "password_file") {
			what = "password"
		}
		v.fault("the file is empty", "put the "+what+" into it")
		return nil
	}
	return b
}

// setSecretFile is setPasswordFile where only what is in the file matters.
func (v value) setSecretFile(s *Secret) {
	var path string
	if b := v.setPasswordFile(&path); b != nil {
		*s = Secret(b)
	}
}

// setSecretName reads what a stored secret is called.
func (v value) setSecretName(s *string) {
	text, ok := v.text()
	switch {
	case !ok:
	case registry.CheckProject(text) != nil:
		v.fault(fmt.Sprintf("%q is not the name of a secret", registry.Clip(text)), `write the name that "roadstead secret set NAME" was given: lower-case letters and digits joined by single '.', '_' or '-'`)
	default:
		*s = text
	}
}

// readSmall reads a file that should not be large: a password, a certificate, a configuration.
func readSmall(path string) ([]byte, error) {
	const most = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if len(b) > most {
		return nil, fmt.Errorf("%s is larger than %s", path, bytesText(most))
	}
	return b, nil
}

// readProjects merges the projects of the file over those that are there already.
func readProjects(v value, projects map[string]Project) {
	v.pairs(func(name string, line int, child value) {
		if registry.CheckProject(name) != nil {
			instead := "write lower-case letters and digits joined by single '.', '_' or '-', such as quay.io"
			if lower := strings.ToLower(name); registry.CheckProject(lower) == nil {
				instead = fmt.Sprintf("write %s", lower)
			}
			v.doc.fault(line, fmt.Sprintf("%q is not the name of a project", registry.Clip(name)), instead)
			return
		}
		if why, reserved := reservedNames[name]; reserved {
			v.doc.fault(line, fmt.Sprintf("%q cannot be the name of a project, %s", name, why), "choose another name")
			return
		}
		p, known := projects[name]
		if !known {
			p = newProject(name)
			if b, ok := builtinProject(name); ok {
				p = b // with builtin_projects: false its upstream is still known
			}
		}
		before := len(v.doc.faults)
		readMapping(child, projectFields, &p)
		if p.Hosted {
			checkHosted(child, &p)
		} else {
			checkProject(child, line, &p, before)
		}
		p.Builtin = false
		projects[name] = p
	})
}

// reservedNames are no projects, because paths of ours begin with them.
var reservedNames = map[string]string{
	"v2":      "it begins every request's path",
	"service": "tokens are given out at /service/token",
	"c":       "people sign in at /c/oidc/login",
	"api":     "/api is for Harbor's REST API",
}

// checkHosted looks at what the keys of a project say together that people push to.
func checkHosted(v value, p *Project) {
	for _, f := range proxyFields {
		if line := v.at(f.key); line > 0 {
			v.doc.fault(line, fmt.Sprintf("%s: a hosted project has no upstream, and what is pushed to it stays", f.key), "remove the line, or hosted: true for a proxy")
		}
	}
	public := p.Public && v.at("public") > 0
	*p = Project{Name: p.Name, Hosted: true, Public: public, Redirect: p.Redirect, Quota: p.Quota, Immutable: p.Immutable, Retain: p.Retain}
}

// checkProject looks at what the keys of a project say together. before is how many faults
// there were before this project.
func checkProject(v value, line int, p *Project, before int) {
	remote := &p.Remote
	if v.at("endpoints") == 0 && len(remote.Endpoints) == 0 {
		if !strings.Contains(p.Name, ".") {
			v.doc.fault(line, fmt.Sprintf("project %s has no endpoints", p.Name), `write hosted: true below it for one that people push to, or endpoints: [ "https://…" ] for a proxy`)
			return
		}
		// A registry's own name is where it is, unless something else is said.
		remote.Endpoints = []string{"https://" + p.Name}
	}
	if p.CooldownNew && p.Cooldown == 0 && v.at("cooldown_new") > 0 {
		v.doc.fault(v.at("cooldown_new"), "cooldown_new: there is no cooldown that new tags could wait for", "write cooldown beside it, such as 72h")
	}
	if remote.CAFile != "" && v.at("ca") > 0 {
		v.doc.fault(v.at("ca"), "ca: ca_file is there as well", "remove one of them")
	}
	checkCredentials(v, remote)
	checkClientCertificate(v, remote)
	for _, f := range hostedFields {
		if line := v.at(f.key); line > 0 {
			v.doc.fault(line, fmt.Sprintf("%s: a proxy has what its upstream has, and evicts what nobody uses", f.key), "remove the line, or write hosted: true for a project that people push to")
		}
	}
	if v.at("public") == 0 && remote.credentials() {
		// What somebody has to sign in for at upstream is not for everybody here.
		p.Public = false
	}
	for _, endpoint := range remote.Endpoints {
		line := max(v.at("endpoints"), line)
		if !remote.AllowPrivate && private(endpoint, v.doc.private) {
			v.doc.fault(line, fmt.Sprintf("endpoints: %s is on this machine or in a private network", endpoint), "write allow_private: true beside endpoints if that is meant, or its network into allow_private_networks")
		}
		if remote.Username != "" && !remote.Insecure && strings.HasPrefix(endpoint, "http://") {
			v.doc.fault(line, fmt.Sprintf("endpoints: username and password would go to %s in clear text", endpoint), "write https://, or insecure: true if that is meant")
		}
	}
	if len(p.Names) == 0 {
		p.Names = []string{p.Name}
	}
	if before < len(v.doc.faults) {
		return
	}
	if _, err := upstream.New(upstreamConfig(*p)); err != nil {
		v.doc.fault(cmp.Or(v.at("credential_helper"), line), err.Error(), "correct what it names")
	}
}

// checkCredentials wants a whole set of them or none. Empty values are none, so that they can
// come from an environment that has them or not.
func checkCredentials(v value, remote *Remote) {
	if !v.sound("username", "password", "password_file", "password_secret", "credential_helper") {
		return
	}
	password := remote.Password != "" || remote.PasswordFile != "" || remote.PasswordSecret != ""
	switch {
	case remote.Password != "" && remote.PasswordFile != "":
		v.doc.fault(v.at("password"), "password: password_file is there as well", "remove one of them")
	case remote.PasswordSecret != "" && (remote.Password != "" || remote.PasswordFile != ""):
		v.doc.fault(v.at("password_secret"), "password_secret: there is another password as well", "remove one of them")
	case remote.CredentialHelper != "" && (remote.Username != "" || password):
		v.doc.fault(v.at("credential_helper"), "credential_helper: there is a username or a password as well", "remove either")
	case password && remote.Username == "":
		v.doc.fault(max(v.at("password"), v.at("password_file"), v.at("password_secret")), "password: there is no username", "write username beside it")
	case remote.Username != "" && !password:
		v.doc.fault(v.at("username"), "username: there is no password", "write password or, better, password_file beside it")
	}
	if len(remote.AuthHosts) > 0 && remote.Username == "" && remote.CredentialHelper == "" {
		v.doc.fault(v.at("auth_hosts"), "auth_hosts: there are no credentials that could go there", "write username and password_file, or remove auth_hosts")
	}
	if helper := remote.CredentialHelper; helper != "" {
		if _, err := exec.LookPath("docker-credential-" + helper); err != nil {
			v.doc.fault(v.at("credential_helper"), fmt.Sprintf("credential_helper: there is no program docker-credential-%s in PATH", registry.Clip(helper)), "install it, or write username and password_file")
		}
	}
}

func checkClientCertificate(v value, remote *Remote) {
	if !v.sound("client_certificate", "client_key") {
		return
	}
	switch {
	case v.at("client_certificate") > 0 && v.at("client_key") == 0:
		v.doc.fault(v.at("client_certificate"), "client_certificate: there is no client_key", "write client_key beside it")
	case v.at("client_key") > 0 && v.at("client_certificate") == 0:
		v.doc.fault(v.at("client_key"), "client_key: there is no client_certificate", "write client_certificate beside it")
	case remote.ClientCertificate != "" && remote.ClientKey != "":
		if _, err := readCertificate(TLS{remote.ClientCertificate, remote.ClientKey}); err != nil {
			v.doc.fault(v.at("client_certificate"), fmt.Sprintf("client_certificate: %v", err), "name the PEM files of a certificate and of its own key that this user can read")
		}
	}
}
