package access

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// tokenLife is how long a token is good for. Nobody waits for its end: what is taken from an
	// account is gone at once (FAULTS C14).
	tokenLife = 5 * time.Minute

	// leeway is how wrong the clocks of two nodes may be.
	leeway = time.Minute

	// maxToken is the longest token that is looked at, in bytes (FAULTS C16).
	maxToken = 8 << 10

	// service is who tokens are for, in challenges and in the tokens themselves.
	service = "roadstead"
)

// claims are what a token says beside the registered claims: distribution's "access", and which
// account it is of. The name alone would be that of whoever comes next by the same name, too.
type claims struct {
	Access []grant `json:"access"`
	Kind   kind    `json:"kind,omitempty"`
	ID     int64   `json:"id,omitempty"`
}

// issue makes a token. It is Unavailable for as long as no key has been read.
func (a *Access) issue(p *principal, access []grant, now time.Time) (string, error) {
	key := a.keys.now.Load().newest
	if key == nil {
		return "", errUnsure // keys are where accounts are
	}
	token, err := jwt.Signed(key.signer).Claims(jwt.Claims{
		Issuer: service, Audience: jwt.Audience{service}, Subject: p.name, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
	}).Claims(claims{Access: access, Kind: p.kind, ID: p.id}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}

// bearer says whom a token is of. To verify a signature takes as long as a whole hit, so a token
// is verified once.
func (a *Access) bearer(token string) *principal {
	if len(token) > maxToken {
		return unfit
	}
	now := time.Now()
	if v, ok := a.verified.look(token); ok {
		if now.After(v.until) {
			return unfit
		}
		return v.principal
	}
	p, until, err := a.verify(token, now)
	if err != nil {
		return unfit
	}
	a.verified.add(token, verifiedToken{p, until})
	return p
}

// verify checks a token. Its first part has to be, byte for byte, what one of our keys puts
// there: no algorithm is chosen by it, no key comes with it, and no parameter is understood that
// is not ours (FAULTS B4, C16).
func (a *Access) verify(token string, now time.Time) (*principal, time.Time, error) {
	header, _, _ := strings.Cut(token, ".")
	key := a.keys.signed(header)
	if key == nil {
		return nil, time.Time{}, errors.New("signed with no key of ours")
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, time.Time{}, err
	}
	var (
		standard jwt.Claims
		ours     claims
	)
	if err := parsed.Claims(key.public, &standard, &ours); err != nil {
		return nil, time.Time{}, err
	}
	if standard.Expiry == nil || standard.IssuedAt == nil {
		return nil, time.Time{}, errors.New("it has no end")
	}
	if err := standard.ValidateWithLeeway(jwt.Expected{Issuer: service, AnyAudience: jwt.Audience{service}, Time: now}, leeway); err != nil {
		return nil, time.Time{}, err
	}
	p := &principal{name: standard.Subject, kind: ours.Kind, id: ours.ID, grants: newGrants(ours.Access)}
	return p, standard.Expiry.Time().Add(leeway), nil
}

// verified are tokens that were found good. The map finds them by a hash that nobody outside can
// compute, and so tells nothing of them by the time it takes.
type verified struct {
	mu  sync.Mutex
	all *simplelru.LRU[string, verifiedToken]
}

type verifiedToken struct {
	principal *principal
	until     time.Time
}

// maxVerified is how many tokens are remembered: one for each node and repository that is pulled
// within five minutes. They take about 1 KiB each.
const maxVerified = 1 << 14

func newVerified() *verified {
	all, err := simplelru.NewLRU[string, verifiedToken](maxVerified, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &verified{all: all}
}

func (v *verified) look(token string) (verifiedToken, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all.Get(token)
}

func (v *verified) add(token string, t verifiedToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all.Add(token, t)
}
