package upstream

import (
	"fmt"
	"strconv"
	"strings"

	"roadstead/registry"
)

// contentRange is which part of a content an answer holds: the bytes from first to last, both
// inclusive, of total (-1: not known).
type contentRange struct{ first, last, total int64 }

// parseContentRange reads a Content-Range field (RFC 9110 §14.4): "bytes 5-9/10". One that
// says nothing of a part that is there ("bytes */10") is an error here.
func parseContentRange(field string) (contentRange, error) {
	bad := fmt.Errorf("content range %q is not bytes first-last/total", registry.Clip(field))
	unit, rest, ok := strings.Cut(field, " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, bad
	}
	part, whole, ok := strings.Cut(rest, "/")
	if !ok {
		return contentRange{}, bad
	}
	from, to, ok := strings.Cut(part, "-")
	if !ok {
		return contentRange{}, bad
	}
	first, ok1 := number(from)
	last, ok2 := number(to)
	total, ok3 := number(whole)
	if whole == "*" {
		total, ok3 = -1, true
	}
	if !ok1 || !ok2 || !ok3 || last < first || total >= 0 && last >= total {
		return contentRange{}, bad
	}
	return contentRange{first, last, total}, nil
}

// number reads digits only; strconv would take a sign as well.
func number(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
