package server

import (
	"io"
	"maps"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// maxRanges is how many ranges one request may ask for. Lazy snapshotters ask for a handful;
// each one may cost a request to an upstream, and 64 KiB of header can name ten thousand.
const maxRanges = 32

// unsatisfiable and malformed are what http.ServeContent refuses with 416.
const (
	unsatisfiable = "9223372036854775807-"
	malformed     = "bytes=?"
)

// rangeOf rewrites the value of a Range header for content of the given size into what
// http.ServeContent understands as RFC 9110, section 14 wants it, and says how many ranges
// it has. An empty result means that the header is to be ignored. ServeContent by itself
//
//   - refuses units that it does not know (14.2: they are ignored), and knows "bytes" in lower
//     case only (14.1: units have no case);
//   - answers the suffix of no bytes, "-0", with the impossible "bytes 9-8/9" (14.1.2: it
//     cannot be satisfied), and so any suffix of nothing;
//   - refuses positions that exceed an int64 (14.1.1: the end of the content is meant) and
//     accepts "+1" (there are digits only).
func rangeOf(value string, size int64) (clean string, n int) {
	unit, set, ok := strings.Cut(value, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || size == 0 {
		return "", 0
	}
	if strings.Count(set, ",") >= maxRanges {
		return "", 0
	}
	var b strings.Builder
	b.WriteString("bytes=")
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" {
			continue // an empty list element, which a recipient must accept (5.6.1.2)
		}
		first, last, ok := strings.Cut(spec, "-")
		if !ok || first == "" && last == "" || !digits(first) || !digits(last) {
			return malformed, 0
		}
		if n++; n > 1 {
			b.WriteByte(',')
		}
		if first == "" && position(last) == 0 {
			b.WriteString(unsatisfiable)
			continue
		}
		if first != "" {
			b.WriteString(strconv.FormatInt(position(first), 10))
		}
		b.WriteByte('-')
		if last != "" {
			b.WriteString(strconv.FormatInt(position(last), 10))
		}
	}
	if n == 0 {
		return malformed, 0
	}
	return b.String(), n
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// position is the number that digits make, or the largest there is.
func position(digits string) int64 {
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return v
}

// withRange returns r with another Range header, "" for none. Handlers leave r itself as it is.
func withRange(r *http.Request, value string) *http.Request {
	changed := *r
	changed.Header = maps.Clone(r.Header)
	delete(changed.Header, "Range")
	if value != "" {
		changed.Header["Range"] = []string{value}
	}
	return &changed
}

// parts is content of which several ranges are sent. http.ServeContent reads those in a
// goroutine of its own, which it does not wait for when the client leaves, and in which a
// panic would end the process.
type parts struct {
	mu      sync.Mutex // held while body is read: only stop waits for it, to wait for just that
	body    io.ReadSeeker
	stopped bool
}

// stop waits for the running call, if there is one, and fails the later ones. The request's
// context has ended when ServeContent leaves early, and bounds the call.
func (p *parts) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// Read reads the content until stop is called.
func (p *parts) Read(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer caught(&err)
	if p.stopped {
		return 0, io.ErrClosedPipe
	}
	return p.body.Read(b)
}

// Seek seeks in the content until stop is called.
func (p *parts) Seek(offset int64, whence int) (n int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer caught(&err)
	if p.stopped {
		return 0, io.ErrClosedPipe
	}
	return p.body.Seek(offset, whence)
}

// caught makes an error of a panic.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = &panicError{value: p, stack: debug.Stack()}
	}
}
