package registrytest

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Names is a name server on loopback.
type Names struct {
	mu      sync.Mutex
	answers map[string][]netip.Addr
	turns   map[string][][]netip.Addr
	asked   []string
}

// NewNames starts a name server that ends with the test. It knows nothing yet: what is
// unknown does not exist (NXDOMAIN, U2).
func NewNames(t testing.TB) (*Names, *net.Resolver) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("registrytest: names: %v", err)
	}
	n := &Names{answers: map[string][]netip.Addr{}, turns: map[string][][]netip.Addr{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.serve(conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return n, resolver
}

// Put makes a name mean these addresses.
func (n *Names) Put(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[name] = parse(addresses)
}

// Rebind makes a name mean one address for each look-up in turn, the last one from then on
// (A8).
func (n *Names) Rebind(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addresses {
		n.turns[name] = append(n.turns[name], parse([]string{a}))
	}
}

// Asked lists the names that were looked up, each look-up once.
func (n *Names) Asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

func parse(addresses []string) []netip.Addr {
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func (n *Names) serve(conn net.PacketConn) {
	b := make([]byte, 1500)
	for {
		length, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(b[:length]) != nil || len(query.Questions) != 1 {
			continue
		}
		answer := n.answer(query)
		if packed, err := answer.Pack(); err == nil {
			conn.WriteTo(packed, from)
		}
	}
}

func (n *Names) answer(query dnsmessage.Message) dnsmessage.Message {
	q := query.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true},
		Questions: query.Questions,
	}
	addresses, known := n.look(name, q.Type)
	if !known {
		answer.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET}
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && !a.Is4():
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return answer
}

// look answers both halves of a look-up (A and AAAA) and takes a turn at the first.
func (n *Names) look(name string, kind dnsmessage.Type) (addresses []netip.Addr, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if kind == dnsmessage.TypeA {
		n.asked = append(n.asked, name)
	}
	if turns := n.turns[name]; len(turns) > 0 {
		if kind == dnsmessage.TypeA && len(turns) > 1 {
			n.turns[name] = turns[1:]
		}
		return turns[0], true
	}
	addresses, known = n.answers[name]
	return addresses, known
}
