package s3

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"roadstead/storage/s3test"
)

// A server that gives no answer costs the first who asks some time and the others next to none, and is
// found again without anybody's help.
func TestS10_HasteWithAServerThatIsAway(t *testing.T) {
	t.Parallel() // most of it is waiting
	s := s3test.Versitygw(t)
	p := s.Proxy(t)
	c := config(t, s)
	c.Endpoint, c.Stall, c.Retries, c.Hasty = p.Endpoint, time.Second, 2, true
	d := newDriver(t, c)
	must(t, d.PutContent(t.Context(), "/a", []byte("a")))
	get := func() (time.Duration, error) {
		began := time.Now()
		_, err := d.GetContent(t.Context(), "/a")
		return time.Since(began), err
	}
	for name, f := range map[string]s3test.Fault{
		"frozen": {Stall: true}, "overloaded": {Status: 503, Code: "SlowDown"}, "a broken gateway": {Status: 502, Plain: "<html>"},
	} {
		p.Fail(func(s3test.Request) s3test.Fault { return f })
		p.Requests()
		took, err := get()
		if err == nil || !Away(err) || took > 5*time.Second {
			t.Errorf("%s: %v after %v", name, err, took)
		}
		first := len(p.Requests())
		var herd sync.WaitGroup
		began := time.Now()
		for range 100 {
			herd.Go(func() {
				for range 5 {
					// Next to nothing, as far as a busy machine lets it be seen.
					if took, err := get(); err == nil || !Away(err) || took > 5*time.Second {
						t.Errorf("%s, later: %v after %v", name, err, took)
					}
				}
			})
		}
		herd.Wait()
		// One call a second goes out to see, of three requests at most.
		if asked, most := len(p.Requests()), 3*int(2+time.Since(began)/time.Second); asked > most {
			t.Errorf("%s: %d requests, want at most %d", name, asked, most)
		}
		t.Logf("%s: the first had no answer after %v and %d requests, 500 more after %v", name, took, first, time.Since(began))
		p.Fail(nil)
		began = time.Now()
		for {
			if _, err = get(); err == nil || time.Since(began) > 10*time.Second {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil || time.Since(began) > 4*time.Second {
			t.Errorf("%s: %v, %v after it is back", name, err, time.Since(began))
		}
	}
	// A word of the server's own is no reason to leave it alone.
	p.Fail(func(s3test.Request) s3test.Fault { return s3test.Fault{Status: 403, Code: "AccessDenied"} })
	for range 2 {
		if _, err := get(); err == nil || Away(err) {
			t.Errorf("refused: %v", err)
		}
	}
	p.Fail(nil)
	if _, err := get(); err != nil {
		t.Errorf("at once after a refusal: %v", err)
	}
}

// Trouble with a file of this machine is never that of a server, though it too can say whether it was a
// timeout.
func TestAwayIsOfTheNetwork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, link := os.Readlink(file)
	refused, _ := net.Listen("tcp", "127.0.0.1:0")
	refused.Close()
	_, dialed := net.Dial("tcp", refused.Addr().String())
	_, asked := http.Get("http://" + refused.Addr().String())
	_, parsed := url.Parse("http://[" + file)
	for name, c := range map[string]struct {
		err  error
		away bool
	}{
		"a folder below a file":            {os.MkdirAll(filepath.Join(file, "data"), 0o755), false},
		"a folder in /proc":                {os.MkdirAll("/proc/foo", 0o755), false},
		"a link that is none":              {link, false},
		"a rename":                         {os.Rename(filepath.Join(file, "a"), filepath.Join(file, "b")), false},
		"a call of the system":             {os.NewSyscallError("fsync", syscall.EACCES), false},
		"the number of an error":           {syscall.EACCES, false},
		"a file that a request needs":      {&url.Error{Op: "Get", URL: "http://x", Err: &fs.PathError{Op: "open", Path: file, Err: syscall.EACCES}}, false},
		"a URL that is none":               {parsed, false},
		"a connection that is refused":     {dialed, true},
		"a request that nobody takes":      {asked, true},
		"a name that nobody knows":         {&net.DNSError{Err: "no such host", Name: "s3.example.com", IsNotFound: true}, true},
		"a connection that ended too soon": {&url.Error{Op: "Get", URL: "http://x", Err: io.EOF}, true},
		"what took too long":               {context.DeadlineExceeded, true},
		"what the driver makes of that":    {storagedriver.Error{DriverName: name, Detail: fmt.Errorf("read /a: %w", dialed)}, true},
	} {
		if c.err == nil {
			t.Fatalf("%s: it went well", name)
		}
		if got := Away(fmt.Errorf("open: %w", c.err)); got != c.away {
			t.Errorf("%s: %v: away is %t", name, c.err, got)
		}
	}
}

// One call that had no answer says nothing of a server that answers others.
func TestCircuitIsForSilentServersOnly(t *testing.T) {
	failed := func(since time.Duration) *call {
		c := &call{began: time.Now().Add(-since)}
		c.failed.Store(true)
		return c
	}
	c := &circuit{}
	slow := failed(time.Second)
	c.answered() // to somebody else
	if c.ended(slow); c.isOpen() {
		t.Error("open, though the server has answered meanwhile")
	}
	time.Sleep(time.Millisecond)
	if c.ended(failed(0)); !c.isOpen() {
		t.Error("not open, though nobody has been answered since")
	}
}
