package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"roadstead/storage/s3test"
)

// faulty is a driver that reaches its server through a proxy.
func faulty(t *testing.T, s *s3test.Server) (*Driver, *s3test.Proxy) {
	t.Helper()
	p := s.Proxy(t)
	c := config(t, s)
	c.Endpoint, c.Part, c.Stall, c.Retries = p.Endpoint, minPart, 10*time.Second, 2
	d := newDriver(t, c)
	p.Requests()
	return d, p
}

// first makes a fault of the first n requests of a kind.
func first(n int, kind string, f s3test.Fault) func(s3test.Request) s3test.Fault {
	return func(r s3test.Request) s3test.Fault {
		if r.Kind == kind && r.N <= n {
			return f
		}
		return s3test.Fault{}
	}
}

const always = 1 << 30

// impatient makes a driver give up as early as a test wants, if the fault is that nothing comes. Of
// a loaded machine it would think so at any time.
func impatient(d *Driver, f s3test.Fault) {
	d.transport.stall, d.transport.slow = 10*time.Second, 10*time.Second
	if f.Stall || f.Hang > 0 {
		d.transport.stall, d.transport.slow = 2*time.Second, 2*time.Second
	}
	d.transport.frozen.Store(0)
}

// operations are one of each kind, on an object that is there, and the kind of its request.
func operations(d *Driver, local string) map[string]struct {
	kind string
	do   func(ctx context.Context) error
} {
	return map[string]struct {
		kind string
		do   func(ctx context.Context) error
	}{
		"get":  {"GET", func(ctx context.Context) error { _, err := d.GetContent(ctx, "/a"); return err }},
		"stat": {"HEAD", func(ctx context.Context) error { _, err := d.StatFile(ctx, "/a"); return err }},
		"put":  {"PUT", func(ctx context.Context) error { return d.PutContent(ctx, "/b", []byte("b")) }},
		"list": {"LIST", func(ctx context.Context) error { _, err := d.List(ctx, "/"); return err }},
		"walk": {"LIST", func(ctx context.Context) error {
			return d.Walk(ctx, "/", func(storagedriver.FileInfo) error { return nil })
		}},
		"delete":   {"DELETE", func(ctx context.Context) error { return d.Delete(ctx, "/b") }},
		"begin":    {"BEGIN", func(ctx context.Context) error { return d.PutFile(ctx, "/c", local) }},
		"part":     {"PART", func(ctx context.Context) error { return d.PutFile(ctx, "/c", local) }},
		"complete": {"COMPLETE", func(ctx context.Context) error { return d.PutFile(ctx, "/c", local) }},
		"copy":     {"COPY", func(ctx context.Context) error { return d.Move(ctx, "/b", "/d") }},
		"uploads":  {"UPLOADS", func(ctx context.Context) error { return d.Sweep(ctx, time.Hour) }},
	}
}

