package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

func TestPrivate(t *testing.T) {
	for _, row := range []struct {
		address string
		want    bool
	}{
		{"127.0.0.1", true}, {"127.255.255.254", true}, {"10.1.2.3", true}, {"172.16.0.1", true}, {"172.32.0.1", false},
		{"192.168.1.1", true}, {"169.254.169.254", true}, {"100.64.0.1", true}, {"100.128.0.1", false}, {"0.0.0.0", true},
		{"0.1.2.3", true}, {"224.0.0.1", true}, {"255.255.255.255", true}, {"240.0.0.1", true}, {"198.18.0.1", true},
		{"192.0.0.8", true}, {"168.63.129.16", true}, {"8.8.8.8", false}, {"54.227.20.253", false},
		{"::1", true}, {"::", true}, {"fe80::1", true}, {"fe80::1%eth0", true}, {"fd00::1", true}, {"fc00::1", true},
		{"fec0::1", true}, {"ff02::1", true}, {"2600:1f18::1", false},
		{"::ffff:127.0.0.1", true}, {"::ffff:10.0.0.1", true}, {"::ffff:8.8.8.8", false},
		{"::127.0.0.1", true}, {"::8.8.8.8", false},
		{"64:ff9b::10.0.0.1", true}, {"64:ff9b::8.8.8.8", false}, {"64:ff9b:1::1", true},
		{"2002:7f00:1::", true}, {"2002:a9fe:a9fe::1", true}, {"2002:808:808::1", false},
	} {
		if got := private(netip.MustParseAddr(row.address)); got != row.want {
			t.Errorf("A8 %s is private: %t, want %t", row.address, got, row.want)
		}
	}
}

// TestAddressPolicy is A8: only 127.0.0.1 is public here. Every dial is looked at after DNS.
func TestAddressPolicy(t *testing.T) {
	names, resolver := registrytest.NewNames(t)
	names.Put("public.example", "127.0.0.1")
	names.Put("private.example", "127.0.0.2")
	names.Put("mapped.example", "::ffff:127.0.0.2")
	names.Put("both.example", "127.0.0.2", "127.0.0.1")
	names.Put("metadata.example", "169.254.169.254")
	for _, row := range []struct {
		name string
		host string // of the endpoint, with %s for the port
		want registry.Code
	}{
		{"a public name", "public.example", ""},
		{"a private name", "private.example", registry.Unavailable},
		{"a private name in IPv6 clothes", "mapped.example", registry.Unavailable},
		{"a name with a public and a private answer", "both.example", ""}, // by the public one only
		{"the metadata service", "metadata.example", registry.Unavailable},
		{"the metadata address", "169.254.169.254", registry.Unavailable},
		{"the metadata address of Azure", "168.63.129.16", registry.Unavailable},
		{"a private address", "127.0.0.2", registry.Unavailable},
		{"a private address in IPv6 clothes", "[::ffff:127.0.0.2]", registry.Unavailable},
		{"a decimal address", "2130706434", registry.Unavailable},
		{"every address of this machine", "0.0.0.0", registry.Unavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			_, port, _ := strings.Cut(up.Host(), ":")
			sentinel := registrytest.Listen(t, registrytest.Options{Address: "127.0.0.2:" + port})
			up.PutImage("a", "1", []byte("x"))
			r := behind(open(t, Config{Endpoints: []string{"http://" + row.host + ":" + port}, Resolver: resolver}))
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			if row.want == "" && err != nil {
				t.Error(err)
			}
			if row.want != "" {
				fault(t, err, row.want)
			}
			if n := sentinel.Connections(); n != 0 {
				t.Errorf("%d connections were made to a private address", n)
			}
		})
	}
}

// TestRebinding is A8: a name that changes after it was found good.
func TestRebinding(t *testing.T) {
	names, resolver := registrytest.NewNames(t)
	names.Rebind("registry.example", "127.0.0.1", "127.0.0.2")
	up := registrytest.New(t)
	_, port, _ := strings.Cut(up.Host(), ":")
	sentinel := registrytest.Listen(t, registrytest.Options{Address: "127.0.0.2:" + port})
	up.PutImage("a", "1", []byte("x"))
	r := behind(open(t, Config{Endpoints: []string{"http://registry.example:" + port}, Resolver: resolver}))
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Fatal(err)
	}
	r.Close() // so that the next request is a new connection
	_, err := r.Resolve(t.Context(), repo("a"), "1")
	fault(t, err, registry.Unavailable)
	if n := sentinel.Connections(); n != 0 || len(names.Asked()) != 2 {
		t.Errorf("%d connections to a private address after look-ups of %q", n, names.Asked())
	}
}

