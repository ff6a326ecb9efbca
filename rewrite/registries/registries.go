// Package registries reads the registries.yaml of K3s and RKE2 and says what it comes to.
//
// Here lives what a node makes of the file: the hosts.toml that its containerd obeys ([File.HostsTOML]),
// which endpoint is asked for what by containerd and by wharfie, RKE2's bootstrap puller ([Steps]), and
// what in it will not do what was meant ([Lint]). What a single rewrite rule does to a name is known to
// package rewrite.
//
// As there, everything is a pure function of what it is given: no file is opened and nothing dialled.
package registries

import "roadstead/rewrite"

// File is a registries.yaml, with the line of everything in it. It has what the nodes see in the file
// and nothing of what they overlook.
type File struct {
	Mirrors []Mirror // in the order of the file
	Configs []Config

	// NoDefault is the setting disable-default-registry-endpoint of the nodes. It is not in the file.
	NoDefault bool

	findings []Finding // of what is overlooked, or keeps a node from starting
}

// Mirror says where the images of one registry are looked for first.
type Mirror struct {
	Host      string // of the images, as their names have it; "*": of all that have no mirror of their own
	Line      int
	Endpoints []Endpoint // asked in this order
	Rewrites  []Rewrite  // in the order of the file, which the nodes do not keep
}

// Endpoint is a registry that is asked.
type Endpoint struct {
	Text string // a URL, with or without a scheme
	Line int
}

// Rewrite is a rule as it stands in the file, where wharfie reads it. What containerd gets to see of
// it has gone through hosts.toml.
type Rewrite struct {
	rewrite.Rule
	Line        int // of the pattern
	ReplaceLine int
}

// Config is how one registry, the endpoint of a mirror or not, is spoken to.
type Config struct {
	Host string // of the endpoint, with its port; "*": of all that have no config of their own
	Line int
	Auth *Auth // nil: there is none
	TLS  *TLS
}

// Auth is who the node is at a registry.
type Auth struct {
	Line                                    int
	Username, Password, Auth, IdentityToken string

	odd bool // it has keys that it cannot have, which tells more than what is missing
}

// given reports whether there is anything to log in with.
func (a *Auth) given() bool {
	return a != nil && (a.Username != "" || a.Password != "" || a.Auth != "" || a.IdentityToken != "")
}

// TLS is how a registry proves who it is, and the node to it.
type TLS struct {
	Line                      int
	CAFile, CertFile, KeyFile string
	SkipVerify                bool
}

// mirror returns the mirror of a host, nil when there is none.
func (f *File) mirror(host string) *Mirror {
	for i := range f.Mirrors {
		if f.Mirrors[i].Host == host {
			return &f.Mirrors[i]
		}
	}
	return nil
}

// config returns the config of a host, nil when there is none.
func (f *File) config(host string) *Config {
	for i := range f.Configs {
		if f.Configs[i].Host == host {
			return &f.Configs[i]
		}
	}
	return nil
}