// TestS10_TroubleThatPasses is repeated, and trouble that stays is told for what it is.
func TestS10_TroubleThatPasses(t *testing.T) {
	t.Parallel() // most of it is waiting
	s := s3test.Versitygw(t)
	d, p := faulty(t, s)
	local := file(t, some(2*minPart+1))
	for name, op := range operations(d, local) {
		must(t, d.PutContent(t.Context(), "/a", []byte("a")))
		must(t, d.PutContent(t.Context(), "/b", []byte("b")))
		for _, f := range []s3test.Fault{{Status: 500, Code: "InternalError"}, {Status: 503, Code: "SlowDown"}, {Status: 400, Code: "RequestTimeout"}, {Status: 502, Plain: "<html>bad gateway</html>"}, {Stall: true}} {
			if op.kind == "HEAD" && f.Code == "RequestTimeout" {
				continue // which has no body to say that in
			}
			impatient(d, f)
			p.Fail(first(1, op.kind, f))
			if err := op.do(t.Context()); err != nil {
				t.Errorf("%s after one %+v: %v", name, f, err)
			}
			p.Fail(nil)
			impatient(d, s3test.Fault{})
			d.PutContent(t.Context(), "/b", []byte("b"))
			d.Delete(t.Context(), "/c")
		}
		for _, f := range []s3test.Fault{{Status: 503, Code: "SlowDown"}, {Status: 404, Plain: "<html>who are you looking for?</html>"}, {Status: 404, Code: "NoSuchBucket"}, {Status: 403, Code: "AccessDenied"}, {Stall: true}} {
			impatient(d, f)
			p.Fail(first(always, op.kind, f))
			began := time.Now()
			err := op.do(t.Context())
			took := time.Since(began)
			if op.kind == "HEAD" && f.Status == 404 {
				continue // GET decides, see below
			}
			_, none := errors.AsType[storagedriver.PathNotFoundError](err)
			if err == nil || none || errors.Is(detail(err), context.Canceled) {
				t.Errorf("%s, always %+v: %v", name, f, err)
			}
			// Four attempts, or two that stall; ten times as patient where a server may be busy.
			if limit := 30 * time.Second; took > limit {
				t.Errorf("%s, always %+v: it took %v", name, f, took)
			}
			p.Fail(nil)
			impatient(d, s3test.Fault{})
			if _, err := d.Stat(t.Context(), "/c"); op.kind == "COMPLETE" && err == nil {
				t.Errorf("%s, always %+v: visible", name, f)
			}
		}
	}
	p.Fail(func(s3test.Request) s3test.Fault { return s3test.Fault{Status: 404, Code: "NoSuchBucket"} })
	for name, err := range map[string]error{
		"stat file": second(d.StatFile(t.Context(), "/a")), "stat": second(d.Stat(t.Context(), "/a")), "delete": d.Delete(t.Context(), "/a"),
	} {
		if _, none := errors.AsType[storagedriver.PathNotFoundError](err); none || err == nil {
			t.Errorf("%s in a bucket that is gone: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func detail(err error) error {
	if e, ok := errors.AsType[storagedriver.Error](err); ok {
		return e.Detail
	}
	return err
}

// TestABodyThatBreaks goes on where it broke, or ends with an error, never as if it were whole.
func TestABodyThatBreaks(t *testing.T) {
	t.Parallel()
	s := s3test.Versitygw(t)
	d, p := faulty(t, s)
	impatient(d, s3test.Fault{Stall: true})
	b := some(4 << 20)
	must(t, d.PutContent(t.Context(), "/a", b))
	read := func() ([]byte, error) {
		body, err := d.Reader(t.Context(), "/a", 0)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		return io.ReadAll(body)
	}
	for name, c := range map[string]struct {
		fault func(s3test.Request) s3test.Fault
		gets  int
	}{
		"cut once":            {first(1, "GET", s3test.Fault{Cut: 1 << 20}), 2},
		"cut again and again": {first(6, "GET", s3test.Fault{Cut: 500_000}), 7},
		"no more comes":       {first(1, "GET", s3test.Fault{Hang: 1 << 20}), 2},
		"trouble in between": {func(r s3test.Request) s3test.Fault {
			return []s3test.Fault{1: {Cut: 1 << 20}, 2: {Status: 503, Code: "SlowDown"}, 3: {}}[r.N]
		}, 3},
		"a little and no more": {first(2, "GET", s3test.Fault{Cut: 100}), 3},
	} {
		p.Requests()
		d.transport.frozen.Store(0)
		p.Fail(c.fault)
		if got, err := read(); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if log := p.Requests(); len(log) != c.gets {
			t.Errorf("%s: %v, want %d GETs", name, log, c.gets)
		}
	}
	for name, fault := range map[string]func(s3test.Request) s3test.Fault{
		"always after little": first(always, "GET", s3test.Fault{Cut: 100}),
		"always hanging":      first(always, "GET", s3test.Fault{Hang: 100}),
		"then it is gone": func(r s3test.Request) s3test.Fault {
			return []s3test.Fault{1: {Cut: 1 << 20}, 2: {Status: 404, Code: "NoSuchKey"}}[r.N]
		},
	} {
		d.transport.frozen.Store(0)
		p.Fail(fault)
		began := time.Now()
		got, err := read()
		if _, none := errors.AsType[storagedriver.PathNotFoundError](err); err == nil || none || !bytes.HasPrefix(b, got) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}

	impatient(d, s3test.Fault{})

	// What has been replaced meanwhile is not what was begun.
	p.Fail(first(1, "GET", s3test.Fault{Cut: 1 << 20}))
	body, err := d.Reader(t.Context(), "/a", 0)
	must(t, err)
	defer body.Close()
	must(t, d.PutContent(t.Context(), "/a", some(4<<20)))
	if got, err := io.ReadAll(body); err == nil || !bytes.HasPrefix(b, got) {
		t.Errorf("replaced while it was read: %d bytes, %v", len(got), err)
	}
	p.Fail(nil)

	// And whoever leaves ends only what is his.
	ctx, leave := context.WithCancel(t.Context())
	body, err = d.Reader(ctx, "/a", 0)
	must(t, err)
	leave()
	if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) {
		t.Errorf("read by somebody who has left: %v", err)
	}
}

// TestS11_UploadsThatEnd leave an object whole or none, and parts only for a sweep.
func TestS11_UploadsThatEnd(t *testing.T) {
	t.Parallel()
	s3test.Each(t, func(t *testing.T, s *s3test.Server) {
		d, p := faulty(t, s)
		b := some(2*minPart + 1)
		local := file(t, b)
		tidy := func(when string) {
			t.Helper()
			if left := s.Unfinished(t, d.bucket); len(left) > 0 {
				t.Errorf("%s: left %v", when, left)
			}
		}
		for name, fault := range map[string]func(s3test.Request) s3test.Fault{
			"the answer to complete is lost":    first(1, "COMPLETE", s3test.Fault{Lose: true}),
			"and again":                         first(2, "COMPLETE", s3test.Fault{Lose: true}),
			"a part breaks":                     first(2, "PART", s3test.Fault{CutSent: 1 << 20}),
			"the answer to a part is lost":      first(1, "PART", s3test.Fault{Lose: true}),
			"complete fails in a 200":           first(1, "COMPLETE", s3test.Fault{Status: 200, Code: "InternalError"}),
			"conditions are not implemented":    first(1, "COMPLETE", s3test.Fault{Status: 501, Code: "NotImplemented"}),
			"and the answer to that is lost":    func(r s3test.Request) s3test.Fault { return s3test.Fault{Lose: r.Kind == "COMPLETE" && r.N == 1} },
			"the server is not sure who is 1st": first(1, "COMPLETE", s3test.Fault{Status: 409, Code: "ConditionalRequestConflict"}),
		} {
			p.Fail(fault)
			if err := d.PutFile(t.Context(), "/a", local); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			p.Fail(nil)
			d.overwrites.Store(false)
			holds(t, d, "/a", b)
			must(t, d.Delete(t.Context(), "/a"))
			tidy(name)
		}
		for _, kind := range []string{"PART", "COMPLETE"} {
			p.Fail(first(always, kind, s3test.Fault{Status: 500, Code: "InternalError"}))
			if err := d.PutFile(t.Context(), "/a", local); err == nil {
				t.Errorf("%s always fails: stored", kind)
			}
			p.Fail(nil)
			_, err := d.Stat(t.Context(), "/a")
			wantNotFound(t, kind+" always fails", err)
			tidy(kind + " always fails")
		}
		for _, kind := range []string{"PUT", "PART"} { // with a small file, and a large one
			if kind == "PUT" {
				small := some(1000)
				p.Fail(first(1, kind, s3test.Fault{Lose: true}))
				must(t, d.PutFile(t.Context(), "/small", file(t, small)))
				holds(t, d, "/small", small)
				must(t, d.Delete(t.Context(), "/small"))
				// A server without conditions has been sent all of it before it says so.
				p.Fail(func(r s3test.Request) (f s3test.Fault) {
					if r.Create {
						f = s3test.Fault{Status: 501, Code: "NotImplemented"}
					}
					return f
				})
				must(t, d.PutFile(t.Context(), "/small", file(t, small)))
				d.overwrites.Store(false)
				if made, err := d.PutIfAbsent(t.Context(), "/smaller", small[:10]); err != nil || !made {
					t.Errorf("put if absent, without conditions: %t, %v", made, err)
				}
				d.overwrites.Store(false)
				holds(t, d, "/small", small)
				holds(t, d, "/smaller", small[:10])
				must(t, d.Delete(t.Context(), "/small"))
				must(t, d.Delete(t.Context(), "/smaller"))
				continue
			}
			ctx, leave := context.WithTimeout(t.Context(), 200*time.Millisecond)
			p.Fail(first(always, kind, s3test.Fault{Stall: true}))
			if err := d.PutFile(ctx, "/a", local); !errors.Is(detail(err), context.DeadlineExceeded) {
				t.Errorf("for somebody who left: %v", err)
			}
			leave()
			p.Fail(nil)
			tidy("somebody left")
		}

		// A crash cannot abort. What it leaves is invisible, and a sweep spares who is at it now.
		p.Fail(func(r s3test.Request) s3test.Fault {
			if r.Kind == "COMPLETE" || r.Kind == "ABORT" {
				return s3test.Fault{Stall: true}
			}
			return s3test.Fault{}
		})
		ctx, crash := context.WithTimeout(t.Context(), 3*time.Second)
		defer crash()
		if err := d.PutFile(ctx, "/a", local); err == nil {
			t.Error("stored by who crashed")
		}
		p.Fail(nil)
		_, err := d.Stat(t.Context(), "/a")
		wantNotFound(t, "crashed", err)
		if left := s.Unfinished(t, d.bucket); len(left) != 1 {
			t.Errorf("left by a crash: %v", left)
		}
		must(t, d.Sweep(t.Context(), time.Hour))
		if left := s.Unfinished(t, d.bucket); len(left) != 1 {
			t.Errorf("a sweep has taken what is young: %v", left)
		}
		time.Sleep(1100 * time.Millisecond) // they are dated in seconds
		must(t, d.Sweep(t.Context(), 0))
		tidy("swept")
	})
}

// TestS12_NewSaysWhatIsWrong and what to do about it.
func TestS12_NewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s3test.Each(t, func(t *testing.T, s *s3test.Server) {
		good := config(t, s)
		p := s.Proxy(t)
		for name, c := range map[string]struct {
			change func(*Config)
			fault  s3test.Fault
			says   []string
		}{
			"no such bucket":    {func(c *Config) { c.Bucket = "nobodys-bucket" }, s3test.Fault{}, []string{`there is no bucket "nobodys-bucket"`, "make it"}},
			"unknown key":       {func(c *Config) { c.AccessKey = "AKIAUNKNOWN" }, s3test.Fault{}, []string{"does not know the access key"}},
			"wrong secret":      {func(c *Config) { c.SecretKey = "wrong" }, s3test.Fault{}, []string{"the secret key is not that of the access key"}},
			"wrong region":      {func(c *Config) { c.Region = "eu-north-1" }, s3test.Fault{}, []string{`not in region "eu-north-1"`}},
			"clocks differ":     {nil, s3test.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, []string{"clock", "NTP"}},
			"expired":           {nil, s3test.Fault{Status: 400, Code: "InvalidToken"}, []string{"expired", "renew"}},
			"may not":           {nil, s3test.Fault{Status: 403, Code: "AccessDenied"}, []string{"allow s3:ListBucket", good.Bucket}},
			"nobody there":      {func(c *Config) { c.Endpoint = "http://127.0.0.1:1" }, s3test.Fault{}, []string{"127.0.0.1:1", "refused"}},
			"silent":            {func(c *Config) { c.Stall = 100 * time.Millisecond }, s3test.Fault{Stall: true}, []string{"no progress"}},
			"no secret":         {func(c *Config) { c.SecretKey = "" }, s3test.Fault{}, []string{"without its secret"}},
			"two secrets":       {func(c *Config) { c.SecretFile = "/x" }, s3test.Fault{}, []string{"both given"}},
			"no bucket named":   {func(c *Config) { c.Bucket = "" }, s3test.Fault{}, []string{"no bucket is named"}},
			"an endpoint, path": {func(c *Config) { c.Endpoint += "/bucket" }, s3test.Fault{}, []string{"endpoint", `"https://host"`}},
			"parts too short":   {func(c *Config) { c.Part = 1 << 20 }, s3test.Fault{}, []string{"5 MiB"}},
			"encryption":        {func(c *Config) { c.Encryption = "rot13" }, s3test.Fault{}, []string{"rot13", "sse-kms"}},
			"a key for nothing": {func(c *Config) { c.KMSKey = "x" }, s3test.Fault{}, []string{"sse-kms"}},
			"no CA":             {func(c *Config) { c.CAFile = "/nonexistent" }, s3test.Fault{}, []string{"CA file"}},
			"a prefix":          {func(c *Config) { c.Prefix = "a b" }, s3test.Fault{}, []string{"prefix"}},
			"full":              {nil, s3test.Fault{Status: 507, Code: "XMinioStorageFull"}, []string{"no space left"}},
		} {
			cfg := good
			cfg.Endpoint, cfg.Retries = p.Endpoint, 1
			if c.change != nil {
				c.change(&cfg)
			}
			p.Fail(func(s3test.Request) s3test.Fault { return c.fault })
			_, err := New(t.Context(), cfg)
			if err == nil {
				t.Errorf("%s: accepted", name)
				continue
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v, want it to say %q", name, err, part)
				}
			}
			if strings.Contains(err.Error(), s.SecretKey) {
				t.Errorf("%s: the secret is in %v", name, err)
			}
			if name == "full" && !errors.Is(detail(err), syscall.ENOSPC) {
				t.Errorf("full: %v", err)
			}
		}
	})
}

