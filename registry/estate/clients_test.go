package estate

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

func TestClientsAreRememberedByAddressAndProgram(t *testing.T) {
	var c visitors
	at := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	busybox := registry.Repo{Project: "docker.io", Name: "library/busybox"}
	for i, a := range []registry.Asked{
		{Remote: "10.0.0.3:4711", Agent: "containerd/2.0", Kind: "manifest", Repo: busybox, Ref: "1", NS: "docker.io", Status: 401},
		{Remote: "10.0.0.3:4712", Agent: "containerd/2.0", Kind: "manifest", Repo: busybox, Ref: "1", NS: "docker.io", Status: 200, Outcome: registry.Miss, Known: true, User: "robot$node"},
		{Remote: "10.0.0.3:4713", Agent: "containerd/2.0", Kind: "blob", Repo: busybox, Ref: "sha256:ab", Status: 200, Outcome: registry.Join},
		{Remote: "10.0.0.3:4713", Agent: "containerd/2.0", Kind: "manifest", Repo: registry.Repo{Project: "quay.io", Name: "a/b"}, Ref: "2", NS: "quay.io", Status: 404, Err: errors.New("upstream has\nno such tag"), Known: true},
		{Remote: "[::1]:5000", Agent: "wharfie\x1b[31m", Kind: "ping", Status: 200},
	} {
		a.At = at.Add(time.Duration(i) * time.Second)
		c.note(a)
	}
	all := c.find("")
	if len(all) != 2 || all[0].Address != "::1" || all[0].Agent != "wharfie?[31m" || all[0].LastAsked != "ping" {
		t.Fatalf("all = %+v", all)
	}
	node := c.find("0.3")[0]
	want := Client{
		Address: "10.0.0.3", Agent: "containerd/2.0", User: "robot$node", First: at, Last: at.Add(3 * time.Second),
		Requests: 4, Hits: 1, Misses: 1, Challenges: 1, Errors: 1,
		LastAsked: "manifest quay.io/a/b:2", LastError: "404 manifest quay.io/a/b:2: upstream has?no such tag", LastErrorAt: at.Add(3 * time.Second),
		Projects: []string{"quay.io", "docker.io"}, NS: []string{"quay.io", "docker.io"},
		kind: "manifest", repo: registry.Repo{Project: "quay.io", Name: "a/b"}, ref: "2",
	}
	if fmt.Sprintf("%+v", node) != fmt.Sprintf("%+v", want) {
		t.Errorf("the node is\n%+v\nwant\n%+v", node, want)
	}
	for q, n := range map[string]int{"containerd": 1, "robot$": 1, "quay": 1, "10.0.0.4": 0} {
		if got := c.find(q); len(got) != n {
			t.Errorf("%q finds %d, want %d", q, len(got), n)
		}
	}
}

func TestClientsAreBounded(t *testing.T) {
	var c visitors
	for i := range mostClients + 10 {
		c.note(registry.Asked{Remote: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), Agent: strings.Repeat("a", 5000), NS: strings.Repeat("é", 500), Status: 200})
		c.note(registry.Asked{Remote: "192.168.0.1:1", Repo: registry.Repo{Project: fmt.Sprint("p", i), Name: "a"}})
	}
	all := c.find("")
	if len(all) != mostClients || len(c.all) != mostClients {
		t.Errorf("%d clients are kept, %d can be found, want %d", len(c.all), len(all), mostClients)
	}
	i := slices.IndexFunc(all, func(one Client) bool { return one.Address == "192.168.0.1" })
	if i < 0 || len(all[i].Projects) != mostNames || all[i].Projects[0] != fmt.Sprint("p", mostClients+9) {
		t.Errorf("the one that asks all the time is %d of them, with %q", i, all[max(i, 0)].Projects)
	}
	if len(all[1].Agent) > mostText || len(all[1].NS[0]) > mostText || all[len(all)-1].Address == "10.0.0.0" {
		t.Errorf("a client is kept as %+v", all[1])
	}
}

// What is kept of a request holds nothing else of it in memory: a header may have 64 KiB.
func TestClientsKeepNothingElseOfARequest(t *testing.T) {
	var c visitors
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 2000 {
		header := fmt.Sprintf("%08d", i) + strings.Repeat("x", 64<<10)
		c.note(registry.Asked{Remote: fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), Agent: header, User: header[:9], NS: header[:10], Ref: header[:11], Repo: registry.Repo{Project: header[:12], Name: header[:13]}})
	}
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("2000 clients take %d bytes", grown)
	}
	runtime.KeepAlive(&c)
}

// One that calls itself something else each time drives nobody out.
func TestProgramsAtOneAddressAreBounded(t *testing.T) {
	var c visitors
	c.note(registry.Asked{Remote: "10.0.0.3:1", Agent: "containerd/2.0"})
	for i := range 2 * mostClients {
		c.note(registry.Asked{Remote: "10.0.0.4:1", Agent: fmt.Sprint("agent/", i)})
	}
	all := c.find("")
	if len(all) != mostAgents+2 || all[0].Agent != otherAgents || all[0].Requests != 2*mostClients-mostAgents || all[len(all)-1].Address != "10.0.0.3" {
		t.Errorf("there are %d, of which the last one is %+v and the first %+v", len(all), all[0], all[len(all)-1])
	}
	for i := range mostClients {
		c.note(registry.Asked{Remote: fmt.Sprintf("10.1.%d.%d:1", i/256, i%256)})
	}
	if len(c.at) != mostClients {
		t.Errorf("%d addresses are counted, want %d", len(c.at), mostClients)
	}
}

func BenchmarkAsked(b *testing.B) {
	var c visitors
	a := registry.Asked{Remote: "10.0.0.3:4711", Agent: "containerd/2.0", Kind: "blob", Repo: registry.Repo{Project: "docker.io", Name: "library/busybox"}, Ref: "sha256:" + strings.Repeat("a", 64), NS: "docker.io", Status: 200, Outcome: registry.Hit}
	b.ReportAllocs()
	for b.Loop() {
		c.note(a)
	}
}
