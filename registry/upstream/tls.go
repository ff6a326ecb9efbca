package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// tlsConfig trusts the system's authorities and those in caFile.
func tlsConfig(caFile string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: insecure,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	// Redirects lead to public hosts, so the system's authorities still count. Where it has
	// none (a scratch container), the file's are all there are.
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authorities: %s holds no PEM certificate", caFile)
	}
	config.RootCAs = pool
	return config, nil
}
