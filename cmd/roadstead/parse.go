package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"roadstead/registry"
	"roadstead/registry/estate"
)

// places are where the configuration is looked for when no --config is given.
var places = []string{"roadstead.yaml", "/etc/roadstead/roadstead.yaml"}

// loadConfig reads the configuration file, or the first of places that exists, or, when there
// is none, returns the defaults. The error is about the file as a whole, the faults are about
// what is in it; with either of them the configuration is of no use.
func loadConfig(path string) (Config, []Fault, error) {
	for _, place := range places {
		if path != "" {
			break
		}
		if _, err := os.Stat(place); err == nil {
			path = place
		}
	}
	if path == "" {
		c, faults := parseConfig("", nil, os.LookupEnv)
		return c, faults, nil
	}
	b, err := readSmall(path)
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, nil, fmt.Errorf("no configuration file at %s: name another with --config, or leave --config out to look for %s", path, strings.Join(places, " and "))
	}
	if err != nil {
		return Config{}, nil, fmt.Errorf("read the configuration: %w", err)
	}
	c, faults := parseConfig(path, b, os.LookupEnv)
	return c, faults, nil
}

// parseConfig reads the text of a configuration file. It returns every fault there is, in the
// order of the file. path is for messages and for what relative paths start from; env is
// os.LookupEnv.
func parseConfig(path string, text []byte, env func(string) (string, bool)) (Config, []Fault) {
	doc := &document{file: path, dir: filepath.Dir(path), env: env, faulty: map[string]bool{}, lines: map[string]int{}}
	f := file{Config: defaults(), builtin: true, projects: map[string]Project{}}
	f.File = path
	root, fault := parseYAML(path, text)
	if fault != nil {
		return Config{}, []Fault{*fault}
	}
	v := value{doc: doc, node: root}
	readMapping(v, fileFields, &f)
	f.finish(v)
	return f.Config, doc.sorted()
}

// file is a configuration while it is being read.
type file struct {
	Config
	builtin  bool
	projects map[string]Project
	below    []value // the values of "projects", read when it is known what they merge over
}

var fileFields = []field[file]{
	{"listen", func(v value, f *file) { v.setAddress(&f.Listen) }},
	{"admin", func(v value, f *file) {
		if v.node.Kind == yaml.ScalarNode && v.node.Value == "" && !isNull(v.node) {
			f.Admin = ""
			return
		}
		v.setAddress(&f.Admin)
	}},
	{"tls", func(v value, f *file) { readMapping(v, tlsFields, &f.TLS) }},
	{"url", func(v value, f *file) { v.setOwnURL(&f.URL) }},
	{"offline", func(v value, f *file) { v.setBool(&f.Offline) }},
	{"admin_password_file", func(v value, f *file) { v.setSecretFile(&f.AdminPassword) }},
	{"oidc", func(v value, f *file) { readMapping(v, oidcFields, &f.OIDC) }},
	{"project_creation", func(v value, f *file) {
		if text, ok := v.oneOf(estate.Creators{Anyone: true}.String(), estate.Creators{}.String()); ok {
			f.Creators = text
		}
	}},
	{"storage", func(v value, f *file) { readMapping(v, storageFields, &f.Storage) }},
	{"cluster", func(v value, f *file) { readMapping(v, clusterFields, &f.Cluster) }},
	{"uploads", func(v value, f *file) { readMapping(v, uploadsFields, &f.Uploads) }},
	{"collect", func(v value, f *file) { readMapping(v, collectFields, &f.Collect) }},
	{"warm", readPlans},
	{"audit", func(v value, f *file) { readMapping(v, auditFields, &f.Audit) }},
	{"memory", func(v value, f *file) {
		v.setSize(&f.Memory)
		f.Memory = max(f.Memory, 1) // the cache takes zero for its own default
	}},
	{"drain", func(v value, f *file) { v.setDuration(&f.Drain) }},
	{"log", func(v value, f *file) { readMapping(v, logFields, &f.Log) }},
	{"allow_private_networks", func(v value, f *file) { v.setNetworks(&f.PrivateNetworks) }},
	{"default_project", func(v value, f *file) { v.setText(&f.DefaultProject) }},
	{"hosts", readHosts},
	{"builtin_projects", func(v value, f *file) { v.setBool(&f.builtin) }},
	{"projects", func(v value, f *file) { f.below = append(f.below, v) }},
}

var tlsFields = []field[TLS]{
	{"certificate", func(v value, t *TLS) { v.setPath(&t.Certificate) }},
	{"key", func(v value, t *TLS) { v.setPath(&t.Key) }},
}

