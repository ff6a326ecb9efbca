package upstream

import "strings"

// scanner reads the pieces that header fields are made of (RFC 9110 §5.6). Each method takes
// what it names from the front of s and says whether it was there.
type scanner struct{ s string }

// spaces takes optional white space.
func (sc *scanner) spaces() { sc.s = strings.TrimLeft(sc.s, " \t") }

// take takes one character, white space around it too.
func (sc *scanner) take(c byte) bool {
	rest := strings.TrimLeft(sc.s, " \t")
	if rest == "" || rest[0] != c {
		return false
	}
	sc.s = strings.TrimLeft(rest[1:], " \t")
	return true
}

// token takes a token.
func (sc *scanner) token() (string, bool) {
	n := 0
	for n < len(sc.s) && tokenChar(sc.s[n]) {
		n++
	}
	t := sc.s[:n]
	sc.s = sc.s[n:]
	return t, n > 0
}

// value takes a token or a quoted string.
func (sc *scanner) value() (string, bool) {
	if !strings.HasPrefix(sc.s, `"`) {
		return sc.token()
	}
	var b strings.Builder
	escaped := false
	for i := 1; i < len(sc.s); i++ {
		c := sc.s[i]
		switch {
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", false
		case escaped:
			escaped = false
			b.WriteByte(c)
		case c == '"':
			sc.s = sc.s[i+1:]
			return b.String(), true
		case c == '\\':
			escaped = true
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

func tokenChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
