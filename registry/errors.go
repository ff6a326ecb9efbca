package registry

import (
	"errors"
	"fmt"
	"time"
)

// Code is the kind of an error, and itself an error. The upper-case ones are the codes of
// the OCI distribution specification 1.1, "Error Codes", and go to clients as they are.
type Code string

// Error returns the code.
func (c Code) Error() string { return string(c) }

// The codes of the specification that a registry in the house may answer with.
const (
	BlobUnknown         Code = "BLOB_UNKNOWN"
	BlobUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	BlobUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	DigestInvalid       Code = "DIGEST_INVALID"
	ManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	ManifestInvalid     Code = "MANIFEST_INVALID"
	ManifestUnknown     Code = "MANIFEST_UNKNOWN"
	NameInvalid         Code = "NAME_INVALID"
	NameUnknown         Code = "NAME_UNKNOWN"
	SizeInvalid         Code = "SIZE_INVALID"
	TagInvalid          Code = "TAG_INVALID"
	Unauthorized        Code = "UNAUTHORIZED"
	Denied              Code = "DENIED"
	Unsupported         Code = "UNSUPPORTED"
	TooManyRequests     Code = "TOOMANYREQUESTS"
	PaginationInvalid   Code = "PAGINATION_NUMBER_INVALID" // distribution's own, which clients know
	RangeInvalid        Code = "RANGE_INVALID"             // the same
)

// Kinds that the specification does not name.
const (
	// Unavailable means that upstream, or whatever else was asked, gave no answer. This is
	// what permits a stale one.
	Unavailable Code = "UNAVAILABLE"

	// Throttled means that upstream refused to answer yet. It permits a stale answer too, and
	// without one it reaches the client as 429 with Retry-After.
	Throttled Code = "THROTTLED"

	// Conflict means that somebody else is at the same upload now.
	Conflict Code = "CONFLICT"

	// TooLarge means that what is being pushed is beyond a limit or a quota, Full that the
	// storage has no room for it.
	TooLarge Code = "TOO_LARGE"
	Full     Code = "INSUFFICIENT_STORAGE"
)

// Fault is an error that knows what its client should be told. It matches its Code and
// whatever Err matches.
type Fault struct {
	Code    Code
	Message string // for the client: what is wrong and what to do; never a path, address or secret

	// RetryAfter is when asking again makes sense. Zero means that nothing is known of it.
	RetryAfter time.Duration

	// Answered says that an Unavailable upstream did answer, with something that is of no use:
	// that tells nothing of its other answers.
	Answered bool

	// Timeout makes an Unavailable fault a 504 instead of a 503.
	Timeout bool

	Err error // for the log only; may be nil
}

// Error returns the text for the log: the message and the cause.
func (f *Fault) Error() string {
	text := string(f.Code)
	if f.Message != "" {
		text = f.Message
	}
	err := f.Err
	if reason, ok := err.(*Reason); ok {
		err = reason.Err // the message is the sentence that its key stands for
	}
	if err != nil {
		text += ": " + err.Error()
	}
	return text
}

// Unwrap makes errors.Is(f, f.Code) and errors.Is(f, what f.Err is) true.
func (f *Fault) Unwrap() []error {
	if f.Err == nil {
		return []error{f.Code}
	}
	return []error{f.Code, f.Err}
}

// Reason is what a Fault is about, for whoever says it in another language than that of its message:
// a key that stays the same, and what goes into the gaps of the sentence, in their order.
type Reason struct {
	Key  string
	Args []any
	Err  error // for errors.Is and errors.As; nil: nothing else is known
}

// Because makes a Fault with a reason. Its message is the English sentence, with the gaps filled.
func Because(code Code, err error, key, format string, args ...any) error {
	return &Fault{Code: code, Message: fmt.Sprintf(format, args...), Err: &Reason{Key: key, Args: args, Err: err}}
}

// Error is that of Err, or the key.
func (r *Reason) Error() string {
	if r.Err != nil {
		return r.Err.Error()
	}
	return r.Key
}

// Unwrap returns Err.
func (r *Reason) Unwrap() error { return r.Err }

// Unknown reports whether err says that the thing asked for does not exist, as opposed to not
// being available now.
func Unknown(err error) bool {
	return errors.Is(err, BlobUnknown) || errors.Is(err, ManifestUnknown) || errors.Is(err, NameUnknown)
}

// Passing reports whether err may go away by itself, so that an older answer is better than
// the error.
func Passing(err error) bool {
	return errors.Is(err, Unavailable) || errors.Is(err, Throttled)
}