var storageFields = []field[Storage]{
	{"directory", func(v value, s *Storage) { v.setPath(&s.Directory) }},
	{"s3", readS3},
	{"hot", func(v value, s *Storage) { readMapping(v, hotFields, &s.Hot) }},
	{"max_size", func(v value, s *Storage) { v.setMaxSize(s) }},
	{"floor", func(v value, s *Storage) {
		if v.setSize(&s.Floor); s.Floor == 0 && v.doc.lines[v.path] > 0 {
			s.Floor = -1
		}
	}},
	{"catalog", func(v value, s *Storage) { v.setCatalog(&s.Catalog) }},
	{"catalog_password_file", func(v value, s *Storage) { v.setSecretFile(&s.CatalogPassword) }},
}

var uploadsFields = []field[Uploads]{
	{"max", func(v value, u *Uploads) { v.setSize(&u.Max) }},
	{"max_project", func(v value, u *Uploads) { v.setSize(&u.MaxProject) }},
	{"max_node", func(v value, u *Uploads) { v.setSize(&u.MaxNode) }},
	{"idle", func(v value, u *Uploads) {
		v.setDuration(&u.Idle)
		if u.Idle == 0 {
			v.fault("no upload could ever be gone on with", "write how long one may rest, such as 24h")
		}
	}},
}

var collectFields = []field[Collect]{
	{"grace", func(v value, c *Collect) {
		v.setDuration(&c.Grace)
		if c.Grace == 0 {
			v.fault("what is pushed before its manifest would go at once", "write how long it may wait for it, such as 24h")
		}
	}},
	{"every", func(v value, c *Collect) { v.setDuration(&c.Every) }},
}

var auditFields = []field[AuditLog]{
	{"keep", func(v value, a *AuditLog) { v.setDuration(&a.Keep) }},
}

var logFields = []field[Log]{
	{"level", func(v value, l *Log) {
		levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
		if text, ok := v.oneOf("debug", "info", "warn", "error"); ok {
			l.Level = levels[text]
		}
	}},
	{"format", func(v value, l *Log) {
		if text, ok := v.oneOf("text", "json"); ok {
			l.JSON = text == "json"
		}
	}},
}

func (v value) setPath(path *string) {
	text, ok := v.text()
	if ok && text == "" {
		v.fault("the path is empty", "write one, or remove the line")
		return
	}
	if ok {
		*path = v.doc.path(text)
	}
}

func readHosts(v value, f *file) {
	f.Hosts = map[string]string{}
	v.pairs(func(name string, line int, child value) {
		folded := foldHost(name)
		switch _, twice := f.Hosts[folded]; {
		case !host.MatchString(folded):
			v.doc.fault(line, fmt.Sprintf("%q is not a host", registry.Clip(name)), `write the name that clients use, such as "quay.mirror.example"`)
			return
		case twice:
			v.doc.fault(line, fmt.Sprintf("%q is the same as %q above", registry.Clip(name), folded), "remove one of them")
			return
		}
		if project, ok := child.text(); ok {
			f.Hosts[folded] = project
			v.doc.lines["/hosts/"+folded] = line
		}
	})
}

// finish merges the projects and looks at what parts of the file say of each other.
func (f *file) finish(v value) {
	if f.builtin {
		for _, b := range builtin {
			p, _ := builtinProject(b.name)
			p.Names, p.Builtin = []string{p.Name}, true
			f.projects[p.Name] = p
		}
	}
	v.doc.private = f.PrivateNetworks
	for _, below := range f.below {
		readProjects(below, f.projects)
	}
	names := slices.Sorted(maps.Keys(f.projects))
	for _, name := range names {
		p := f.projects[name]
		p.Remote.Offline = f.Offline && !p.Hosted
		f.Projects = append(f.Projects, p)
	}
	f.checkAdminPassword(v)
	f.checkStorage(v)
	f.checkCatalogPassword(v)
	f.checkCluster(v)
	f.checkOIDC(v)
	f.checkNames(v)
	f.checkReferences(v, names)
	f.checkCertificate(v)
	if sameAddress(f.Listen, f.Admin) {
		v.doc.fault(cmp.Or(v.at("admin"), v.at("listen")), fmt.Sprintf("admin: %s is taken by listen, %s", f.Admin, f.Listen), `write another port, or "" for no metrics and health`)
	}
}

// adminPassword is the variable that holds the first password of the first user; see
// [document.secret] for what names a file that has it.
const adminPassword = "ROADSTEAD_ADMIN_PASSWORD"

