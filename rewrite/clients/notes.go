package clients

// Note is the key of something to know of a file, which may be said in any language.
type Note string

const (
	noteBuildkit     Note = "buildkit"
	noteCA           Note = "ca"
	noteContainerd   Note = "containerd"
	noteSecret       Note = "containerd.auth"
	noteHosts        Note = "containerd.hosts"
	noteDefault      Note = "containerd.wildcard"
	noteCRIO         Note = "crio"
	noteCRIOAuth     Note = "crio.auth"
	noteOpenShift    Note = "crio.openshift"
	noteClusterAuth  Note = "crio.openshift.auth"
	noteClusterCA    Note = "crio.openshift.ca"
	noteClusterPlain Note = "crio.openshift.plain"
	noteDigests      Note = "digests"
	noteDocker       Note = "docker"
	noteDirect       Note = "docker.direct"
	noteDockerPath   Note = "docker.path"
	noteDockerLogin  Note = "docker.private"
	noteKaniko       Note = "kaniko"
	noteKanikoAuth   Note = "kaniko.auth"
	noteKanikoOld    Note = "kaniko.old"
	noteLogin        Note = "login"
	noteParts        Note = "parts"
	notePodman       Note = "podman"
	noteRKE2         Note = "rke2"
	noteConfigs      Note = "rke2.configs"
	noteWildcard     Note = "wildcard"
	noteSystem       Note = "system"
	noteSystemPath   Note = "system.path"
	noteTalos        Note = "talos"
	noteTalosCA      Note = "talos.ca"
	noteWildcardOnly Note = "wildcard.parts"
)

var english = map[Note]string{
	noteBuildkit:     "Hand it to a builder with: docker buildx create --config buildkitd.toml",
	noteCA:           "If the certificate of this server is from an authority of your own.",
	noteContainerd:   "Once on every node, in what is there already. The files below are read at each pull.",
	noteSecret:       "For images that are called by this server’s name: in each namespace; then name it as imagePullSecrets of the pods or of their service account. A mirror of another registry does not get it, as the kubelet looks for a secret of the registry that the image names: that is what the header in hosts.toml is for.",
	noteHosts:        "With whom to sign in as, for everybody on the node.",
	noteDefault:      "For every registry that has no file of its own beside it: containerd says which one it means by ?ns=.",
	noteCRIO:         "On every node; then: systemctl reload crio",
	noteCRIOAuth:     "CRI-O signs in at mirrors as this file says; the credentials of pods are for the registry that their images name.",
	noteOpenShift:    "On OpenShift, instead of the files: oc apply -f, which restarts the nodes one after the other.",
	noteClusterAuth:  "Mirrors get the credentials of the pull secret of the whole cluster, and none of a namespace or a pod.",
	noteClusterCA:    "If the certificate of this server is from an authority of your own. Where the cluster trusts others already, add this one to their ConfigMap instead.",
	noteClusterPlain: "This server is reached without TLS. Write all that are in the list already beside it: it is replaced.",
	noteDigests:      "With mirror-by-digest-only = true in a [[registry]], only images that are named by digest come from here: what a tag means is then for the registry itself to say.",
	noteDocker:       "A mirror of Docker Hub, which is all that Docker can have. Merge it into the file that is there, and restart the daemon.",
	noteDirect:       "Any project works by its name.",
	noteDockerPath:   "A mirror with a path needs Docker 25 or later.",
	noteDockerLogin:  "Docker signs in at a mirror as it does at Docker Hub, which does not open a private project. Name its images as below, or make it public.",
	noteKaniko:       "Arguments of the executor, since version 1.21.",
	noteKanikoAuth:   "As a secret that is mounted there.",
	noteKanikoOld:    "For older versions, which have a mirror of Docker Hub only.",
	noteLogin:        "The robot that signs in, whose secret is asked for. Or your own name.",
	noteParts:        "Projects that are a cache of a part of a registry are left out: this client has no rules for parts.",
	notePodman:       "For podman, CRI-O and skopeo alike.",
	noteRKE2:         "On every node; for K3s it is /etc/rancher/k3s/registries.yaml. Restart the agent afterwards.",
	noteConfigs:      "Below configs is whom to sign in as where a project is not for everybody, and the authority of this server’s certificate if it is one of your own.",
	noteWildcard:     "One rule for all registries: clients say which one they mean by ?ns=. A registry that no project stands for is asked itself. An image whose name begins with that of a project here comes from that project, whichever registry it names.",
	noteSystem:       "On servers and agents, before the first start; for K3s it is below /etc/rancher/k3s. RKE2’s own images are then called by this server’s name.",
	noteSystemPath:   "A registry with a path needs a recent RKE2 (its pull request 9404). Without the path, any version will do if default_project is the project of Docker Hub.",
	noteTalos:        "A patch of the machine configuration: talosctl patch machineconfig --patch @roadstead-talos.yaml",
	noteTalosCA:      "Talos wants the certificate itself, in base64, and not the name of a file.",
	noteWildcardOnly: "Registries that are here in part have a rule of their own.",
}

// English says what to know.
func (n Note) English() string { return english[n] }

// Notes are all there are.
func Notes() map[Note]string { return english }
