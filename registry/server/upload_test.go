package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha512"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
)

// send sends a request with a body, as a user, and returns the answer with its body read.
func (run *running) send(t testing.TB, user, method, path string, body io.Reader, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, run.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, user)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := run.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, got
}

// begin starts an upload and returns its location.
func (run *running) begin(t testing.TB, user, repo string) string {
	t.Helper()
	resp, body := run.send(t, user, "POST", "/v2/"+repo+"/blobs/uploads/", nil)
	if resp.StatusCode != 202 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	return resp.Header.Get("Location")
}

// streamed hides what kind of reader there is, so that it is sent without a Content-Length.
func streamed(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

// Every way to push a blob that a client has, step by step.
func TestUploads(t *testing.T) {
	type step struct {
		method, query string
		body          io.Reader
		header        []string
		status        int
		want          string // of the Range header, for 2xx and 416
	}
	d := digestOf(layer)
	end := "?digest=" + string(d)
	long := registry.Digest(fmt.Sprintf("sha512:%x", sha512.Sum512(layer)))
	all := func() io.Reader { return bytes.NewReader(layer) }
	part := func(from, to int) io.Reader { return bytes.NewReader(layer[from:to]) }
	tests := []struct {
		name   string
		digest registry.Digest // that is there in the end; "" for none
		steps  []step
	}{
		{"docker: stream, then an empty PUT", d, []step{
			{"PATCH", "", streamed(layer), nil, 202, "0-999"}, {"PUT", end, nil, nil, 201, ""}}},
		{"containerd: PUT of all", d, []step{{"PUT", end, all(), nil, 201, ""}}},
		{"PUT of all, streamed", d, []step{{"PUT", end, streamed(layer), nil, 201, ""}}},
		{"chunks", d, []step{
			{"PATCH", "", part(0, 500), []string{"Content-Range", "0-499"}, 202, "0-499"}, {"GET", "", nil, nil, 204, "0-499"},
			{"PATCH", "", part(500, 1000), []string{"Content-Range", "500-999"}, 202, "0-999"}, {"PUT", end, nil, nil, 201, ""}}},
		{"last chunk in the PUT", d, []step{
			{"PATCH", "", part(0, 500), []string{"Content-Range", "bytes=0-499"}, 202, "0-499"},
			{"PUT", end, part(500, 1000), []string{"Content-Range", "bytes 500-999/1000"}, 201, ""}}},
		{"streamed chunks", d, []step{
			{"PATCH", "", streamed(layer[:500]), []string{"Content-Range", "0-499"}, 202, "0-499"},
			{"PATCH", "", streamed(layer[500:]), []string{"Content-Range", "500-999"}, 202, "0-999"}, {"PUT", end, nil, nil, 201, ""}}},
		{"chunk out of order", d, []step{
			{"PATCH", "", part(500, 1000), []string{"Content-Range", "500-999"}, 416, "0-0"},
			{"PATCH", "", part(0, 500), []string{"Content-Range", "0-499"}, 202, "0-499"},
			{"PATCH", "", part(0, 500), []string{"Content-Range", "0-499"}, 416, "0-499"},
			{"PUT", end, part(600, 1000), []string{"Content-Range", "600-999"}, 416, "0-499"},
			{"HEAD", "", nil, nil, 204, "0-499"},
			{"PUT", end, part(500, 1000), []string{"Content-Range", "500-999"}, 201, ""}}},
		{"chunk longer than its range", d, []step{
			{"PATCH", "", streamed(layer[:600]), []string{"Content-Range", "0-499"}, 400, ""},
			{"GET", "", nil, nil, 204, "0-499"}, {"PUT", end, part(500, 1000), nil, 201, ""}}},
		{"chunk shorter than its range", d, []step{
			{"PATCH", "", streamed(layer[:400]), []string{"Content-Range", "0-499"}, 400, ""},
			{"GET", "", nil, nil, 204, "0-399"}, {"PUT", end, part(400, 1000), nil, 201, ""}}},
		{"range and length disagree", "", []step{{"PATCH", "", part(0, 500), []string{"Content-Range", "0-998"}, 400, ""}, {"GET", "", nil, nil, 204, "0-0"}}},
		{"range that is none", "", []step{{"PATCH", "", part(0, 500), []string{"Content-Range", "a-b"}, 400, ""}}},
		{"nothing, with a range that is one too long", digestOf(nil), []step{
			{"PATCH", "", nil, []string{"Content-Range", "0-0"}, 202, "0-0"}, {"PUT", "?digest=" + string(digestOf(nil)), nil, nil, 201, ""}}},
		{"nothing", digestOf(nil), []step{{"PUT", "?digest=" + string(digestOf(nil)), nil, nil, 201, ""}}},
		{"wrong digest, then the right one", d, []step{
			{"PUT", "?digest=" + someDigest, all(), nil, 400, ""}, {"GET", "", nil, nil, 204, "0-999"}, {"PUT", end, nil, nil, 201, ""}}},
		{"sha512", long, []step{{"PUT", "?digest=" + string(long), all(), nil, 201, ""}}},
		{"no digest", "", []step{{"PUT", "", all(), nil, 400, ""}, {"GET", "", nil, nil, 204, "0-0"}}},
		{"digest that is none", "", []step{{"PUT", "?digest=sha256:x", all(), nil, 400, ""}}},
		{"cancelled", "", []step{
			{"PATCH", "", all(), nil, 202, "0-999"}, {"DELETE", "", nil, nil, 204, ""}, {"GET", "", nil, nil, 404, ""},
			{"PATCH", "", all(), nil, 404, ""}, {"PUT", end, nil, nil, 404, ""}, {"DELETE", "", nil, nil, 404, ""}}},
		{"ended twice", d, []step{{"PUT", end, all(), nil, 201, ""}, {"PUT", end, nil, nil, 404, ""}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run, y, _, _ := newGate(t)
			location := run.begin(t, "dev", "private/web")
			for i, step := range test.steps {
				header := append([]string{"Content-Type", "application/octet-stream"}, step.header...)
				resp, body := run.send(t, "dev", step.method, location+step.query, step.body, header...)
				if resp.StatusCode != step.status {
					t.Fatalf("step %d: %s %s, want %d", i, resp.Status, body, step.status)
				}
				if got := resp.Header.Get("Range"); got != step.want {
					t.Errorf("step %d: Range %q, want %q", i, got, step.want)
				}
				switch step.status {
				case 202, 416:
					wantHeader(t, resp, map[string]string{"Location": location, "Docker-Upload-UUID": "upload-1", "Content-Range": "", "X-Content-Type-Options": "nosniff"})
				case 201:
					wantHeader(t, resp, map[string]string{
						"Location": "/v2/private/web/blobs/" + string(test.digest), "Docker-Content-Digest": string(test.digest), "Content-Length": "0",
						"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}) // C9
				case 400, 404:
					checkError(t, resp, body, "")
				}
				if step.status == 416 {
					checkErrorIf(t, step.method, resp, body, registry.RangeInvalid)
				}
			}
			if test.digest != "" && !y.has("private/web", test.digest) {
				t.Error("the blob is not there")
			}
		})
	}
}

// checkErrorIf checks an error that has a body.
func checkErrorIf(t *testing.T, method string, resp *http.Response, body []byte, code registry.Code) {
	t.Helper()
	if method != "HEAD" {
		checkError(t, resp, body, code)
	}
}

func TestStartUpload(t *testing.T) {
	d := digestOf(layer)
	tests := []struct {
		name, user, query string
		body              []byte
		status            int
		called            string // of the yard
	}{
		{"plain", "dev", "", nil, 202, "start sha256"},
		{"sha512", "dev", "?digest-algorithm=sha512", nil, 202, "start sha512"},
		{"algorithm that is none", "dev", "?digest-algorithm=md5", nil, 400, ""},
		{"whole", "dev", "?digest=" + string(d), layer, 201, "commit start sha256"},
		{"whole and wrong", "dev", "?digest=" + someDigest, layer, 400, "cancel start sha256"},
		{"digest that is none", "dev", "?digest=x", layer, 400, ""},
		{"mount that is none", "dev", "?mount=x", nil, 400, ""},
		{"mount", "dev", "?mount=" + string(d) + "&from=public/base", nil, 201, "mount"},
		{"mount of what is not there", "dev", "?mount=" + someDigest + "&from=public/base", nil, 202, "mount start sha256"},
		{"mount from what is only in a cache", "dev", "?mount=" + string(digestOf([]byte("cached"))) + "&from=hub/base", nil, 201, "mount"},
		{"B9 mount without the right to pull", "dev", "?mount=" + string(digestOf([]byte("theirs"))) + "&from=team/base", nil, 202, "start sha256"},
		{"B9 mount from nowhere", "dev", "?mount=" + string(d) + "&from=absent/base", nil, 202, "start sha256"},
		{"B9 mount from nonsense", "dev", "?mount=" + string(d) + "&from=../A", nil, 202, "start sha256"},
		{"B9 mount from anywhere", "dev", "?mount=" + string(d), nil, 201, "mount"},
		{"B9 mount from anywhere but where the caller may not pull", "dev", "?mount=" + string(digestOf([]byte("theirs"))), nil, 202, "mount start sha256"},
		{"mount with a token for the one repository", "scoped", "?mount=" + string(digestOf([]byte("theirs"))) + "&from=team/base", nil, 401, ""},
		{"mount from anywhere with such a token", "scoped", "?mount=" + string(digestOf([]byte("theirs"))), nil, 201, "mount"},
		{"B9 mount by who may", "root", "?mount=" + string(digestOf([]byte("theirs"))) + "&from=team/base", nil, 201, "mount"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run, y, _, _ := newGate(t)
			y.put("public/base", layer)
			y.put("hub/base", []byte("cached"))
			y.put("team/base", []byte("theirs"))
			resp, body := run.send(t, test.user, "POST", "/v2/private/web/blobs/uploads/"+test.query, bytes.NewReader(test.body))
			if resp.StatusCode != test.status {
				t.Fatalf("%s %s, want %d", resp.Status, body, test.status)
			}
			if got := strings.Join(y.calls(), " "); got != test.called {
				t.Errorf("called %q, want %q", got, test.called)
			}
			if test.status == 202 {
				wantHeader(t, resp, map[string]string{"Location": "/v2/private/web/blobs/uploads/upload-1", "Range": "0-0", "Docker-Upload-UUID": "upload-1", "Content-Length": "0"})
			}
		})
	}
}

// B11, B12, C20: an upload is its owner's, in its repository; ids that are none are not looked
// for; and the location comes from neither the Host header nor the query.
func TestB11_UploadIsItsOwners(t *testing.T) {
	run, y, _, _ := newGate(t)
	location := run.begin(t, "dev", "private/web")
	other := strings.Replace(location, "/web/", "/api/", 1)
	for _, who := range []struct{ user, path string }{{"boss", location}, {"root", location}, {"dev", other}} {
		for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
			resp, body := run.send(t, who.user, method, who.path+"?digest="+someDigest, nil)
			if resp.StatusCode != 404 {
				t.Errorf("%s %s %s: %s", who.user, method, who.path, resp.Status)
			}
			checkError(t, resp, body, registry.BlobUploadUnknown)
		}
	}
	if y.under("upload-1") != 0 {
		t.Error("the upload is gone")
	}
	y.questions()
	for _, id := range []string{"..%2Fx", "a.b", "%00", "a%0Ab", strings.Repeat("a", 129), "é"} {
		if resp, _ := run.send(t, "dev", "PATCH", "/v2/private/web/blobs/uploads/"+id, nil); resp.StatusCode != 404 && resp.StatusCode != 400 {
			t.Errorf("%s: %s", id, resp.Status)
		}
	}
	if asked := y.questions(); len(asked) != 0 {
		t.Errorf("asked %q", asked)
	}
	for path, want := range map[string]string{
		"/v2/web/blobs/uploads/?ns=private&x=secret": "/v2/private/web/blobs/uploads/upload-2",
		"//v2/private/web//blobs/uploads?x=secret":   "/v2/private/web/blobs/uploads/upload-3",
	} {
		req, _ := http.NewRequest("POST", run.url+path, nil)
		req.Host = "evil.example"
		req.SetBasicAuth("dev", "dev")
		resp, err := run.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if _, got, ok := strings.Cut(resp.Header.Get("Location"), "/v2/"); !ok || !strings.HasPrefix(resp.Header.Get("Location"), want[:len(want)-1]) || strings.ContainsAny(got, "?:") {
			t.Errorf("%s: %q", path, resp.Header.Get("Location"))
		}
	}
}

func TestUploadLimits(t *testing.T) {
	for _, whole := range []bool{false, true} {
		run, y, _, _ := newGate(t)
		y.full = 500
		path, method := "/v2/private/web/blobs/uploads/?digest="+string(digestOf(layer)), "POST"
		if !whole {
			path, method = run.begin(t, "dev", "private/web"), "PATCH"
		}
		resp, body := run.send(t, "dev", method, path, bytes.NewReader(layer))
		if resp.StatusCode != 413 || !strings.Contains(string(body), "may have no more than that") {
			t.Errorf("%s %s", resp.Status, body)
		}
		checkError(t, resp, body, registry.TooLarge)
		if whole && y.under("upload-1") != -1 {
			t.Error("what nobody can go on with was kept")
		}
	}
}

// Of two requests at one upload, one goes on.
func TestTwoPatchesRace(t *testing.T) {
	run, y, _, _ := newGate(t)
	began, more := make(chan struct{}), make(chan struct{})
	y.pause = func(context.Context) { close(began); <-more }
	location := run.begin(t, "dev", "private/web")
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, _ := run.send(t, "dev", "PATCH", location, bytes.NewReader(layer)); resp.StatusCode != 202 {
			t.Errorf("the first: %s", resp.Status)
		}
	})
	<-began
	for _, method := range []string{"PATCH", "PUT"} {
		resp, body := run.send(t, "dev", method, location+"?digest="+string(digestOf(layer)), bytes.NewReader(layer))
		if resp.StatusCode != 409 {
			t.Errorf("the second: %s", resp.Status)
		}
		checkError(t, resp, body, registry.Conflict)
	}
	close(more)
	wg.Wait()
	if n := y.under("upload-1"); n != len(layer) {
		t.Errorf("%d bytes", n)
	}
}

