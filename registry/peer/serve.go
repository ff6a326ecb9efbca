package peer

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"roadstead/registry"
)

// Handler lets the other nodes in to what content is served by and to the uploads of this node, and
// nobody else. Of content only blobs and manifests are to be had. A question for what this node is
// itself asking another for is sent back with 421, so that two nodes never wait for each other; so is
// one about a project that is not known here (yet, as while one node after the other gets a new
// configuration), of which upstream has said nothing. HEAD is no question for content: 204 says that upstream is being
// asked for it, so that it is worth while to wait longer.
func (c *Cluster) Handler(content http.Handler, known func(project string) bool, uploads Local) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node, err := c.secret.signer(r, time.Now())
		if err != nil {
			c.stats.refused.Add(1)
			if !errors.Is(err, errUnsigned) {
				c.log.Error("a node is not let in", "err", err)
			}
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		c.stats.answering.Add(1)
		defer c.stats.answering.Add(-1)
		if isUpload(r) {
			c.log.Debug("an upload for another node", "node", node, "method", r.Method, "path", r.URL.Path)
			c.takeUpload(w, r, uploads)
			return
		}
		repo, d, ok := asked(r)
		if !ok {
			http.Error(w, "nodes ask each other for blobs, manifests and uploads only", http.StatusNotFound)
			return
		}
		if r.Method == http.MethodHead {
			if !c.traffic.inquires(d) {
				http.Error(w, "upstream is not being asked for that", http.StatusNotFound)
				return
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if !known(repo.Project) {
			http.Error(w, fmt.Sprintf("node %s knows of no proxy %s", c.self.ID, repo.Project), http.StatusMisdirectedRequest)
			return
		}
		if !c.traffic.serve(d) {
			http.Error(w, fmt.Sprintf("node %s is asking for this itself", c.self.ID), http.StatusMisdirectedRequest)
			return
		}
		defer c.traffic.served(d)
		c.stats.served.Add(1)
		c.log.Debug("a question of another node", "node", node, "path", r.URL.Path)
		content.ServeHTTP(w, r)
	})
}

// asked returns the repository that a request is about, and what decides who owns the thing that it is
// for.
func asked(r *http.Request) (repo registry.Repo, d registry.Digest, ok bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return registry.Repo{}, "", false
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		return registry.Repo{}, "", false
	}
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return registry.Repo{}, "", false
	}
	reference := path[slash+1:]
	name, isManifest := strings.CutSuffix(path[:slash], "/manifests")
	if !isManifest {
		if name, ok = strings.CutSuffix(path[:slash], "/blobs"); !ok {
			return registry.Repo{}, "", false
		}
	}
	repo = registry.SplitRepo(name)
	if d, err := registry.ParseDigest(reference); err == nil {
		return repo, d, true
	}
	return repo, ofTag(repo, reference), isManifest && registry.CheckTag(reference) == nil
}

// farewell is how long answers to other nodes may take when this one ends. They go on at upstream
// where it breaks off.
const farewell = 5 * time.Second

// Serve lets other nodes ask, with HTTP/2 and, if the address of this one begins with https, with TLS,
// until ctx ends. Then uploads that are under way have what is left of Config.Drain since Run was
// told to end.
func (c *Cluster) Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true) // for a balancer's probe, which then reads why it is refused
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler: h, Protocols: protocols, TLSConfig: c.tls.Clone(), // net/http adds to it
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second, MaxHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000, SendPingTimeout: pingAfter, PingTimeout: pingPatience,
			// What an upload may take of memory here that is not on the disk yet, and what the
			// sender has in hand of it: bodies of clients are much smaller pieces.
			MaxReceiveBufferPerStream: 256 << 10, MaxReceiveBufferPerConnection: 4<<20 - 1, MaxReadFrameSize: 64 << 10,
		},
		ErrorLog: log.New(complaints{c.log}, "", 0),
	}
	ended := make(chan error, 1)
	go func() {
		if strings.HasPrefix(c.self.URL, "https:") {
			ended <- srv.ServeTLS(l, "", "")
			return
		}
		ended <- srv.Serve(l)
	}()
	select {
	case err := <-ended:
		srv.Close()
		return fmt.Errorf("serve other nodes on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	leaving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() {
		defer cancel()
		c.linger(leaving, time.Now())
	}()
	if srv.Shutdown(leaving) != nil {
		srv.Close()
	}
	<-ended
	return nil
}

// complaints is where net/http says what no request can be blamed for. A probe that does not speak TLS
// makes it complain all day; a node with another secret learns of it at its own end.
type complaints struct{ log *slog.Logger }

// Write logs one complaint.
func (c complaints) Write(p []byte) (int, error) {
	level, line := slog.LevelWarn, strings.TrimSpace(string(p))
	if strings.HasPrefix(line, "http: TLS handshake error") {
		level = slog.LevelDebug
	}
	c.log.Log(context.Background(), level, "the address for nodes", "err", line)
	return len(p), nil
}

// linger returns when what is still under way is to be cut off, or is over: sooner than net/http would
// find out, which waits for a second whether other nodes have more to ask. They need not be waited for
// by whoever starts this one again.
func (c *Cluster) linger(ctx context.Context, now time.Time) {
	end, since := now.Add(farewell), now
	if at := c.ending.Load(); at != nil {
		since = *at
	}
	drained := since.Add(c.drain)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for idle := 0; idle < 3; { // the last answer may not have left yet
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			switch uploading := c.stats.uploading.Load() > 0; {
			case c.stats.answering.Load() == 0:
				idle++
			case now.After(end) && (now.After(drained) || !uploading):
				return
			default:
				idle = 0
			}
		}
	}
}
