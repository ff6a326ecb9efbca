package registrytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// Authority is a certificate authority that nobody knows.
type Authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// Leaf is what a certificate is made for. The zero value is a valid one for 127.0.0.1 only.
type Leaf struct {
	Names  []string  // DNS names and IP addresses beside 127.0.0.1
	Only   bool      // leave 127.0.0.1 out
	Until  time.Time // zero: tomorrow
	Client bool      // for a client instead of a server
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	var der []byte
	a.key, der = a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "registrytest"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("registrytest: authority: %v", err)
	}
	a.cert = cert
	return a
}

// PEM is the authority's own certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Pool holds the authority only.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue makes a certificate and its key, both PEM.
func (a *Authority) Issue(leaf Leaf) (certificate, key []byte) {
	a.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, NotAfter: leaf.Until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if leaf.Until.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if leaf.Client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	names := leaf.Names
	if !leaf.Only {
		names = append([]string{"127.0.0.1"}, names...)
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	private, der := a.make(template)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatalf("registrytest: key: %v", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// Server is the TLS configuration of a server with such a certificate.
func (a *Authority) Server(leaf Leaf) *tls.Config {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.Issue(leaf))
	if err != nil {
		a.t.Fatalf("registrytest: certificate: %v", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// make signs a template, with itself when there is no authority yet.
func (a *Authority) make(template *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatalf("registrytest: key: %v", err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatalf("registrytest: serial number: %v", err)
	}
	template.NotBefore = time.Now().Add(-48 * time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatalf("registrytest: certificate: %v", err)
	}
	return key, der
}