// rawPush writes a request to a server and returns the connection.
func rawPush(t testing.TB, run *running, head, body string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", run.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(nc, "%s\r\nHost: x\r\nAuthorization: %s\r\n\r\n%s", head, as("dev")[1], body)
	return nc, bufio.NewReader(nc)
}

// A client whose body breaks off is gone, and what came stays; one that sends what is no body is
// told so.
func TestBrokenBody(t *testing.T) {
	for _, framing := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		run, y, _, _ := newGate(t)
		location := run.begin(t, "dev", "private/web")
		body := string(layer[:400])
		if framing[0] == 'T' {
			body = fmt.Sprintf("%x\r\n%s", 1000, body)
		}
		nc, r := rawPush(t, run, "PATCH "+location+" HTTP/1.1\r\n"+framing, body)
		nc.(*net.TCPConn).CloseWrite()
		if resp, err := http.ReadResponse(r, nil); err == nil {
			t.Errorf("%s: %v", framing, resp)
		}
		if n := y.under("upload-1"); n != 400 {
			t.Errorf("%s: %d bytes stayed", framing, n)
		}
		// A manifest and a blob in one request leave nothing.
		for _, head := range []string{"PUT /v2/private/web/manifests/1", "POST /v2/private/web/blobs/uploads/?digest=" + string(digestOf(layer))} {
			nc, r := rawPush(t, run, head+" HTTP/1.1\r\n"+framing, body)
			nc.(*net.TCPConn).CloseWrite()
			if resp, err := http.ReadResponse(r, nil); err == nil {
				t.Errorf("%s: %v", head, resp)
			}
		}
		_, r = rawPush(t, run, "PATCH "+location+" HTTP/1.1\r\nTransfer-Encoding: chunked", "3\r\nabc\r\nno chunk\r\n")
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 400 || !resp.Close {
			t.Errorf("no chunk: %v, %v", resp, err)
		}
		if n := y.under("upload-1"); n != 403 {
			t.Errorf("%d bytes stayed", n)
		}
		if slices.Contains(y.calls(), "manifest") || y.under("upload-2") != -1 {
			t.Error("something of what broke off is there")
		}
	}
}