// TestRealmOnPrivateAddress is U16 for token services.
func TestRealmOnPrivateAddress(t *testing.T) {
	up := registrytest.New(t)
	sentinel := registrytest.Listen(t, registrytest.Options{Address: "127.0.0.2:0"})
	sentinel.Require(registrytest.Auth{Anonymous: true})
	up.PutImage("a", "1", []byte("x"))
	up.Require(registrytest.Auth{Realm: sentinel.URL() + "/token", Issuer: sentinel})
	r := behind(open(t, Config{}, up))
	_, err := r.Resolve(t.Context(), repo("a"), "1")
	f := fault(t, err, registry.Unavailable)
	if !strings.Contains(f.Message, "allow_private") || strings.Contains(f.Message, "127.") {
		t.Errorf("message %q", f.Message)
	}
	wants(t, sentinel)
}

// TestAllowPrivate looks at the policy as New sets it, without dialling.
func TestAllowPrivate(t *testing.T) {
	for _, allow := range []bool{false, true} {
		r, err := New(Config{Endpoints: []string{"http://127.0.0.1:1"}, AllowPrivate: allow})
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{"127.0.0.1:80", "[fe80::1%eth0]:80", "10.0.0.1:443"} {
			if err := r.dialer.control(context.Background(), "tcp", address, nil); (err == nil) != allow {
				t.Errorf("allow_private %t: %s: %v", allow, address, err)
			}
		}
		if err := r.dialer.control(context.Background(), "tcp", "8.8.8.8:443", nil); err != nil {
			t.Errorf("allow_private %t: a public address: %v", allow, err)
		}
		for _, address := range []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80", "169.254.170.2:80", "[fd00:ec2::254]:80", "168.63.129.16:80", "100.100.100.200:80"} {
			if err := r.dialer.control(context.Background(), "tcp", address, nil); !errors.Is(err, errMetadata) {
				t.Errorf("allow_private %t: %s: %v", allow, address, err)
			}
		}
		if err := r.dialer.behindProxy(&url.URL{Scheme: "http", Host: "169.254.169.254"}); !errors.Is(err, errMetadata) {
			t.Errorf("allow_private %t: the metadata address by a proxy: %v", allow, err)
		}
	}
}

// TestPrivateNetworks: what the operator has said may be asked, and nothing beside it.
func TestPrivateNetworks(t *testing.T) {
	d := newDialer(nil, false, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")})
	for address, allowed := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd00:1::7": true, "8.8.8.8": true,
		"10.2.0.1": false, "127.0.0.1": false, "169.254.169.254": false, "fd00:2::1": false, "::1": false, "64:ff9b::10.1.2.3": false,
	} {
		if got := d.control(t.Context(), "tcp", net.JoinHostPort(address, "443"), nil) == nil; got != allowed {
			t.Errorf("%s: allowed %t, want %t", address, got, allowed)
		}
	}
}

// TestBehindProxy is A8 where somebody else looks names up.
func TestBehindProxy(t *testing.T) {
	d := newDialer(nil, false, nil)
	var refused []string
	hosts := []string{
		"registry.example", "8.8.8.8", "[2600:1f18::1]", "1e100.net", "0xdeadbeef.example",
		"127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "[fe80::1%25eth0]", "localhost", "LOCALHOST.", "x.localhost",
		"2130706433", "127.1", "0x7f.0.0.1", "0x7f000001", "017700000001", "1.2.3.4.5", "127.0.0.1.",
	}
	for _, host := range hosts {
		u, err := url.Parse("http://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		if d.behindProxy(u) != nil {
			refused = append(refused, host)
		}
	}
	if want := hosts[5:]; !slices.Equal(refused, want) {
		t.Errorf("refused %q, want %q", refused, want)
	}
}
