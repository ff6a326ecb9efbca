package registrytest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// get asks with a deadline, because some modes never answer.
func get(t *testing.T, method, target string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

func TestAnswers(t *testing.T) {
	r := New(t)
	image := r.PutImage("library/busybox", "1.35", []byte("layer"))
	blob := r.PutBlob("library/busybox", []byte("0123456789"))
	r.PutIndex("library/busybox", "1.36", image)
	sum := r.PutReferrer("library/busybox", image, "application/vnd.example.sum", []byte("sum"))
	base := "/v2/library/busybox/"
	for _, row := range []struct {
		name, method, path string
		header             []string
		status             int
		want               string // contained in the body
		mediaType          string
	}{
		{"ping", "GET", "/v2/", nil, 200, "{}", "application/json"},
		{"manifest by tag", "GET", base + "manifests/1.35", nil, 200, `"layers"`, registry.MediaTypeOCIManifest},
		{"manifest by digest", "GET", base + "manifests/" + image.String(), nil, 200, `"layers"`, registry.MediaTypeOCIManifest},
		{"index", "GET", base + "manifests/1.36", nil, 200, image.String(), registry.MediaTypeOCIIndex},
		{"HEAD has no body", "HEAD", base + "manifests/1.35", nil, 200, "", registry.MediaTypeOCIManifest},
		{"unknown tag", "GET", base + "manifests/2", nil, 404, "MANIFEST_UNKNOWN", "application/json"},
		{"unknown repository", "GET", "/v2/x/manifests/2", nil, 404, "NAME_UNKNOWN", "application/json"},
		{"blob", "GET", base + "blobs/" + blob.String(), nil, 200, "0123456789", "application/octet-stream"},
		{"part of a blob", "GET", base + "blobs/" + blob.String(), []string{"Range", "bytes=7-"}, 206, "789", "application/octet-stream"},
		{"unknown blob", "GET", base + "blobs/" + image.String(), nil, 404, "BLOB_UNKNOWN", "application/json"},
		{"tags", "GET", base + "tags/list", nil, 200, `["1.35","1.36"]`, "application/json"},
		{"a page of tags", "GET", base + "tags/list?n=1", nil, 200, `["1.35"]`, "application/json"},
		{"tags after one", "GET", base + "tags/list?last=1.35", nil, 200, `["1.36"]`, "application/json"},
		{"referrers", "GET", base + "referrers/" + image.String(), nil, 200, sum.String(), registry.MediaTypeOCIIndex},
		{"referrers of another type", "GET", base + "referrers/" + image.String() + "?artifactType=x", nil, 200, `"manifests":[]`, registry.MediaTypeOCIIndex},
		{"a method it has not", "DELETE", base + "manifests/1.35", nil, 405, "UNSUPPORTED", "application/json"},
	} {
		t.Run(row.name, func(t *testing.T) {
			res, body, err := get(t, row.method, r.URL()+row.path, row.header...)
			if err != nil {
				t.Fatal(err)
			}
			if got := res.Header.Get("Content-Type"); res.StatusCode != row.status || !strings.Contains(string(body), row.want) || got != row.mediaType {
				t.Errorf("got %d %s %s, want %d %s with %s", res.StatusCode, got, body, row.status, row.mediaType, row.want)
			}
		})
	}
	res, _, err := get(t, "GET", r.URL()+base+"tags/list?n=1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := res.Header.Get("Link"), `</v2/library/busybox/tags/list?last=1.35&n=1>; rel="next"`; got != want {
		t.Errorf("Link is %s, want %s", got, want)
	}
}

func TestFaults(t *testing.T) {
	body := strings.Repeat("0123456789", 10)
	for _, row := range []struct {
		name   string
		fault  Fault
		status int    // zero: no answer
		want   string // the body as far as it came
		broken bool   // and reading it ended in an error
	}{
		{"U6 throttled", Status(429, "Retry-After", "7"), 429, "", false},
		{"U7 broken", Status(503), 503, "", false},
		{"U8 drip is slower than the deadline", Drip(200), 200, body[:20], true},
		{"U9 stall", Stall(30), 200, body[:30], true},
		{"U10 truncated", Truncate(30), 200, body[:30], true},
		{"U11 wrong bytes", Corrupt(), 200, "1" + body[1:], false},
		{"U12 length too long", Length(5), 200, body, true},
		{"U12 length too short", Length(-5), 200, body[:95], false},
		{"U12 no length", Chunked(), 200, body, false},
		{"U13 portal", HTML(), 200, "<!DOCTYPE html>\n<html><body>Please log in to the guest network.</body></html>\n", false},
		{"U14 loop", Redirect(""), 307, "", false},
		{"U15 elsewhere", Redirect("http://example.com"), 307, "", false},
		{"U19 hung", Hang(), 0, "", true},
		{"cut before the answer", Hangup(), 0, "", true},
		{"late", Wait(10 * time.Millisecond), 200, body, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := New(t)
			d := r.PutBlob("a", []byte(body))
			r.Fail("/blobs/", 1, row.fault)
			target := r.URL() + "/v2/a/blobs/" + d.String()
			res, got, err := get(t, "GET", target)
			if (err != nil) != row.broken {
				t.Errorf("error %v, want one: %t", err, row.broken)
			}
			if res != nil && res.StatusCode != row.status || res == nil && row.status != 0 {
				t.Errorf("got %v, want status %d", res, row.status)
			}
			// A drip's last piece may or may not beat the deadline.
			if !strings.HasPrefix(string(got), row.want) || len(got) > len(row.want)+40 {
				t.Errorf("got body %q, want %q", got, row.want)
			}
			if _, got, err := get(t, "GET", target); err != nil || string(got) != body {
				t.Errorf("after the fault: %q, %v", got, err)
			}
			if got, want := r.Requests(), []string{"GET /v2/a/blobs/" + d.String(), "GET /v2/a/blobs/" + d.String()}; !slices.Equal(got, want) {
				t.Errorf("requests %q, want %q", got, want)
			}
		})
	}
}