// D2: a body that comes slowly comes, whatever it is framed in, and one that stands still is
// dropped with what came of it kept.
func TestD2_SlowBodyComesAndStalledOneIsDropped(t *testing.T) {
	for _, over := range []string{"length", "chunked", "TLS", "HTTP/2"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			y, log := newYard(), &lines{}
			s := New(Config{Registry: y, Writer: y, Uploader: y, Hosted: func(string) bool { return true }, Access: &allow{}, Stall: 2 * time.Second, HeaderTimeout: 500 * time.Millisecond, Log: log.logger()})
			var run *running
			switch over {
			case "TLS", "HTTP/2":
				run = startTLS(t, s, over == "TLS")
			default:
				run = start(t, s)
			}
			// As large as what the client's transport gathers before it sends anything.
			const pieces, pieceSize = 10, 8 << 10
			patch := func(stall bool) (status int, id string, err error) {
				location := run.begin(t, "", "private/web")
				id = location[strings.LastIndexByte(location, '/')+1:]
				in, out := io.Pipe()
				req, _ := http.NewRequest("PATCH", run.url+location, in)
				if over == "length" {
					req.ContentLength = pieces * pieceSize
				}
				go func() {
					// A tenth each 400 ms takes longer than nothing may come.
					for i := range pieces {
						if stall && i == 2 {
							// The client's transport waits for the body even when the connection is gone.
							for end := time.Now().Add(20 * time.Second); s.Stats().Stalled == 0 && time.Now().Before(end); {
								time.Sleep(10 * time.Millisecond)
							}
							out.CloseWithError(io.ErrUnexpectedEOF)
							return
						}
						out.Write(make([]byte, pieceSize))
						time.Sleep(400 * time.Millisecond)
					}
					out.Close()
				}()
				resp, err := run.Do(req)
				if err != nil {
					return 0, id, err
				}
				resp.Body.Close()
				return resp.StatusCode, id, nil
			}
			if status, id, err := patch(false); err != nil || status != 202 || y.under(id) != pieces*pieceSize {
				t.Errorf("slow: %d, %v, %d bytes", status, err, y.under(id))
			}
			began := time.Now()
			status, id, err := patch(true)
			if err == nil || y.under(id) != 2*pieceSize {
				t.Errorf("stalled: %d, %v, %d bytes", status, err, y.under(id))
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("dropped after %s", took)
			}
			eventually(t, func() bool { return s.Stats().Stalled == 1 && s.Stats().InFlight == 0 })
		})
	}
}

