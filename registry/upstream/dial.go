package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// connectTimeout bounds a connection attempt over all addresses of a name, and the TLS
// handshake after it. A registry that takes longer will not answer in time anyway.
const connectTimeout = 5 * time.Second

// errPrivate is a connection that the address policy refuses.
var errPrivate = errors.New("the address is not public, this upstream has no allow_private, and allow_private_networks has no network of it")

// errOffline is a connection that nobody makes, to whatever.
var errOffline = errors.New("this server is offline")

// errMetadata is a connection that every policy refuses.
var errMetadata = errors.New("the address is that of a cloud's metadata service, which is no registry")

// dialer makes connections and enforces the address policy on each, after the name has become
// an address: whatever URL, redirect or token service led there, and however often a name
// changes its mind (FAULTS A8).
type dialer struct {
	net.Dialer
	refuses func(netip.Addr) bool
	offline bool // it makes none, whoever asks
}

func newDialer(resolver *net.Resolver, allowPrivate bool, networks []netip.Prefix) *dialer {
	d := &dialer{Dialer: net.Dialer{Timeout: connectTimeout, Resolver: resolver}}
	d.refuses = func(a netip.Addr) bool {
		plain := a.Unmap().WithZone("")
		return private(a) && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(plain) })
	}
	if allowPrivate {
		d.refuses = func(netip.Addr) bool { return false }
	}
	d.ControlContext = d.control
	return d
}

// dial wraps its errors, so that a connection that was never made can be told from one that
// broke.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.offline {
		return nil, &dialError{errOffline}
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	return conn, nil
}

type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (d *dialer) control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	// The operator chose the proxy; it may be anywhere. All connections of a request that goes
	// through it are made to it.
	if proxyOf(ctx) != nil {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	return d.judge(at.Addr())
}

// judge says why there is no connection to an address, or nil.
func (d *dialer) judge(a netip.Addr) error {
	switch {
	case metadata(a):
		return errMetadata
	case d.refuses(a):
		return errPrivate
	}
	return nil
}

// behindProxy applies the policy to a URL whose host somebody else will look up: its literal
// address, and "localhost".
func (d *dialer) behindProxy(u *url.URL) error {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	at, err := netip.ParseAddr(host)
	if err == nil {
		return d.judge(at)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	// "127.1", "0x7f.0.0.1" and "2130706433" are addresses to many resolvers. Nobody honest
	// writes them.
	if (host == "localhost" || strings.HasSuffix(host, ".localhost") || numeric(host)) && d.refuses(loopback) {
		return errPrivate
	}
	return nil
}

// numeric says whether a host ends in a number, and so is an IPv4 address to whoever follows
// the URL standard ("ends in a number checker").
func numeric(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// private says whether an address is not one of the public internet's, in any of its forms.
func private(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if inner, ok := embedded(a); ok {
		return private(inner)
	}
	if a.IsLoopback() || a.IsPrivate() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsInterfaceLocalMulticast() {
		return true
	}
	for _, p := range special {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// metadata says whether an address, in any of its forms, is one where clouds hand their machines
// passwords. No allow_private opens it: who has a registry at a private address has it beside these.
func metadata(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if inner, ok := embedded(a); ok {
		return metadata(inner)
	}
	return slices.Contains(metadataServices, a)
}

var metadataServices = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // most clouds
	netip.MustParseAddr("169.254.170.2"),   // AWS, for containers
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("168.63.129.16"),   // Azure, within what is public elsewhere
	netip.MustParseAddr("100.100.100.200"), // Alibaba
}

// special are the ranges that netip has no question for (RFC 6890 and the IANA registries of
// special-purpose addresses).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarks
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's metadata and DNS
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("fec0::/10"),      // site-local
	netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64
}

// embedded takes an IPv4 address out of an IPv6 one that a gateway would turn into it.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return a, false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case compatible.Contains(a) && !a.IsUnspecified() && !a.IsLoopback():
		return netip.AddrFrom4([4]byte(b[12:])), true
	}
	return a, false
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)
