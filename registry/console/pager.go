package console

import (
	"net/url"
	"strconv"

	"roadstead/storage/catalog"
)

// pageSize is how many rows a page has.
const pageSize = 50

// pager leads through the pages of a list.
type pager struct {
	Pages, From, To, Total int
	Previous, Next         string // addresses; "" at either end
}

// slice is the part of a list that the address asks for.
func (v *visit) slice() catalog.Page {
	n, err := strconv.Atoi(v.r.URL.Query().Get("page"))
	if err != nil || n < 1 || n > 1<<20 {
		n = 1
	}
	return catalog.Page{Offset: (n - 1) * pageSize, Limit: pageSize}
}

// pager makes the way to the pages beside one.
func (v *visit) pager(p catalog.Page, shown, total int) pager {
	at := p.Offset/pageSize + 1
	out := pager{Pages: (total + pageSize - 1) / pageSize, From: p.Offset + 1, To: p.Offset + shown, Total: total}
	if shown == 0 {
		out.From = out.To
	}
	if at > 1 {
		out.Previous = v.at(min(at-1, max(out.Pages, 1)))
	}
	if at < out.Pages {
		out.Next = v.at(at + 1)
	}
	return out
}

// at is the address of this page with another page of its list.
func (v *visit) at(page int) string {
	q := v.r.URL.Query()
	q.Del("done")
	q.Set("page", strconv.Itoa(page))
	if page == 1 {
		q.Del("page")
	}
	u := url.URL{Path: v.r.URL.Path, RawQuery: q.Encode()}
	return u.String()
}