// D1: what follows a body that is refused, or longer than it says, is no request.
func TestD1_BodyIsNoRequest(t *testing.T) {
	run, y, _, _ := newGate(t)
	location := run.begin(t, "dev", "private/web")
	smuggled := "DELETE " + location + " HTTP/1.1\r\nHost: x\r\nAuthorization: " + as("dev")[1] + "\r\n\r\n"
	for _, head := range []string{
		"PATCH " + location + " HTTP/1.1\r\nContent-Range: 5-9\r\nContent-Length: " + fmt.Sprint(len(smuggled)),
		"PATCH " + location + " HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
		"PUT /v2/hub/web/manifests/1 HTTP/1.1\r\nContent-Length: " + fmt.Sprint(len(smuggled)),
	} {
		body := smuggled
		if strings.Contains(head, "chunked") {
			body = "0\r\n\r\n" + smuggled
		}
		nc, r := rawPush(t, run, head, body)
		if _, err := http.ReadResponse(r, nil); err != nil {
			t.Errorf("%s: %v", head, err)
		}
		nc.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, r)
		if y.under("upload-1") < 0 {
			t.Fatalf("%s: the body was a request", head)
		}
	}
}

func TestExpectContinue(t *testing.T) {
	run, y, _, _ := newGate(t)
	location := run.begin(t, "dev", "private/web")
	nc, r := rawPush(t, run, "PATCH "+location+" HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000", "")
	if line, _ := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q", line)
	}
	r.ReadString('\n')
	nc.Write(layer)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 202 || y.under("upload-1") != 1000 {
		t.Errorf("%v, %v", resp, err)
	}
	// What is refused is not asked for.
	_, r = rawPush(t, run, "PATCH /v2/hub/web/blobs/uploads/x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000", "")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 401 && resp.StatusCode != 403 {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestUploadOverHTTP2(t *testing.T) {
	y := newYard()
	s := New(Config{Registry: y, Writer: y, Uploader: y, Hosted: func(string) bool { return true }, Access: &allow{}})
	run := startTLS(t, s, false)
	large := bytes.Repeat(layer, 5000)
	d := digestOf(large)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			repo := fmt.Sprintf("a/b%d", i)
			location := run.begin(t, "", repo)
			if resp, body := run.send(t, "", "PATCH", location, streamed(large)); resp.StatusCode != 202 || resp.ProtoMajor != 2 {
				t.Errorf("%s %s", resp.Status, body)
			}
			if resp, body := run.send(t, "", "PUT", location+"?digest="+string(d), nil); resp.StatusCode != 201 {
				t.Errorf("%s %s", resp.Status, body)
			}
			if !y.has(repo, d) {
				t.Errorf("%s has no blob", repo)
			}
		})
	}
	wg.Wait()
	if stats := s.Stats(); stats.Uploads != 4 || stats.Received != 4*int64(len(large)) {
		t.Errorf("%+v", stats)
	}
}

