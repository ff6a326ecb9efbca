package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// remoteFlags say which running server a command speaks to, and as whom.
type remoteFlags struct {
	Server       string `placeholder:"URL" help:"The server, such as https://mirror.example.com. Default: that of the configuration, at its \"listen\" address."`
	CA           string `name:"ca" placeholder:"FILE" help:"The PEM file of the authority that has signed its certificate. Default: the system's."`
	Username     string `short:"u" env:"ROADSTEAD_USERNAME" placeholder:"NAME" help:"The user or robot to log in as."`
	PasswordFile string `placeholder:"FILE" help:"The file that the password is in. Default: the variable ROADSTEAD_PASSWORD."`
}

// remotePassword is the variable that holds a password, for what runs in containers.
const remotePassword = "ROADSTEAD_PASSWORD"

// remote is a running server, of which the REST API is asked.
type remote struct {
	base               string // URL without a slash at its end
	username, password string
	client             *http.Client
}

// remote returns the server that the flags or else the configuration say.
func (f remoteFlags) remote(s settings, passwordFile string) (*remote, error) {
	r := &remote{base: strings.TrimSuffix(f.Server, "/"), username: f.Username, password: os.Getenv(remotePassword)}
	if passwordFile != "" {
		text, err := readSmall(passwordFile)
		if err != nil {
			return nil, fmt.Errorf("--password-file: %w", err)
		}
		r.password = strings.TrimRight(string(text), "\r\n")
	}
	if r.username == "" || r.password == "" {
		return nil, fmt.Errorf("whoever has images fetched has to log in; write --username and --password-file, of a user or a robot that may fill the cache (\"roadstead robot add warmer --permission '*:warm'\" makes one), or set ROADSTEAD_USERNAME and %s", remotePassword)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.base == "" {
		cfg, err := s.load()
		if err != nil {
			return nil, err
		}
		if r.base, err = ownAddress(cfg, trust); err != nil {
			return nil, err
		}
	}
	if u, err := url.Parse(r.base); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--server %q is no URL; write one such as https://mirror.example.com", f.Server)
	}
	if f.CA != "" {
		text, err := readSmall(f.CA)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca: there is no certificate in %s; name a PEM file", f.CA)
		}
	}
	// A proxy of the environment is for upstreams, and for servers that are elsewhere.
	transport := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true, ResponseHeaderTimeout: time.Minute}
	if f.Server != "" {
		transport.Proxy = http.ProxyFromEnvironment
	}
	r.client = &http.Client{Transport: transport}
	return r, nil
}

// ownAddress is the URL of the server of this configuration, on this machine. Its certificate is for
// names that need not lead here, and is known: it is trusted as it is.
func ownAddress(cfg Config, trust *tls.Config) (string, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return "", fmt.Errorf("listen %q: %w", cfg.Listen, err)
	}
	switch host { // what listens everywhere listens there too
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	address := net.JoinHostPort(host, port)
	if cfg.TLS.Certificate == "" {
		return "http://" + address, nil
	}
	text, err := readSmall(cfg.TLS.Certificate)
	if err != nil {
		return "", err
	}
	cert, err := readCertificate(cfg.TLS)
	if err != nil {
		return "", err
	}
	trust.RootCAs = x509.NewCertPool()
	trust.RootCAs.AppendCertsFromPEM(text)
	if names := cert.Leaf.DNSNames; len(names) > 0 {
		trust.ServerName = strings.Replace(names[0], "*.", "any.", 1)
	}
	return "https://" + address, nil
}

// answerError is what a server refuses.
type answerError struct {
	status int
	text   string
}

// Error returns what the server says.
func (e *answerError) Error() string { return e.text }

// silent reports whether an error is that a server gives no answer of its own: it is away, or begins, or
// ends.
func silent(err error) bool {
	answer, ok := errors.AsType[*answerError](err)
	return !ok || answer.status == http.StatusServiceUnavailable || answer.status == http.StatusBadGateway || answer.status == http.StatusGatewayTimeout
}

// ask calls the API of ours. body and into may be nil.
func (r *remote) ask(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+"/api/roadstead/v1"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.SetBasicAuth(r.username, r.password)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w; is \"roadstead serve\" running there?", err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, req.URL, err)
	case resp.StatusCode/100 != 2:
		return &answerError{resp.StatusCode, refusal(resp, text)}
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &answerError{resp.StatusCode, fmt.Sprintf("%s is no roadstead: its answer is not JSON", r.base)}
	}
	return nil
}

// refusal is what an answer says is wrong.
func refusal(resp *http.Response, text []byte) string {
	var said struct {
		Errors []struct{ Message string }
	}
	json.Unmarshal(text, &said) // what is none says nothing
	why := ""
	if len(said.Errors) > 0 {
		why = said.Errors[0].Message
	}
	return fmt.Sprintf("%s answers %s: %s", resp.Request.URL.Host, resp.Status, cmp.Or(why, "it is no roadstead, or an older one"))
}
