// A module of its own, because what wharfie depends on would weigh on every build of the
// house. It follows the dependencies of the module above it; when those move and the go
// command asks for it here, the answer is "go mod tidy" in this folder.
module roadstead/rewrite/internal/wharfie

go 1.26.8

require (
	github.com/google/go-containerregistry v0.22.1
	github.com/opencontainers/go-digest v1.0.0
	github.com/rancher/wharfie v0.7.1
	github.com/sirupsen/logrus v1.10.2
	gopkg.in/yaml.v3 v3.0.1
	roadstead v0.0.0
)

require (
	github.com/bmatcuk/doublestar/v4 v4.10.4 // indirect
	github.com/containerd/stargz-snapshotter/estargz v0.14.3 // indirect
	github.com/distribution/reference v0.6.0 // indirect
	github.com/docker/cli v29.0.4+incompatible // indirect
	github.com/docker/distribution v2.8.3+incompatible // indirect
	github.com/docker/docker-credential-helpers v0.9.12 // indirect
	github.com/klauspost/compress v1.20.1 // indirect
	github.com/kr/pretty v0.3.1 // indirect
	github.com/mitchellh/go-homedir v1.1.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/vbatts/tar-split v0.11.3 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	gopkg.in/yaml.v2 v2.4.0 // indirect
)

replace roadstead => ../../..

// The version that wharfie is built with, not the later one of the module above.
replace github.com/google/go-containerregistry => github.com/google/go-containerregistry v0.20.2
