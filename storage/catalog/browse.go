package catalog

import (
	"fmt"
	"strconv"
	"strings"

	"roadstead/registry"
)

// Page is a part of a list: at most Limit rows behind the first Offset ones. A Limit of zero means
// all of them. Behind the end of a list there is nothing, which is no error.
type Page struct {
	Offset int
	Limit  int
}

// slice is the page as the end of a query.
func (p Page) slice(c *conditions) string {
	n := p.Limit
	if n <= 0 {
		n = -1
	}
	return " LIMIT " + c.bind(limit(n)) + " OFFSET " + c.bind(max(p.Offset, 0))
}

// total is how long a list is of which a page has got n rows, when that says it.
func (p Page) total(n int) (int, bool) {
	offset := max(p.Offset, 0)
	if n == 0 && offset > 0 || p.Limit > 0 && n >= p.Limit {
		return 0, false
	}
	return offset + n, true
}

// conditions is what the rows of a list have to meet, with the parameters of the question. Its
// text is made of constants only: whatever somebody asked for is a parameter.
type conditions struct {
	all  []string
	args []any
}

// bind adds a parameter and returns how the text calls it.
func (c *conditions) bind(value any) string {
	c.args = append(c.args, value)
	return "$" + strconv.Itoa(len(c.args))
}

// where adds a condition; each %s of it stands for a parameter.
func (c *conditions) where(condition string, values ...any) {
	names := make([]any, len(values))
	for i, value := range values {
		names[i] = c.bind(value)
	}
	c.all = append(c.all, fmt.Sprintf(condition, names...))
}

// contains adds that a column has a text in it, whatever the case of either. SQLite's LIKE does
// not look at the case and PostgreSQL's does: folded has to be in lower case already.
func (c *conditions) contains(folded, text string) {
	if text == "" {
		return
	}
	if len(text) > registry.MaxName { // which SQLite would take for an attack
		c.where("1 = 0")
		return
	}
	c.where(folded+` LIKE %s ESCAPE '\'`, "%"+escapeLike(strings.ToLower(text))+"%")
}

// in adds that a column is one of some values.
func in[T any](c *conditions, column string, values []T) {
	switch len(values) {
	case 0:
		c.where("1 = 0")
	case 1:
		c.where(column+" = %s", values[0])
	default:
		c.all = append(c.all, column+" IN ("+set(c, values)+")")
	}
}

// set adds some values, at least one, and returns the list of their parameters. Each length of it
// is a statement of its own that stays prepared, so lengths are powers of four, and the last value
// stands there as often as it takes.
func set[T any](c *conditions, values []T) string {
	size := 1
	for size < len(values) {
		size *= 4
	}
	first := len(c.args) + 1
	for i := range size {
		c.bind(values[min(i, len(values)-1)])
	}
	return parametersFrom(first, size)
}

func (c *conditions) String() string {
	if len(c.all) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.all, " AND ")
}

// escapeLike makes a text one that LIKE takes for itself, with ESCAPE '\'.
func escapeLike(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}
