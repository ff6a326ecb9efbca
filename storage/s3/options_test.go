package s3

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"roadstead/storage/s3test"
)

// TestEncryption has the server say that it encrypts what it stores.
func TestEncryption(t *testing.T) {
	s := s3test.MinIO(t)
	for encryption, want := range map[Encryption]string{SSES3: "AES256", SSEKMS: "aws:kms"} {
		c := config(t, s)
		c.Encryption, c.Part = encryption, minPart
		if encryption == SSEKMS {
			c.KMSKey = s3test.KMSKey
		}
		d := newDriver(t, c)
		small, large := some(1000), some(2*minPart+1)
		smallFile, largeFile := file(t, small), file(t, large)
		must(t, d.PutContent(t.Context(), "/content", small))
		for range 2 { // no checksum says that the second is the same
			must(t, d.PutFile(t.Context(), "/small", smallFile))
			must(t, d.PutFile(t.Context(), "/large", largeFile))
		}
		must(t, d.Move(t.Context(), "/content", "/moved"))
		w, err := d.Writer(t.Context(), "/written", false)
		must(t, err)
		w.Write(large)
		must(t, w.Commit(t.Context()))
		for path, content := range map[string][]byte{"/moved": small, "/small": small, "/large": large, "/written": large} {
			holds(t, d, path, content)
			info, err := s.Client(t).StatObject(t.Context(), c.Bucket, path[1:], minio.StatObjectOptions{})
			must(t, err)
			if got := info.Metadata.Get("X-Amz-Server-Side-Encryption"); got != want {
				t.Errorf("%s with %s: encrypted by %q", path, encryption, got)
			}
		}
		if left := s.Unfinished(t, c.Bucket); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestOwnAuthority reaches a server whose certificate only the configured authority has signed.
func TestOwnAuthority(t *testing.T) {
	s := s3test.Versitygw(t)
	target, err := url.Parse(s.Endpoint)
	must(t, err)
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}})
	defer front.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600))
	c := config(t, s)
	c.Endpoint = front.URL
	began := time.Now()
	if _, err := New(t.Context(), c); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an authority that nobody knows: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	c.CAFile = ca
	d := newDriver(t, c)
	large := some(17 << 20)
	must(t, d.PutFile(t.Context(), "/large", file(t, large)))
	holds(t, d, "/large", large)
}

// TestStyles looks at the URLs that are made.
func TestStyles(t *testing.T) {
	for name, c := range map[string]struct {
		endpoint string
		style    Style
		want     string
	}{
		"elsewhere":          {"https://s3.example.com:9000", Auto, "https://s3.example.com:9000/bucket/pre/fix/a?"},
		"Amazon":             {"", Auto, "https://bucket.s3.dualstack.eu-north-1.amazonaws.com/pre/fix/a?"},
		"path at Amazon":     {"", Path, "https://s3.dualstack.eu-north-1.amazonaws.com/bucket/pre/fix/a?"},
		"host, as they want": {"https://s3.example.com", VirtualHost, "https://bucket.s3.example.com/pre/fix/a?"},
	} {
		d, err := Open(Config{Endpoint: c.endpoint, Region: "eu-north-1", Bucket: "bucket", Prefix: "/pre/fix/", AccessKey: "a", SecretKey: "b", Style: c.style})
		must(t, err)
		got, err := d.Presign(t.Context(), http.MethodGet, "/a", time.Minute)
		if err != nil || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, %v, want %s", name, got, err, c.want)
		}
	}
}

// TestRoleOfAContainer gets its keys from where a container of ECS or EKS asks for them.
func TestRoleOfAContainer(t *testing.T) {
	s := s3test.Versitygw(t)
	asked := 0
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_ = json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": s.AccessKey, "SecretAccessKey": s.SecretKey, "Token": "",
			"Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "Code": "Success",
		})
	}))
	defer role.Close()
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL)
	c := config(t, s)
	c.AccessKey, c.SecretKey = "", ""
	d := newDriver(t, c)
	must(t, d.PutContent(t.Context(), "/a", []byte("a")))
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	role.Close()
	began := time.Now()
	if _, err := New(t.Context(), c); err == nil || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("no credentials anywhere: %v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}
