package clients

import (
	"encoding/base64"
	"fmt"
	"strings"
)

const certsFolder = "/etc/containerd/certs.d/"

// containerd is one hosts.toml for each registry, with the project in its path, or one for all, which
// says by ?ns= which one is meant.
func containerd(s Site) ([]File, error) {
	config := "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n" +
		comment("in a file of containerd 2 that begins with version = 3, instead of these three lines:\n[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n")
	files := []File{{"/etc/containerd/config.toml", config, s.notes(noteContainerd)}}
	hosts := func(name, server, path, can string, notes ...Note) {
		var b strings.Builder
		if server != "" {
			fmt.Fprintf(&b, "server = %s\n\n", quote(server))
		}
		at := quote(s.URL.String() + path)
		fmt.Fprintf(&b, "[host.%s]\n  capabilities = [%s]\n", at, can)
		if path != "" {
			b.WriteString("  override_path = true\n")
		}
		switch {
		case s.secure() && s.CA != "":
			fmt.Fprintf(&b, "  ca = %s\n", quote(s.CA))
		case s.secure():
			fmt.Fprintf(&b, "  # ca = %s\n", quote(someCA))
		}
		// Not the secret of a pod: the kubelet looks that up by the registry in an image's name.
		user, password := s.account()
		header := func(basic string) string {
			return fmt.Sprintf("  [host.%s.header]\n    Authorization = %s\n", at, quote("Basic "+basic))
		}
		switch {
		case s.Password != "":
			b.WriteString(header(base64.StdEncoding.EncodeToString([]byte(user + ":" + password))))
			notes = append(notes, noteHosts)
		case s.signsIn():
			b.WriteString(comment(header("base64 of " + user + ":" + password)))
			notes = append(notes, noteHosts)
		}
		files = append(files, File{certsFolder + name + "/hosts.toml", b.String(), notes})
	}
	const pulls = `"pull", "resolve"`
	if s.Wildcard {
		hosts("_default", "", "", pulls, noteDefault, noteWildcard)
	} else {
		for _, m := range s.wholes() {
			server := "https://" + m.host
			if m.host == dockerHub {
				server = "https://registry-1.docker.io"
			}
			hosts(m.host, server, "/v2/"+m.whole(), pulls)
		}
		if !s.secure() || s.CA != "" {
			hosts(s.URL.Host, s.URL.String(), "", pulls+`, "push"`) // for images that are called by its name
		}
	}
	if name, password := s.account(); s.signsIn() && s.Password == "" {
		text := fmt.Sprintf("kubectl create secret docker-registry roadstead --docker-server=%s --docker-username=%s --docker-password=%s\n", s.URL.Host, shell(name), shell(password))
		files = append(files, File{"", text, []Note{noteSecret}})
	}
	return files, nil
}

// talos is a patch of a machine's configuration, from which it writes the hosts.toml of its
// containerd.
func talos(s Site) ([]File, error) {
	f := File{Path: "roadstead-talos.yaml", Notes: s.notes(noteTalos)}
	var b strings.Builder
	entry := func(host, path string) {
		fmt.Fprintf(&b, "      %s:\n        endpoints: [ %s ]\n", quote(host), quote(s.URL.String()+path))
		if path != "" {
			b.WriteString("        overridePath: true\n")
		}
	}
	if s.Wildcard {
		entry("*", "")
		f.Notes = append(f.Notes, noteWildcard)
	} else {
		for _, m := range s.wholes() {
			entry(m.host, "/v2/"+m.whole())
		}
		if !s.secure() {
			entry(s.URL.Host, "") // for images that are called by its name
		}
	}
	f.Text = "machine:\n  registries:\n"
	if b.Len() > 0 {
		f.Text += "    mirrors:\n" + b.String()
	}
	name, password := s.account()
	head := fmt.Sprintf("    config:\n      %s:\n", quote(s.URL.Host))
	auth := fmt.Sprintf("        auth:\n          username: %s\n          password: %s\n", quote(name), quote(password))
	tls := "        tls:\n          ca: "
	if s.PEM != "" {
		tls += base64.StdEncoding.EncodeToString([]byte(s.PEM)) + "\n"
	} else {
		tls = comment(tls + "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t…\n")
	}
	if !s.signsIn() {
		auth = ""
	}
	switch {
	case !s.secure() && auth == "":
	case !s.secure():
		f.Text += head + auth
	case auth == "" && s.PEM == "":
		f.Text += comment(head) + tls
	default:
		f.Text += head + auth + tls
	}
	if s.secure() {
		f.Notes = append(f.Notes, noteTalosCA)
	}
	return []File{f}, nil
}
