package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"roadstead/registry"
)

// cost is what a hash of a password takes.
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// The first of the parameters that OWASP's Password Storage Cheat Sheet has for argon2id. The
// second recommendation of RFC 9106, 64 MiB and three passes, costs five times the time and three
// times the memory: two logins at once would double what a whole server takes, and all the nodes
// of a cluster log in at once after a restart. Measured on a small server: 35 ms of one core.
var usual = cost{memory: 19 << 10, passes: 2, threads: 1}

// hashPassword returns a password in PHC form: "$argon2id$v=19$m=…,t=…,p=…$salt$hash".
func hashPassword(password string, c cost) string {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	hash := argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, 32)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(hash))
}

// matches reports whether a password is that of a hash. Without a hash it does the same work and
// says no, so that nobody learns who has an account here (FAULTS C5).
func matches(stored, password string, otherwise cost) bool {
	c, salt, hash, ok := parseHash(stored)
	if !ok {
		c, salt, hash = otherwise, make([]byte, 16), make([]byte, 32)
	}
	got := argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, uint32(len(hash)))
	return subtle.ConstantTimeCompare(got, hash) == 1 && ok
}

func parseHash(stored string) (c cost, salt, hash []byte, ok bool) {
	fields := strings.Split(stored, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return cost{}, nil, nil, false
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil || c.memory > 1<<20 || c.passes < 1 || c.passes > 100 || c.threads < 1 {
		return cost{}, nil, nil, false
	}
	salt, err := base64.RawStdEncoding.DecodeString(fields[4])
	if err != nil {
		return cost{}, nil, nil, false
	}
	hash, err = base64.RawStdEncoding.DecodeString(fields[5])
	return c, salt, hash, err == nil && len(hash) >= 16
}

// known are passwords that satisfy the rule and that everybody tries first.
var known = []string{"Harbor12345", "Password1", "Password123", "Passw0rd", "Admin123", "Admin1234", "Welcome1", "Changeme1"}

// checkPassword says whether a password may be one, by the rule that Harbor has: 8 to 128
// characters, an upper-case and a lower-case letter and a digit among them.
func checkPassword(password string) error {
	n := utf8.RuneCountInString(password)
	switch {
	case n < 8 || n > maxPassword:
		return improper("password.length", "the password has %d characters: 8 to %d are needed", n, maxPassword)
	case !strings.ContainsFunc(password, unicode.IsUpper), !strings.ContainsFunc(password, unicode.IsLower), !strings.ContainsFunc(password, unicode.IsDigit):
		return improper("password.letters", "the password needs an upper-case letter, a lower-case letter and a digit")
	case slices.Contains(known, password):
		return improper("password.common", "the password is one that everybody tries first: take another")
	}
	return nil
}

// maxPassword is the longest password, in characters.
const maxPassword = 128

// letters are what secrets are made of: nothing that a shell, a URL or a YAML file would take for
// something else.
const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// newSecret makes a secret of 256 bits: 43 of 62 letters. It has an upper-case and a lower-case
// one and a digit, which Harbor's clients insist on.
func newSecret() string {
	for {
		secret := make([]byte, 0, 43)
		var random [64]byte
		for len(secret) < cap(secret) {
			rand.Read(random[:]) // never fails
			for _, b := range random {
				// 248 is the largest multiple of 62 in a byte: what is above would make some
				// letters more likely than others.
				if b < 248 && len(secret) < cap(secret) {
					secret = append(secret, letters[b%62])
				}
			}
		}
		if checkPassword(string(secret)) == nil {
			return string(secret)
		}
	}
}

// sumOf is what of a 256-bit secret is stored and compared. Nobody guesses one of them, so it needs
// no slow hash.
func sumOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Invalid is the code of a value that an administration function does not take.
const Invalid registry.Code = "BAD_REQUEST"

// improper is invalid with the key of its sentence; see registry.Reason.
func improper(key, format string, args ...any) error {
	return registry.Because(Invalid, nil, key, format, args...)
}

func invalid(format string, args ...any) error {
	return &registry.Fault{Code: Invalid, Message: fmt.Sprintf(format, args...)}
}
