package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Credentials say who we are to an upstream. The zero value is nobody. The user "<token>" has
// an identity token for a password, as Docker's credential helpers mean it.
type Credentials struct {
	Username string
	Password string

	// PasswordFile holds the password in place of Password. A line break at its end does not
	// belong to it. The file is read again when the password is older than a minute or was
	// refused, so it may be changed in place.
	PasswordFile string

	// Helper is the name of a Docker credential helper in place of all the rest: "ecr-login"
	// is the program docker-credential-ecr-login.
	Helper string
}

// secret is what credentials come to at one moment. The zero value is nobody's.
type secret struct{ username, password string }

// identity says whether the password is an identity token.
func (s secret) identity() bool { return s.username == "<token>" }

// How long credentials that have to be fetched are believed.
const (
	// A changed file is noticed at the latest when the old password is refused.
	keepFile = time.Minute
	// Helpers renew what they hand out by themselves, minutes before it ends.
	keepHelper = 5 * time.Minute
	// A helper that fails would otherwise be run for every request.
	keepFailure = 5 * time.Second
)

// keyring fetches credentials and keeps them for a while.
type keyring struct {
	Credentials
	fetched shared[secret] // by server
}

// check says what is wrong with the credentials as far as that can be known without using
// them.
func (k *keyring) check() error {
	switch {
	case k.Helper != "" && (k.Username != "" || k.Password != "" || k.PasswordFile != ""):
		return errors.New("a credential helper and a username or password are both given")
	case k.Helper != "":
		return checkHelper(k.Helper)
	case k.Password != "" && k.PasswordFile != "":
		return errors.New("a password and a password file are both given")
	case k.Username == "" && (k.Password != "" || k.PasswordFile != ""):
		return errors.New("a password without a username")
	case k.Username != "" && k.Password == "" && k.PasswordFile == "":
		return errors.New("a username without a password")
	}
	if k.PasswordFile != "" {
		_, err := readPassword(k.PasswordFile)
		return err
	}
	return nil
}

// secret returns what to show to the registry on a host, "registry.example:5000".
func (k *keyring) secret(ctx context.Context, host string) (secret, error) {
	switch {
	case k.Helper != "":
		return k.fetched.get(ctx, host, func(ctx context.Context) (secret, time.Duration, error) {
			s, err := askHelper(ctx, k.Helper, helperKey(host))
			if err != nil {
				return secret{}, keepFailure, err
			}
			return s, keepHelper, nil
		})
	case k.PasswordFile != "":
		return k.fetched.get(ctx, host, func(context.Context) (secret, time.Duration, error) {
			password, err := readPassword(k.PasswordFile)
			if err != nil {
				return secret{}, keepFailure, err
			}
			return secret{k.Username, password}, keepFile, nil
		})
	}
	return secret{k.Username, k.Password}, nil
}

// refused makes the next call of secret fetch again.
func (k *keyring) refused(host string, s secret) {
	k.fetched.forget(host, func(was secret) bool { return was == s })
}

func readPassword(name string) (string, error) {
	const most = 1 << 20 // no token is longer
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	if info.Size() > most {
		return "", fmt.Errorf("password file %s is %d bytes long", name, info.Size())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	password := strings.TrimRight(string(b), "\r\n")
	if password == "" {
		return "", fmt.Errorf("password file %s is empty", name)
	}
	return password, nil
}
