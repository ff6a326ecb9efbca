package upstream

import "strings"

// challenge is one way to authenticate that a server offers.
type challenge struct {
	scheme  string // lower case
	token68 string // in place of parameters
	params  map[string]string
}

// parseChallenges reads the WWW-Authenticate fields of an answer (RFC 9110 §11.6.1). Commas
// separate both challenges and their parameters, so a word is a parameter's name when "="
// and a value follow and a scheme when not. What cannot be read ends its field: the
// challenges before it count.
func parseChallenges(fields []string) []challenge {
	var all []challenge
	for _, field := range fields {
		sc := &scanner{field}
		sc.spaces()
		for sc.s != "" {
			if sc.take(',') {
				continue
			}
			c, ok := sc.challenge()
			if !ok {
				break
			}
			all = append(all, c)
		}
	}
	return all
}

func (sc *scanner) challenge() (challenge, bool) {
	scheme, ok := sc.token()
	c := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
	if !ok {
		return c, false
	}
	if sc.s == "" || sc.s[0] == ',' {
		return c, true
	}
	if sc.s[0] != ' ' && sc.s[0] != '\t' {
		return c, false
	}
	sc.spaces()
	if t, ok := sc.token68(); ok {
		c.token68 = t
		return c, true
	}
	for {
		before := sc.s
		name, ok := sc.token()
		if !ok || !sc.take('=') {
			// No parameter: the next challenge, or nothing.
			sc.s = before
			return c, ok || before == ""
		}
		value, ok := sc.value()
		if !ok {
			return c, false
		}
		name = strings.ToLower(name)
		// A name that is there twice is an error of the sender; the first one counts, so that
		// nothing appended to a header changes what it said.
		if _, twice := c.params[name]; !twice {
			c.params[name] = value
		}
		if !sc.commas() {
			return c, sc.s == ""
		}
	}
}

// commas takes the separators before the next element; empty elements are allowed (RFC 9110
// §5.6.1.2).
func (sc *scanner) commas() bool {
	found := false
	for sc.take(',') {
		found = true
	}
	sc.spaces()
	return found
}

// token68 takes credentials in one piece: they end where the challenge does, which is what
// tells "a=" from the start of "a=b".
func (sc *scanner) token68() (string, bool) {
	n := 0
	for n < len(sc.s) && (tokenChar(sc.s[n]) && strings.IndexByte("!#$%&'*^`|", sc.s[n]) < 0 || sc.s[n] == '/') {
		n++
	}
	if n == 0 {
		return "", false
	}
	for n < len(sc.s) && sc.s[n] == '=' {
		n++
	}
	rest := strings.TrimLeft(sc.s[n:], " \t")
	if rest != "" && rest[0] != ',' {
		return "", false
	}
	t := sc.s[:n]
	sc.s = rest
	return t, true
}