func (f *file) checkAdminPassword(v value) {
	fromEnv, name := v.doc.secret(adminPassword)
	if fromEnv == "" {
		return
	}
	if line := v.at("admin_password_file"); line > 0 {
		v.doc.fault(line, "admin_password_file: the environment has "+name+" as well", "remove one of them")
		return
	}
	f.AdminPassword = fromEnv
}

// catalogPassword is the variable that holds the password of the catalog's database.
const catalogPassword = "ROADSTEAD_CATALOG_PASSWORD"

func (f *file) checkCatalogPassword(v value) {
	storage := value{doc: v.doc, node: v.node, path: "/storage"}
	line := storage.at("catalog_password_file")
	if line > 0 && storage.at("catalog") == 0 {
		v.doc.fault(line, "catalog_password_file: there is no catalog that it is for", "write catalog beside it, or remove the line")
		return
	}
	if f.Storage.Catalog == "" {
		return
	}
	fromEnv, name := v.doc.secret(catalogPassword)
	switch {
	case fromEnv == "":
	case line > 0:
		v.doc.fault(line, "catalog_password_file: the environment has "+name+" as well", "remove one of them")
	default:
		f.Storage.CatalogPassword = fromEnv
	}
}

// checkReferences looks for projects that are named and not there.
func (f *file) checkReferences(v value, names []string) {
	if !slices.Contains(names, f.DefaultProject) && f.DefaultProject != "" {
		if line := v.at("default_project"); line > 0 {
			v.doc.fault(line, fmt.Sprintf("default_project: there is no project %q", registry.Clip(f.DefaultProject)), suggest(f.DefaultProject, names))
		}
		f.DefaultProject = "" // the default of the default is for whoever has Docker Hub
	}
	for _, name := range slices.Sorted(maps.Keys(f.Hosts)) {
		if project := f.Hosts[name]; !slices.Contains(names, project) {
			v.doc.fault(v.doc.lines["/hosts/"+name], fmt.Sprintf("%s: there is no project %q", name, registry.Clip(project)), suggest(project, names))
		}
	}
}

// checkNames looks for two projects that the same ?ns= would mean.
func (f *file) checkNames(v value) {
	owner := map[string]string{}
	for _, p := range f.Projects {
		for _, name := range p.Names {
			name = sameName(name)
			other, taken := owner[name]
			owner[name] = p.Name
			if !taken || other == p.Name {
				continue
			}
			// One of the two is in the file, or they would be built-in and differ.
			line := 0
			for _, project := range []string{p.Name, other} {
				at := "/projects/" + project
				line = cmp.Or(line, v.doc.lines[at+"/names"], v.doc.lines[at])
			}
			v.doc.fault(line, fmt.Sprintf("names: %q means both %s and %s", name, other, p.Name), "write other names for one of them")
		}
	}
}

// sameName folds the spellings of one host in ?ns=.
func sameName(name string) string {
	switch name = foldHost(name); name {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return name
}

func foldHost(name string) string { return strings.TrimSuffix(strings.ToLower(name), ":443") }

func (f *file) checkCertificate(v value) {
	t, line := f.TLS, v.at("tls")
	switch {
	case t.Certificate == "" && t.Key == "":
		return
	case t.Key == "":
		v.doc.fault(line, "tls: there is no key", "write key beside certificate")
	case t.Certificate == "":
		v.doc.fault(line, "tls: there is no certificate", "write certificate beside key")
	default:
		if _, err := readCertificate(t); err != nil {
			v.doc.fault(line, fmt.Sprintf("tls: %v", err), "name the PEM files of a certificate and of its own key that this user can read")
		}
	}
}

// parseYAML returns the mapping at the top of the text.
func parseYAML(path string, text []byte) (*yaml.Node, *Fault) {
	empty := &yaml.Node{Kind: yaml.MappingNode}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 1 && isNull(doc.Content[0]) {
		return empty, nil
	}
	if err != nil {
		return nil, syntaxFault(path, err)
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, syntaxFault(path, err)
	default:
		return nil, &Fault{path, second.Line, "a second document begins here", "remove the line with --- and what follows it, or merge the two"}
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, &Fault{path, max(doc.Line, 1), "it is not a mapping", `write "key: value" lines, such as "listen: :5000"`}
	}
	return doc.Content[0], nil
}

// yamlError matches the text of the parser's errors. It has no type for them.
var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func syntaxFault(path string, err error) *Fault {
	f := &Fault{File: path, What: err.Error(), Instead: "look at the indentation, the colons and the quotes of that line and the one before"}
	if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
		f.What = "it is not YAML: " + m[2]
	}
	return f
}
