package peer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Secret is what the nodes of a cluster have in common and nobody else has. It never leaves a node:
// requests carry a keyed hash of what they ask for.
type Secret string

// LeastSecret is how long a secret has to be, in bytes.
const LeastSecret = 16

// String keeps the secret out of logs.
func (Secret) String() string { return "[secret]" }

// GoString does too.
func (Secret) GoString() string { return "[secret]" }

// signature is the header of a request between nodes: "<node>;<Unix seconds>;<hex HMAC-SHA256>".
const signature = "Roadstead-Node"

// leeway is how far the clocks of two nodes may differ. Within it a request that somebody has
// overheard could be made again, for what he has then overheard already.
const leeway = time.Minute

// sign has a request prove that it is this node's.
func (s Secret) sign(r *http.Request, node string, now time.Time) {
	at := strconv.FormatInt(now.Unix(), 10)
	r.Header.Set(signature, node+";"+at+";"+s.mac(r, node, at))
}

// mac hashes what a request does. Its parts cannot contain the line ends between them. A body is not
// among them: it is a piece of an upload, which is good for nothing unless all of it has the digest
// that it ends with.
func (s Secret) mac(r *http.Request, node, at string) string {
	h := hmac.New(sha256.New, []byte(s))
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%s\n%d", node, at, r.Method, r.URL.RequestURI(), r.Header.Get("Range"), r.ContentLength)
	return hex.EncodeToString(h.Sum(nil))
}

var errUnsigned = errors.New("it is not signed by a node of this cluster")

// signer returns the node that has signed a request.
func (s Secret) signer(r *http.Request, now time.Time) (node string, err error) {
	parts := strings.Split(r.Header.Get(signature), ";")
	if len(parts) != 3 {
		return "", errUnsigned
	}
	node, at, mac := parts[0], parts[1], parts[2]
	if !hmac.Equal([]byte(mac), []byte(s.mac(r, node, at))) {
		return "", errUnsigned
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return "", errUnsigned
	}
	// Only who has the secret gets to know this.
	if away := now.Sub(time.Unix(seconds, 0)); away.Abs() > leeway {
		return "", fmt.Errorf("the clock of node %s is %s away from this one's: have both set by NTP", node, away.Round(time.Second))
	}
	return node, nil
}
