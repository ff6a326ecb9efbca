package access

import (
	"roadstead/registry"
)

// kind is what sort of account a principal is.
type kind string

const (
	anybody kind = ""
	aUser   kind = "user"
	aRobot  kind = "robot"
)

// principal is who sent a request. It says who that is and not what it may: the account is looked
// up again for each decision, so that what is taken away is gone at once.
type principal struct {
	name string // as in the log and at the registry.Principal
	kind kind
	id   int64 // of the user or robot

	// grants are what the token that came with the request is good for; nil without a token.
	// Neither the token nor the account alone allows anything.
	grants *grants

	// refusal says why the credentials that came with the request count for nothing. Such a
	// principal is anybody, and what anybody may not is refused with this.
	refusal error
}

// Name is how the principal is called; "" for anybody.
func (p *principal) Name() string { return p.name }

// anyone is who sends no credentials.
var anyone = &principal{}

// of returns the principal that Identify has made. One of somebody else's making is anybody.
func of(p registry.Principal) *principal {
	if p, ok := p.(*principal); ok && p != nil {
		return p
	}
	return anyone
}

// wrong is who sends credentials that are not right: unknown, wrong, disabled and expired ones
// look alike (FAULTS C5).
var wrong = &principal{refusal: &registry.Fault{Code: registry.Unauthorized, Message: "the user name or password is wrong, or the account is disabled or expired"}}

// unfit is who sends a token that is no good: expired, forged, or of an account that has gone.
var unfit = &principal{refusal: &registry.Fault{Code: registry.Unauthorized, Message: "the token is not valid or has expired"}}
