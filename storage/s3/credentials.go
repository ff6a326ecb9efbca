package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// credentials are those that the configuration names, or those that the surroundings have.
func (c Config) credentials(t http.RoundTripper) *credentials.Credentials {
	switch {
	case c.SecretFile != "":
		return credentials.New(&watched{file: c.SecretFile, read: func(*credentials.CredContext) (credentials.Value, error) {
			secret, err := readSecret(c.SecretFile)
			return static(c.AccessKey, secret, c.SessionToken), err
		}})
	case c.AccessKey != "":
		return credentials.New(&credentials.Static{Value: static(c.AccessKey, c.SecretKey, c.SessionToken)})
	case c.CredentialsFile != "":
		return credentials.New(&watched{file: c.CredentialsFile, read: func(cc *credentials.CredContext) (credentials.Value, error) {
			v, err := (&credentials.FileAWSCredentials{Filename: c.CredentialsFile, Profile: c.Profile}).RetrieveWithCredContext(cc)
			if err == nil && v.AccessKeyID == "" {
				err = fmt.Errorf("%s has no keys in the profile", c.CredentialsFile)
			}
			return v, err
		}})
	}
	return credentials.New(&lastResort{credentials.Chain{Providers: []credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.FileAWSCredentials{Profile: c.Profile},
		// On a machine that has no role nobody answers.
		&credentials.IAM{Client: &http.Client{Transport: t, Timeout: 5 * time.Second}},
	}}})
}

func static(access, secret, token string) credentials.Value {
	return credentials.Value{AccessKeyID: access, SecretAccessKey: secret, SessionToken: token, SignerType: credentials.SignatureV4}
}

// lastResort refuses what a chain says when none of it has credentials: to ask anonymously, for
// which the server's answer would be that access is denied.
type lastResort struct{ credentials.Chain }

var errNoCredentials = errors.New("no credentials for the bucket were found: give access_key and secret_key_file, a credentials_file, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or an IAM role to this machine")

// RetrieveWithCredContext is Retrieve.
func (l *lastResort) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := l.Chain.RetrieveWithCredContext(cc)
	if err == nil && v.AccessKeyID == "" {
		err = errNoCredentials
	}
	return v, err
}

// watched are credentials in a file that somebody may write anew, because keys are rotated.
type watched struct {
	file string
	read func(*credentials.CredContext) (credentials.Value, error)

	seen time.Time // when the file that was read had been written
}

// Retrieve is what the interface still has for those who call it without a context.
func (w *watched) Retrieve() (credentials.Value, error) { return w.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext reads the file. credentials.Credentials calls it and IsExpired one at a
// time.
func (w *watched) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	info, err := os.Stat(w.file)
	if err != nil {
		return credentials.Value{}, err
	}
	v, err := w.read(cc)
	if err == nil {
		w.seen = info.ModTime()
	}
	return v, err
}

// IsExpired is asked before each request. A file that is gone leaves what was read in force.
func (w *watched) IsExpired() bool {
	info, err := os.Stat(w.file)
	return w.seen.IsZero() || err == nil && !info.ModTime().Equal(w.seen)
}

func readSecret(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return "", err
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return "", fmt.Errorf("%s is empty", file)
	}
	return string(b), nil
}
