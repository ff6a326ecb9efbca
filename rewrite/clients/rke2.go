package clients

import (
	"fmt"
	"slices"
	"strings"
)

const rke2File = "/etc/rancher/rke2/registries.yaml"

// rke2 is registries.yaml, which RKE2 and K3s read. Its rules are in the form that both of their
// pullers understand, the forked containerd and wharfie.
func rke2(s Site) ([]File, error) {
	f := File{Path: rke2File, Notes: []Note{noteRKE2}}
	var b strings.Builder
	entry := func(host string, parts []part) {
		fmt.Fprintf(&b, "  %s:\n    endpoint: [ %s ]\n", quote(host), quote(s.URL.String()))
		for i, p := range parts {
			if i == 0 {
				b.WriteString("    rewrite:\n")
			}
			fmt.Fprintf(&b, "      %s: %s\n", quote(p.pattern()), quote(p.project+"/$1"))
		}
	}
	for _, m := range s.mirrors() {
		if !s.Wildcard || m.whole() == "" {
			entry(m.host, m.parts)
		}
	}
	if s.Wildcard {
		f.Notes = append(f.Notes, noteWildcard)
		if b.Len() > 0 {
			f.Notes = append(f.Notes, noteWildcardOnly)
		}
		entry("*", nil)
	} else if !s.secure() {
		entry(s.URL.Host, nil) // for images that are called by its name, which are asked for by TLS else
	}
	if b.Len() > 0 {
		f.Text = "mirrors:\n"
	}
	f.Text += b.String()
	if configs := s.configs(); configs != "" {
		f.Text += configs
		f.Notes = append(f.Notes, noteConfigs)
	}
	return []File{f}, nil
}

// configs are whom to sign in as and the authority, as a comment what only some need: an authority
// that is named and is not there fails every pull.
func (s Site) configs() string {
	name, password := s.account()
	auth := fmt.Sprintf("    auth:\n      username: %s\n      password: %s\n", quote(name), quote(password))
	tls := fmt.Sprintf("    tls:\n      ca_file: %s\n", quote(s.CA))
	if s.CA == "" {
		tls = fmt.Sprintf("    tls:\n      ca_file: %s\n", quote(someCA))
	}
	if !s.secure() {
		tls = ""
	}
	head := fmt.Sprintf("configs:\n  %s:\n", quote(s.URL.Host))
	switch {
	case !s.signsIn() && tls == "":
		return ""
	case !s.signsIn() && s.CA == "":
		return comment(head + tls)
	case !s.signsIn():
		return head + tls
	case s.CA == "":
		return head + auth + comment(tls)
	}
	return head + auth + tls
}

// systemDefault has RKE2's own images come from here. Where names without a project belong to the
// project of Docker Hub, no path is needed, which every version understands.
func systemDefault(s Site) ([]File, error) {
	hub := s.hub()
	if hub == "" {
		return nil, fmt.Errorf("no project here stands for docker.io, where the images of RKE2 and K3s are; make one first")
	}
	f := File{Path: "/etc/rancher/rke2/config.yaml.d/roadstead.yaml", Notes: []Note{noteSystem}}
	host := s.URL.Host
	hidden := slices.ContainsFunc(s.Projects, func(p Project) bool { return p.Name == "rancher" })
	if s.Default != hub || hidden {
		host += "/" + hub
		f.Notes = append(f.Notes, noteSystemPath)
	}
	f.Text = fmt.Sprintf("system-default-registry: %s\n", quote(host))
	files := []File{f}
	if !s.secure() || s.CA != "" || s.signsIn() {
		more, err := rke2(s)
		return append(files, more...), err
	}
	return files, nil
}
