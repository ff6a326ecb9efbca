package upstream

import "strings"

// nextLink finds the target of rel="next" in the Link fields of an answer (RFC 8288 §3). It
// is empty when there is none.
func nextLink(fields []string) string {
	for _, field := range fields {
		sc := &scanner{field}
		for sc.commas(); sc.s != ""; sc.commas() {
			target, rel, ok := sc.link()
			if !ok {
				break
			}
			for word := range strings.FieldsSeq(rel) {
				if strings.EqualFold(word, "next") {
					return target
				}
			}
		}
	}
	return ""
}

func (sc *scanner) link() (target, rel string, ok bool) {
	if !strings.HasPrefix(sc.s, "<") {
		return "", "", false
	}
	end := strings.IndexByte(sc.s, '>')
	if end < 0 {
		return "", "", false
	}
	target = sc.s[1:end]
	sc.s = sc.s[end+1:]
	related := false
	for sc.take(';') {
		name, ok := sc.token()
		if !ok {
			continue // an empty parameter
		}
		value := ""
		if sc.take('=') {
			if value, ok = sc.value(); !ok {
				return "", "", false
			}
		}
		// "rel" counts once (RFC 8288 §3.3).
		if strings.EqualFold(name, "rel") && !related {
			rel, related = value, true
		}
	}
	sc.spaces()
	return target, rel, sc.s == "" || sc.s[0] == ','
}
