package estate

import (
	"container/list"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
)

// Client is what is known of one that has asked this node for something: of a program at an address.
// All text in it is the client's word.
type Client struct {
	Address string // without a port
	Agent   string
	User    string // who it was last; "": nobody in particular

	First, Last time.Time

	Requests   int64
	Hits       int64 // answered from what is here, with downloads that others had begun
	Misses     int64 // answered from upstream
	Stale      int64 // answered from what is here, because upstream could not be asked
	Challenges int64 // sent away for a token, as clients are that begin without
	Errors     int64 // all else that was answered with 400 or more

	LastAsked   string    // "manifest docker.io/library/busybox:1.36"
	LastError   string    // "404 manifest docker.io/library/none:1: …"; "": there was none
	LastErrorAt time.Time // zero: there was none

	Projects []string // that it asked for, the last first
	NS       []string // registries that it thought it asked, the last first

	kind, ref string // of the last request, which is put into words when somebody looks
	repo      registry.Repo
}

const (
	// mostClients bounds what is kept, to some 10 MiB: a cluster has some hundred nodes, each with two
	// or three programs that pull.
	mostClients = 4096

	// mostNames bounds the projects and the registries of each.
	mostNames = 8

	// mostText is the longest text of a client that is kept, in bytes.
	mostText = 200

	// mostAgents bounds the programs at one address: else one that calls itself something else each time
	// would drive all others out. A proxy in front has the programs of many machines.
	mostAgents = 64

	// otherAgents is what the programs there are called that are too many.
	otherAgents = "(others)"
)

// visitors are the clients that have asked this node, the last of them first. The least recently seen one
// leaves when there are too many.
type visitors struct {
	mu    sync.Mutex
	all   map[clientKey]*list.Element // of *Client
	at    map[string]int              // how many of them are at an address
	order list.List
}

type clientKey struct{ address, agent string }

// Asked notes a request. It never waits for anything but memory.
func (e *Estate) Asked(a registry.Asked) { e.clients.note(a) }

func (c *visitors) note(a registry.Asked) {
	address := a.Remote
	if from, err := netip.ParseAddrPort(a.Remote); err == nil {
		address = from.Addr().Unmap().String()
	}
	k := clientKey{address, clipped(a.Agent)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all, c.at = map[clientKey]*list.Element{}, map[string]int{}
	}
	at, known := c.all[k]
	if !known && c.at[address] >= mostAgents {
		k.agent = otherAgents
		at, known = c.all[k]
	}
	if known {
		c.order.MoveToFront(at)
	} else {
		k.agent = strings.Clone(k.agent)
		at = c.order.PushFront(&Client{Address: k.address, Agent: k.agent, First: a.At})
		c.all[k] = at
		c.at[address]++
	}
	at.Value.(*Client).note(a)
	if c.order.Len() > mostClients {
		last := c.order.Back()
		gone := c.order.Remove(last).(*Client)
		delete(c.all, clientKey{gone.Address, gone.Agent})
		if c.at[gone.Address]--; c.at[gone.Address] == 0 {
			delete(c.at, gone.Address)
		}
	}
}

// note counts a request of a client.
func (c *Client) note(a registry.Asked) {
	c.Last = a.At
	c.Requests++
	if user := clipped(a.User); user != "" && user != c.User {
		c.User = strings.Clone(user)
	}
	switch a.Outcome {
	case registry.Hit, registry.Join:
		c.Hits++
	case registry.Miss:
		c.Misses++
	case registry.Stale:
		c.Stale++
	}
	c.Projects = newest(c.Projects, a.Repo.Project)
	c.NS = newest(c.NS, a.NS)
	c.kind, c.ref = a.Kind, strings.Clone(a.Ref)
	c.repo = registry.Repo{Project: strings.Clone(a.Repo.Project), Name: strings.Clone(a.Repo.Name)}
	switch {
	case a.Status == 401 && !a.Known:
		c.Challenges++
	case a.Status >= 400:
		c.Errors++
		c.LastErrorAt = a.At
		c.LastError = strconv.Itoa(a.Status) + " " + c.asked()
		if a.Err != nil {
			c.LastError += ": " + clipped(a.Err.Error())
		}
	}
}

// asked is the last request in words.
func (c *Client) asked() string {
	text := c.kind
	if c.repo.Name != "" {
		text += " " + c.repo.String()
	}
	switch {
	case strings.Contains(c.ref, ":"):
		text += "@" + c.ref
	case c.ref != "":
		text += ":" + c.ref
	}
	return clipped(text)
}

// newest puts a name before the others.
func newest(names []string, name string) []string {
	if name == "" || len(names) > 0 && names[0] == name {
		return names
	}
	name = strings.Clone(clipped(name))
	names = slices.DeleteFunc(names, func(n string) bool { return n == name })
	names = slices.Insert(names, 0, name)
	return names[:min(len(names), mostNames)]
}

// clipped is text from outside as it is kept: printable, and not long. It may still be a part of a
// request's header, all of which stays in memory as long as it does: who keeps it clones it.
func clipped(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), mostText)], "?")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// ClientsSeen lists the clients that have asked this node since it began, the last one first: all whose
// address, program, user, project or registry has q in it.
func (e *Estate) ClientsSeen(p registry.Principal, q string) ([]Client, error) {
	if err := e.may(p, registry.List, access.Log, ""); err != nil {
		return nil, err
	}
	return e.clients.find(strings.ToLower(strings.TrimSpace(q))), nil
}

func (c *visitors) find(q string) []Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Client
	for at := c.order.Front(); at != nil; at = at.Next() {
		if one := at.Value.(*Client); one.matches(q) {
			shown := *one
			shown.LastAsked = one.asked()
			shown.Projects, shown.NS = slices.Clone(one.Projects), slices.Clone(one.NS)
			found = append(found, shown)
		}
	}
	return found
}

func (c *Client) matches(q string) bool {
	has := func(text string) bool { return strings.Contains(strings.ToLower(text), q) }
	return q == "" || has(c.Address) || has(c.Agent) || has(c.User) || slices.ContainsFunc(c.Projects, has) || slices.ContainsFunc(c.NS, has)
}
