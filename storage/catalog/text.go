package catalog

import (
	"context"
	"database/sql"
	"strings"
	"unicode/utf8"
)

// text is a statement of PostgreSQL as it is written. pgx prepares it for each connection that it
// runs on, and keeps it as long as that is there.
type text struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	query string
}

func (s text) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return s.on.ExecContext(ctx, s.query, storable(args)...)
}

func (s text) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return s.on.QueryContext(ctx, s.query, storable(args)...)
}

func (s text) QueryRowContext(ctx context.Context, args ...any) *sql.Row {
	return s.on.QueryRowContext(ctx, s.query, storable(args)...)
}

// storable makes texts such as PostgreSQL takes: UTF-8 without NUL. Manifests come from anywhere, and
// one that says nonsense of itself is still one that can be pulled.
func storable(args []any) []any {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = storableText(arg)
		case sql.NullString:
			arg.String = storableText(arg.String)
			args[i] = arg
		}
	}
	return args
}

func storableText(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