func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"0-0", "0-99", "bytes 0-99/100", "bytes=5-9", "9-5", "-1", "1-", "0-9223372036854775807", "0-9223372036854775808", "bytes */5", "+1-2", "0x1-2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		sp, err := spanOf(value)
		if err != nil {
			if judge(err).status != 400 {
				t.Errorf("%q: %v", value, err)
			}
			return
		}
		if sp.first < 0 || sp.last < sp.first || sp.last-sp.first+1 <= 0 {
			t.Errorf("%q: %+v", value, sp)
		}
		if want := fmt.Sprintf("%d-%d", sp.first, sp.last); !strings.Contains(strings.ReplaceAll(value, "0", ""), strings.ReplaceAll(want, "0", "")) {
			t.Errorf("%q: %s", value, want)
		}
	})
}

// Whatever the path of an upload is, the id that is looked up has letters, digits and dashes.
func FuzzUploadPath(f *testing.F) {
	for _, seed := range []string{"/v2/a/b/blobs/uploads/x-1", "/v2/a/b/blobs/uploads/", "/v2/a/b/blobs/uploads/..", "/v2/a/blobs/uploads/uploads/x", "/v2/a/b/blobs/uploads/a\x00b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		target, err := parse(path, "", func(string) bool { return false }, func(string) bool { return false })
		if err != nil || target.kind != upload || target.id == "" {
			return
		}
		y := newYard()
		s := New(Config{Registry: y, Writer: y, Uploader: y})
		res := &response{server: s, target: target, repo: registry.SplitRepo(target.name)}
		if _, err := s.findUpload(context.Background(), res); judge(err).status != 404 {
			t.Errorf("%q: %v", path, err)
		}
		if len(y.questions()) > 0 && strings.Trim(target.id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			t.Errorf("%q was looked up", target.id)
		}
	})
}