// TestCredentials come from where the configuration says, and change when it does.
func TestCredentials(t *testing.T) {
	s := s3test.Versitygw(t)
	c := config(t, s)
	access, secret := c.AccessKey, c.SecretKey
	dir := t.TempDir()
	secretFile, awsFile := filepath.Join(dir, "secret"), filepath.Join(dir, "aws")
	must(t, os.WriteFile(secretFile, []byte(secret+"\n"), 0o600))
	must(t, os.WriteFile(awsFile, []byte("[default]\naws_access_key_id = x\naws_secret_access_key = y\n[mine]\naws_access_key_id = "+access+"\naws_secret_access_key = "+secret+"\n"), 0o600))

	c.SecretKey, c.SecretFile = "", secretFile
	d := newDriver(t, c)
	must(t, os.WriteFile(secretFile, []byte("rotated away"), 0o600))
	must(t, os.Chtimes(secretFile, time.Time{}, time.Now().Add(time.Second)))
	if err := d.Check(t.Context()); err == nil {
		t.Error("the file was not read again")
	}
	must(t, os.WriteFile(secretFile, []byte(secret), 0o600))
	must(t, os.Chtimes(secretFile, time.Time{}, time.Now().Add(2*time.Second)))
	must(t, d.Check(t.Context()))

	c.AccessKey, c.SecretFile, c.CredentialsFile, c.Profile = "", "", awsFile, "mine"
	newDriver(t, c)

	c.CredentialsFile, c.Profile = "", ""
	t.Setenv("AWS_ACCESS_KEY_ID", access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	newDriver(t, c)
}

// TestS10_TheServerFreezes and comes back.
func TestS10_TheServerFreezes(t *testing.T) {
	s := s3test.Versitygw(t)
	c := config(t, s)
	d := newDriver(t, c)
	must(t, d.PutContent(t.Context(), "/a", []byte("a")))
	impatient(d, s3test.Fault{Stall: true})
	s.Freeze(t)
	began := time.Now()
	if _, err := d.GetContent(t.Context(), "/a"); err == nil || !strings.Contains(err.Error(), "no progress") {
		t.Errorf("frozen: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	began = time.Now()
	if _, err := d.GetContent(t.Context(), "/a"); err == nil {
		t.Error("frozen: answered")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the next one took %v, as if nobody had waited before", took)
	}
	s.Thaw()
	impatient(d, s3test.Fault{})
	holds(t, d, "/a", []byte("a"))
	s.Stop()
	if err := d.Check(t.Context()); err == nil {
		t.Error("stopped: in order")
	}
	s.Start(t)
	holds(t, d, "/a", []byte("a"))
	s.RemoveBucket(t, c.Bucket)
	if _, err := d.GetContent(t.Context(), "/a"); err == nil || !strings.Contains(err.Error(), "there is no bucket") {
		t.Errorf("the bucket is gone: %v", err)
	}
	if _, none := errors.AsType[storagedriver.PathNotFoundError](second(d.StatFile(t.Context(), "/a"))); none {
		t.Error("a bucket that is gone has no such file")
	}
}