func TestGzip(t *testing.T) {
	r := New(t)
	d := r.PutBlob("a", []byte("0123456789"))
	r.Fail("/blobs/", 0, Gzip())
	res, body, err := get(t, "GET", r.URL()+"/v2/a/blobs/"+d.String())
	if err != nil || res.Header.Get("Content-Encoding") != "gzip" || !strings.HasPrefix(string(body), "\x1f\x8b") {
		t.Errorf("got %v %q, %v", res, body, err)
	}
}

func TestFaultsFollowEachOther(t *testing.T) {
	r := New(t)
	r.PutImage("a", "1", []byte("x"))
	r.Fail("manifests", 1, Status(500))
	r.Fail("manifests", 2, Header("Docker-Content-Digest", ""))
	r.Fail("HEAD ", 0, Status(405))
	var got []int
	for i := range 3 {
		res, _, err := get(t, "HEAD", r.URL()+"/v2/a/manifests/1")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, res.StatusCode)
		if digest := res.Header.Get("Docker-Content-Digest"); digest != "" {
			t.Errorf("answer %d has the digest %s", i, digest)
		}
	}
	r.Heal()
	res, _, err := get(t, "HEAD", r.URL()+"/v2/a/manifests/1")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, res.StatusCode)
	if status := r.Log()[3].Status; status != 200 {
		t.Errorf("the log says %d", status)
	}
	if want := []int{500, 200, 200, 200}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if res.Header.Get("Docker-Content-Digest") == "" {
		t.Error("the digest header is gone after Heal")
	}
}

func TestAuth(t *testing.T) {
	user := url.UserPassword("u", "p")
	for _, row := range []struct {
		name  string
		auth  Auth
		ask   func(r *Registry) (*http.Request, error) // for a token
		token string
		want  []int // statuses of pulls with what was got
	}{
		{"anonymous", Auth{Anonymous: true}, tokenGET(nil), "token", []int{200, 200}},
		{"anonymous refused", Auth{Username: "u", Password: "p"}, tokenGET(nil), "", nil},
		{"password", Auth{Username: "u", Password: "p"}, tokenGET(user), "token", []int{200}},
		{"wrong password", Auth{Username: "u", Password: "q", Anonymous: true}, tokenGET(user), "", nil},
		{"identity token", Auth{Identity: "i"}, tokenPOST("i"), "access_token", []int{200}},
		{"wrong identity token", Auth{Identity: "i"}, tokenPOST("j"), "", nil},
		{"good for one use", Auth{Anonymous: true, Uses: 1}, tokenGET(nil), "token", []int{200, 401}},
		{"expired at once", Auth{Anonymous: true, Uses: -1}, tokenGET(nil), "token", []int{401}},
		{"for this repository only", Auth{Anonymous: true, Scoped: true}, tokenGET(nil), "token", []int{200}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := New(t)
			r.PutImage("a", "1", []byte("x"))
			r.Require(row.auth)
			target := r.URL() + "/v2/a/manifests/1"
			res, _, err := get(t, "GET", target)
			if err != nil {
				t.Fatal(err)
			}
			want := `Bearer realm="` + r.URL() + `/token",service="registrytest",scope="repository:a:pull"`
			if got := res.Header.Get("WWW-Authenticate"); res.StatusCode != 401 || got != want {
				t.Fatalf("got %d with challenge %s, want %s", res.StatusCode, got, want)
			}
			req, err := row.ask(r)
			if err != nil {
				t.Fatal(err)
			}
			tokenRes, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer tokenRes.Body.Close()
			if row.token == "" {
				if tokenRes.StatusCode != 401 {
					t.Errorf("token request: %d, want 401", tokenRes.StatusCode)
				}
				return
			}
			var answer map[string]any
			if err := json.NewDecoder(tokenRes.Body).Decode(&answer); err != nil {
				t.Fatal(err)
			}
			token, _ := answer[row.token].(string)
			for i, want := range row.want {
				res, _, err := get(t, "GET", target, "Authorization", "Bearer "+token)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != want {
					t.Errorf("pull %d: %d, want %d", i, res.StatusCode, want)
				}
			}
		})
	}
}

