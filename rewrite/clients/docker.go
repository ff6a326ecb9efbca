package clients

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// docker knows mirrors of Docker Hub only, and asks them without a project: that is the default one,
// or else a path says it.
func docker(s Site) ([]File, error) {
	notes := []Note{noteDocker}
	daemon := struct {
		Mirrors  []string `json:"registry-mirrors,omitempty"`
		Insecure []string `json:"insecure-registries,omitempty"`
	}{}
	if hub := s.hub(); hub != "" {
		mirror := s.URL.String()
		if s.Default != hub {
			mirror += "/" + hub
			notes = append(notes, noteDockerPath)
		}
		daemon.Mirrors = []string{mirror}
		for _, p := range s.Projects {
			if p.Name == hub && p.Private {
				notes = append(notes, noteDockerLogin)
			}
		}
	}
	if !s.secure() {
		daemon.Insecure = []string{s.URL.Host}
	}
	var files []File
	if len(daemon.Mirrors)+len(daemon.Insecure) > 0 {
		files = append(files, File{"/etc/docker/daemon.json", lists(daemon), notes})
	}
	var b strings.Builder
	for _, p := range s.Projects {
		if p.Hosted {
			continue
		}
		name := "NAME:TAG"
		if p.Name == s.hub() {
			name = "library/busybox"
		}
		fmt.Fprintf(&b, "docker pull %s/%s/%s\n", s.URL.Host, p.Name, name)
	}
	if b.Len() > 0 {
		files = append(files, File{"", b.String(), []Note{noteDirect}})
	}
	return append(append(files, s.login("docker")...), s.authority("/etc/docker/certs.d/")...), nil
}

// lists writes JSON whose values are lists, each on a line of its own, as people do.
func lists(v any) string {
	text, _ := json.MarshalIndent(v, "", "  ") // strings always can be
	s := strings.NewReplacer("[\n    ", "[ ", "\n  ]", " ]", ",\n    ", ", ").Replace(string(text))
	return s + "\n"
}

// buildkit is the configuration of a builder. Where the project is is a path after the host.
func buildkit(s Site) ([]File, error) {
	var b strings.Builder
	for _, m := range s.wholes() {
		fmt.Fprintf(&b, "[registry.%s]\n  mirrors = [ %s ]\n", quote(m.host), quote(s.URL.Host+"/"+m.whole()))
	}
	f := File{Path: "/etc/buildkit/buildkitd.toml", Notes: s.notes(noteBuildkit)}
	self := fmt.Sprintf("[registry.%s]\n  ", quote(s.URL.Host))
	switch {
	case !s.secure():
		self += "http = true\n"
	case s.CA != "":
		self += fmt.Sprintf("ca = [ %s ]\n", quote(s.CA))
	default:
		self = comment(self + fmt.Sprintf("ca = [ %s ]\n", quote(someCA)))
		f.Notes = append(f.Notes, noteCA)
	}
	f.Text = b.String() + self
	return append([]File{f}, s.login("docker")...), nil
}

// kaniko takes all of it as arguments. It calls Docker Hub by another name than the rest of the world.
func kaniko(s Site) ([]File, error) {
	var maps, old []string
	for _, m := range s.wholes() {
		host := m.host
		if host == dockerHub {
			host = "index.docker.io"
			old = append(old, fmt.Sprintf("--registry-mirror=%s/%s\n", s.URL.Host, m.whole()))
		}
		maps = append(maps, fmt.Sprintf("%s=%s/%s", host, s.URL.Host, m.whole()))
	}
	self := ""
	switch {
	case !s.secure():
		self = fmt.Sprintf("--insecure-registry=%s\n", s.URL.Host)
	case s.CA != "":
		self = fmt.Sprintf("--registry-certificate=%s\n", shellIfNeeded(s.URL.Host+"="+s.CA))
	}
	var files []File
	if len(maps) > 0 {
		text := fmt.Sprintf("--registry-map=%s\n%s", shell(strings.Join(maps, ";")), self)
		files = append(files, File{"", text, s.notes(noteKaniko)})
	}
	if len(old) > 0 {
		files = append(files, File{"", strings.Join(old, "") + self, []Note{noteKanikoOld}})
	}
	if s.signsIn() {
		files = append(files, File{"/kaniko/.docker/config.json", s.authFile(), []Note{noteKanikoAuth}})
	}
	return files, nil
}

// shellIfNeeded quotes what a shell would read as more than a word.
func shellIfNeeded(text string) string {
	if strings.ContainsAny(text, " \t'\"\\$`;&|<>()*?[]#~!{}") {
		return shell(text)
	}
	return text
}

// authFile is whom to sign in as in the form of Docker's config.json.
func (s Site) authFile() string {
	name, password := s.account()
	auth := base64.StdEncoding.EncodeToString([]byte(name + ":" + password))
	if s.Password == "" {
		auth = "base64 of " + name + ":" + password
	}
	return fmt.Sprintf("{\n  \"auths\": {\n    %s: { \"auth\": %s }\n  }\n}\n", quote(s.URL.Host), quote(auth))
}

// login is how a client of people signs in, where not everything is for everybody.
func (s Site) login(client string) []File {
	if !s.signsIn() {
		return nil
	}
	name, _ := s.account()
	return []File{{"", fmt.Sprintf("%s login %s -u %s\n", client, s.URL.Host, shell(name)), []Note{noteLogin}}}
}

// authority is where clients look for the authorities of a registry.
func (s Site) authority(dir string) []File {
	if !s.secure() {
		return nil
	}
	dir += s.URL.Host
	from := "roadstead-ca.pem"
	if s.CA != "" {
		from = s.CA
	}
	return []File{{"", fmt.Sprintf("mkdir -p %s\ncp %s %s/ca.crt\n", dir, shellIfNeeded(from), dir), []Note{noteCA}}}
}
