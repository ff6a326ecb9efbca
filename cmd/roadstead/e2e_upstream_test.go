package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An upstream is a stock distribution registry: a process, and the directory that it serves.
type upstream struct {
	*process
	addr string // "127.0.0.1:port"
	url  string
	dir  string // below it is docker/registry/v2
	ca   string // the file with what signed its certificate; "" without TLS
}

// upstreamConfig says how an upstream differs from an open one over plain HTTP.
type upstreamConfig struct {
	dir    string // what it serves; zero: an empty directory
	tls    bool
	tokens *tokenServer   // who may pull; nil: everybody
	bucket map[string]any // instead of a directory, in the words of its s3 driver
}

// startUpstream starts a registry and waits until it answers.
func startUpstream(t testing.TB, c upstreamConfig) *upstream {
	t.Helper()
	program := need(t, "registry")
	home := t.TempDir()
	u := &upstream{addr: freeAddress(t), dir: c.dir}
	if u.dir == "" {
		u.dir = filepath.Join(home, "data")
	}
	u.url = "http://" + u.addr
	web := map[string]any{"addr": u.addr, "secret": "nobody's"}
	client := http.DefaultClient
	if c.tls {
		cert := newCertificate(t, home)
		u.url, u.ca = "https://"+u.addr, cert.file
		web["tls"] = map[string]any{"certificate": cert.file, "key": cert.key}
		client = newHTTPClient(cert.pool)
	}
	config := map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "warn", "accesslog": map[string]any{"disabled": true}},
		"http":    web,
		// Layers that live elsewhere are named by their URLs, which it refuses unless told so.
		"validation": map[string]any{"manifests": map[string]any{"urls": map[string]any{"allow": []string{"^https://"}}}},
		"storage": map[string]any{
			"filesystem": map[string]any{"rootdirectory": u.dir},
			"delete":     map[string]any{"enabled": true},
			// Its sweeper is for those who run it for a week.
			"maintenance": map[string]any{"uploadpurging": map[string]any{"enabled": false}},
		},
	}
	if c.bucket != nil {
		store := config["storage"].(map[string]any)
		delete(store, "filesystem")
		store["s3"], store["redirect"] = c.bucket, map[string]any{"disable": true}
	}
	if c.tokens != nil {
		config["auth"] = map[string]any{"token": map[string]any{
			"realm": c.tokens.realm, "service": tokenService, "issuer": tokenIssuer, "rootcertbundle": c.tokens.cert.file,
		}}
	}
	u.process = start(t, home, "registry", program, "serve", writeJSON(t, filepath.Join(home, "config.yml"), config))
	waitForHTTP(t, u.process, client, u.url+"/v2/")
	return u
}

// waitForHTTP waits until a server answers anything at all.
func waitForHTTP(t testing.TB, p *process, client *http.Client, url string) {
	t.Helper()
	eventually(t, 20*time.Second, "an answer from "+p.name, func() bool {
		if p.ended(0) {
			t.Fatalf("%s ended: %v\n%s", p.name, p.err, tail(p.log, 4<<10))
		}
		res, err := client.Get(url)
		if err != nil {
			return false
		}
		res.Body.Close()
		return true
	})
}

// writeJSON writes a configuration as JSON, which is YAML too.
func writeJSON(t testing.TB, path string, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// push puts an image where clients find it as repo: its blobs, its manifests from the leaves
// up, and its tags. It asks for no token: give it an open upstream on the same directory.
func (u *upstream) push(t testing.TB, repo string, img *image) {
	t.Helper()
	for _, d := range img.blobOrder {
		c := img.blobs[d]
		u.send(t, http.MethodPut, u.uploadURL(t, repo, string(d)), "application/octet-stream", c.open(t), c.size)
	}
	for _, m := range img.manifests {
		u.pushManifest(t, repo, string(m.digest), m)
	}
	for tag, m := range img.tags {
		u.pushManifest(t, repo, tag, m)
	}
}

func (u *upstream) pushManifest(t testing.TB, repo, ref string, m manifest) {
	t.Helper()
	u.send(t, http.MethodPut, u.url+"/v2/"+repo+"/manifests/"+ref, m.mediaType, io.NopCloser(bytes.NewReader(m.bytes)), int64(len(m.bytes)))
}

// uploadURL opens an upload and returns where its one piece goes.
func (u *upstream) uploadURL(t testing.TB, repo, digest string) string {
	t.Helper()
	header := u.send(t, http.MethodPost, u.url+"/v2/"+repo+"/blobs/uploads/", "", http.NoBody, 0)
	location, err := url.Parse(header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	query := location.Query()
	query.Set("digest", digest)
	location.RawQuery = query.Encode()
	return location.String()
}

func (u *upstream) send(t testing.TB, method, url, mediaType string, body io.ReadCloser, size int64) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s\n%s", method, url, res.Status, text)
	}
	return res.Header
}

// A certificate is one for 127.0.0.1 that has signed itself.
type certificate struct {
	file, key string // PEM
	der       []byte
	signer    *ecdsa.PrivateKey
	pool      *x509.CertPool
}

func newCertificate(t testing.TB, dir string) *certificate {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "roadstead tests"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	c := &certificate{file: filepath.Join(dir, "ca.crt"), key: filepath.Join(dir, "server-key.pem"), der: der, signer: signer, pool: x509.NewCertPool()}
	for path, block := range map[string]*pem.Block{c.file: {Type: "CERTIFICATE", Bytes: der}, c.key: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c.pool.AddCert(parsed)
	return c
}

// project is the part of Roadstead's configuration that makes this upstream a project of its.
func (u *upstream) project(more map[string]any) map[string]any {
	p := project(u.url, nil)
	if u.ca != "" {
		p["ca_file"] = u.ca
	}
	maps.Copy(p, more)
	return p
}

// project is a project with an upstream on the loopback, which has to be allowed. Every tag is
// asked for upstream, so that no test waits for a record to grow old.
func project(endpoint string, more map[string]any) map[string]any {
	p := map[string]any{"endpoints": []string{endpoint}, "allow_private": true, "ttl": "0s", "negative_ttl": "0s"}
	maps.Copy(p, more)
	return p
}