func tokenGET(user *url.Userinfo) func(*Registry) (*http.Request, error) {
	return func(r *Registry) (*http.Request, error) {
		req, err := http.NewRequest("GET", r.URL()+"/token?service=registrytest&scope=repository:a:pull", nil)
		if user != nil {
			password, _ := user.Password()
			req.SetBasicAuth(user.Username(), password)
		}
		return req, err
	}
}

func tokenPOST(identity string) func(*Registry) (*http.Request, error) {
	return func(r *Registry) (*http.Request, error) {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {identity}, "scope": {"repository:a:pull"}}
		req, err := http.NewRequest("POST", r.URL()+"/token", strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return req, err
	}
}

func TestSecretsAndSent(t *testing.T) {
	r := New(t)
	d := r.PutBlob("a", []byte("0123456789"))
	target := r.URL() + "/v2/a/blobs/" + d.String()
	for _, header := range [][]string{nil, {"Authorization", "Bearer x"}, {"Cookie", "a=b"}, {"Range", "bytes=8-"}} {
		if _, _, err := get(t, "GET", target, header...); err != nil {
			t.Fatal(err)
		}
	}
	line := "GET /v2/a/blobs/" + d.String()
	if got, want := r.Secrets(), []string{line, line}; !slices.Equal(got, want) {
		t.Errorf("secrets in %q, want %q", got, want)
	}
	if got := r.Sent("/blobs/"); got != 32 {
		t.Errorf("sent %d bytes, want 32", got)
	}
	if got := r.Count("/blobs/"); got != 4 {
		t.Errorf("counted %d, want 4", got)
	}
	r.Reset()
	if got := r.Requests(); len(got) != 0 {
		t.Errorf("after Reset there is %q", got)
	}
}

func TestStopAndStart(t *testing.T) {
	r := New(t)
	d := r.PutBlob("a", []byte("0123456789"))
	target := r.URL() + "/v2/a/blobs/" + d.String()
	r.Stop()
	if _, _, err := get(t, "GET", target); err == nil {
		t.Error("a stopped registry answered")
	}
	r.Start()
	if _, body, err := get(t, "GET", target); err != nil || string(body) != "0123456789" {
		t.Errorf("got %q, %v after the start", body, err)
	}
}

func TestTLSAndNames(t *testing.T) {
	authority := NewAuthority(t)
	r := Listen(t, Options{TLS: authority.Server(Leaf{Names: []string{"registry.example"}}), HTTP2: true})
	d := r.PutBlob("a", []byte("0123456789"))
	names, resolver := NewNames(t)
	names.Put("registry.example", "127.0.0.1")
	_, port, _ := strings.Cut(r.Host(), ":")

	addresses, err := resolver.LookupHost(t.Context(), "registry.example")
	if err != nil || !slices.Equal(addresses, []string{"127.0.0.1"}) {
		t.Fatalf("looked up %q, %v", addresses, err)
	}
	if _, err := resolver.LookupHost(t.Context(), "unknown.example"); err == nil {
		t.Error("a name that was not put has an address")
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: authority.Pool(), ServerName: "registry.example"},
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	res, err := client.Get("https://127.0.0.1:" + port + "/v2/a/blobs/" + d.String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("spoke %s, want HTTP/2", res.Proto)
	}
	strict := &http.Client{Transport: &http.Transport{}}
	if _, err := strict.Get(r.URL() + "/v2/"); err == nil {
		t.Error("a certificate of nobody's authority was believed")
	}
}

func TestRebind(t *testing.T) {
	names, resolver := NewNames(t)
	names.Rebind("a.example", "127.0.0.1", "127.0.0.2")
	var got []string
	for range 3 {
		addresses, err := resolver.LookupHost(t.Context(), "a.example")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, addresses...)
	}
	if want := []string{"127.0.0.1", "127.0.0.2", "127.0.0.2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnyDigest(t *testing.T) {
	r := New(t)
	body := []byte("0123456789")
	long := digest.SHA512.FromBytes(body)
	r.PutBlobAs("a", long, body)
	if _, got, err := get(t, "GET", r.URL()+"/v2/a/blobs/"+long.String()); err != nil || string(got) != string(body) {
		t.Errorf("got %q, %v", got, err)
	}
	r.Delete("a", long.String())
	res, _, err := get(t, "GET", r.URL()+"/v2/a/blobs/"+long.String())
	if err != nil || res.StatusCode != 404 {
		t.Errorf("after Delete: %v, %v", res, err)
	}
}
