package registries

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// basic reads what stands between the quotes of a basic string of TOML 1.0, where K3s pastes patterns
// and replacements as they are. A quotation mark is an error even where what follows is a comment to
// TOML.
func basic(s string) (string, error) {
	var b strings.Builder
	for s != "" {
		c, size := utf8.DecodeRuneInString(s)
		switch {
		case c == utf8.RuneError && size == 1:
			return "", errors.New("it is not UTF-8")
		case c == '"':
			return "", errors.New(`a quotation mark (") ends the string in hosts.toml`)
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", fmt.Errorf("the control character %q cannot be in a string of hosts.toml", c)
		case c != '\\':
			b.WriteRune(c)
			s = s[size:]
			continue
		}
		text, n, err := escape(s)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		s = s[n:]
	}
	return b.String(), nil
}

// escapes are the short ones.
var escapes = map[byte]string{'b': "\b", 't': "\t", 'n': "\n", 'f': "\f", 'r': "\r", '"': `"`, '\\': `\`}

// escape reads the escape that s begins with and says how long it is.
func escape(s string) (text string, n int, err error) {
	if len(s) < 2 {
		return "", 0, errors.New(`the backslash at its end takes the closing quotation mark of hosts.toml with it`)
	}
	if text, ok := escapes[s[1]]; ok {
		return text, 2, nil
	}
	digits := map[byte]int{'u': 4, 'U': 8}[s[1]]
	if digits > 0 && len(s) >= 2+digits {
		code, err := strconv.ParseUint(s[2:2+digits], 16, 32)
		if err == nil && utf8.ValidRune(rune(code)) {
			return string(rune(code)), 2 + digits, nil
		}
	}
	c, _ := utf8.DecodeRuneInString(s[1:])
	return "", 0, fmt.Errorf(`"\%c" is no escape of TOML`, c)
}

// decoded are the rules of a mirror as containerd reads them from hosts.toml, or why it cannot, with
// the rule that is to blame.
func decoded(rules []Rewrite) (all []Rewrite, blame *Rewrite, err error) {
	seen := map[string]bool{}
	for i := range rules {
		r := rules[i]
		if r.Pattern, err = basic(r.Pattern); err != nil {
			return nil, &rules[i], err
		}
		if r.Replace, err = basic(r.Replace); err != nil {
			return nil, &rules[i], err
		}
		if seen[r.Pattern] {
			return nil, &rules[i], errors.New("the same pattern is there twice, in two spellings")
		}
		seen[r.Pattern] = true
		all = append(all, r)
	}
	return all, nil, nil
}
