package clients

import (
	"cmp"
	"fmt"
	"strings"
)

// podman is a file of its own beside registries.conf, which skopeo and buildah read too.
func podman(s Site) ([]File, error) {
	files := []File{{"/etc/containers/registries.conf.d/roadstead.conf", s.registriesConf(), []Note{notePodman, noteDigests}}}
	return append(append(files, s.login("podman")...), s.authority("/etc/containers/certs.d/")...), nil
}

// registriesConf has a table for each registry, or part of one. What a mirror does not have, the
// registry itself is asked for. Of several that fit a name the longest is taken.
func (s Site) registriesConf() string {
	var all []string
	insecure := ""
	if !s.secure() {
		insecure = "insecure = true\n"
	}
	for _, m := range s.mirrors() {
		for _, p := range m.parts {
			from := strings.TrimSuffix(m.host+"/"+p.prefix, "/")
			all = append(all, fmt.Sprintf("[[registry]]\nprefix = %s\nlocation = %s\n[[registry.mirror]]\nlocation = %s\n%s",
				quote(from), quote(from), quote(s.URL.Host+"/"+p.project), insecure))
		}
	}
	if insecure != "" { // for images that are called by its name
		all = append(all, fmt.Sprintf("[[registry]]\nlocation = %s\n%s", quote(s.URL.Host), insecure))
	}
	return strings.Join(all, "\n")
}

// crio reads the same, and signs in by a file that its own configuration names.
func crio(s Site) ([]File, error) {
	files := []File{{"/etc/containers/registries.conf.d/roadstead.conf", s.registriesConf(), []Note{noteCRIO, noteDigests}}}
	if s.signsIn() {
		const auth = "/etc/crio/roadstead-auth.json"
		files = append(files,
			File{"/etc/crio/crio.conf.d/50-roadstead.conf", fmt.Sprintf("[crio.image]\nglobal_auth_file = %s\n", quote(auth)), []Note{noteCRIOAuth}},
			File{auth, s.authFile(), nil})
	}
	files = append(files, s.authority("/etc/containers/certs.d/")...)
	if s.Caches() {
		files = append(files, File{"roadstead-mirrors.yaml", s.mirrorSet("Digest") + "---\n" + s.mirrorSet("Tag"), []Note{noteOpenShift}})
		files = append(files, s.openShift()...)
	}
	return files, nil
}

// openShift is what its nodes need beside the mirror sets, which have no place for it: files below /etc
// are the cluster's own.
func (s Site) openShift() (files []File) {
	const namespace, image = "-n openshift-config", "oc patch image.config.openshift.io/cluster --type=merge -p "
	if s.secure() {
		// The key of a ConfigMap can have no colon.
		key := strings.Replace(s.URL.Host, ":", "..", 1) + "=" + cmp.Or(s.CA, "roadstead-ca.pem")
		files = append(files, File{"", fmt.Sprintf("oc create configmap roadstead-ca --from-file=%s %s\n%s%s\n", shellIfNeeded(key), namespace, image,
			shell(`{"spec":{"additionalTrustedCA":{"name":"roadstead-ca"}}}`)), []Note{noteClusterCA}})
	} else {
		files = append(files, File{"", image + shell(`{"spec":{"registrySources":{"insecureRegistries":[`+quote(s.URL.Host)+`]}}}`) + "\n", []Note{noteClusterPlain}})
	}
	if s.signsIn() {
		name, password := s.account()
		files = append(files, File{"", fmt.Sprintf("oc extract secret/pull-secret %s --keys=.dockerconfigjson --to=- > pull-secret.json\n", namespace) +
			fmt.Sprintf("oc registry login --registry=%s --auth-basic=%s --to=pull-secret.json\n", s.URL.Host, shell(name+":"+password)) +
			fmt.Sprintf("oc set data secret/pull-secret %s --from-file=.dockerconfigjson=pull-secret.json\n", namespace), []Note{noteClusterAuth}})
	}
	return files
}

// mirrorSet is an ImageDigestMirrorSet, which is asked for images that are named by digest, or an
// ImageTagMirrorSet, which is asked for the others.
func (s Site) mirrorSet(of string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: config.openshift.io/v1\nkind: Image%sMirrorSet\nmetadata:\n  name: roadstead\nspec:\n  image%sMirrors:\n", of, of)
	for _, m := range s.mirrors() {
		for _, p := range m.parts {
			fmt.Fprintf(&b, "  - source: %s\n    mirrors: [ %s ]\n", quote(strings.TrimSuffix(m.host+"/"+p.prefix, "/")), quote(s.URL.Host+"/"+p.project))
		}
	}
	return b.String()
}
