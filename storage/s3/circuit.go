package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// circuit keeps those who wait for a server that gives no answer from each finding that out for himself:
// thousands of pulls that wait for it would be as good as an outage of what can be had without it. It is
// for Config.Hasty; others would rather wait.
type circuit struct {
	mu      sync.Mutex
	open    bool      // the last call had no answer, and no other one had since it began
	last    time.Time // when an answer came
	retry   time.Time // nobody asks before that while it is open
	probing *call     // asks while it is open
}

// pause is how long nobody asks a server that did not answer. After it one call goes out, and the others
// end at once until that has an answer.
const pause = time.Second

// errMoment ends calls that need not be made.
var errMoment = errors.New("the server gave no answer a moment ago")

// admit reports whether a call may ask the server.
func (c *circuit) admit(one *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open || c.probing == one {
		return true
	}
	if c.probing != nil || time.Now().Before(c.retry) {
		return false
	}
	c.probing = one
	return true
}

// isOpen reports whether a call is to give up instead of trying again.
func (c *circuit) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// answered closes the circuit.
func (c *circuit) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.probing, c.last = false, nil, time.Now()
}

// ended notes the end of a call. One that had no answer opens the circuit, unless others had one meanwhile:
// then it is not the server that is silent. One whose caller left before that says nothing.
func (c *circuit) ended(one *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one.failed.Load() && !one.answered.Load() && !c.last.After(one.began) {
		c.open, c.retry = true, time.Now().Add(pause)
	}
	if c.probing == one {
		c.probing = nil
	}
}

type patientKey struct{}

// Patient is a ctx whose calls are never in haste.
func (d *Driver) Patient(ctx context.Context) context.Context {
	return context.WithValue(ctx, patientKey{}, true)
}

// troubled reports whether an answer is that of a server that could not do what it was asked for.
func troubled(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Away reports whether an error of a driver is that of a server that gave no answer or could not, which
// may be otherwise soon. One that has refused something, or that cannot be trusted, is not away.
func Away(err error) bool {
	if wrapped, ok := errors.AsType[storagedriver.Error](err); ok {
		err = wrapped.Detail // which it does not unwrap
	}
	if r, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return troubled(r.StatusCode)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	return ofNetwork(err) || errors.Is(err, errStalled) || errors.Is(err, errMoment) || errors.Is(err, context.DeadlineExceeded)
}

// Ours reports whether an error is one of a driver of this package.
func Ours(err error) bool {
	e, ok := errors.AsType[storagedriver.Error](err)
	return ok && e.DriverName == name
}

// ofNetwork goes by the types of net, not by what these can do: the number of an error of the system is a
// net.Error too, be it of a file.
func ofNetwork(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	// What a client makes of all that goes wrong between a request and its answer, an end without one too.
	// A file that the request needed and that cannot be read is no matter of the network.
	u, asked := errors.AsType[*url.Error](err)
	_, file := errors.AsType[*fs.PathError](err)
	return asked && u.Op != "parse" && !file
}
