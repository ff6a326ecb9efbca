package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// tlsConfig trusts the system's authorities and those in ca, or in caFile.
func tlsConfig(caFile, ca string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: insecure,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	pem, from := []byte(ca), "what was given"
	switch {
	case ca != "":
	case caFile == "":
		return config, nil
	default:
		var err error
		if pem, err = os.ReadFile(caFile); err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		from = caFile
	}
	// Redirects lead to public hosts, so the system's authorities still count. Where it has
	// none (a scratch container), the file's are all there are.
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authorities: %s holds no PEM certificate", from)
	}
	config.RootCAs = pool
	return config, nil
}
