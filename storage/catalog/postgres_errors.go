package catalog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// The conditions of PostgreSQL that somebody has to act on, by their codes.
const (
	badPassword      = "28P01"
	badAuthorization = "28000"
	noDatabase       = "3D000"
	noRight          = "42501"
	readOnly         = "25006"
	diskFull         = "53100"
	outOfConnections = "53300"
	canceled         = "57014" // by statement_timeout, that is
	lockTimeout      = "55P03"
	idleTooLong      = "25P03"
	startingUp       = "57P03"
)

// lostPostgres reports whether an error means that a connection is gone, or that none can be made.
func lostPostgres(err error) bool {
	if err == nil || !unconnected(err) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return false // the latter looks like an error of a network as well
	}
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		// 57P01 to 57P05: the server ends, starts, or has ended the connection.
		return strings.HasPrefix(failure.Code, "08") || strings.HasPrefix(failure.Code, "57P") ||
			failure.Code == outOfConnections || unconnected(err)
	}
	if _, ok := errors.AsType[ofNetwork](err); ok {
		return true
	}
	return unconnected(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err)
}

// ofNetwork is what all errors of connections can do.
type ofNetwork interface {
	error
	Timeout() bool
}

func unconnected(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// explainPostgres adds to an error of PostgreSQL what whoever reads it has to do. where is what the
// database is called.
func explainPostgres(where string, err error) error {
	if err == nil {
		return nil
	}
	failure, ok := errors.AsType[*pgconn.PgError](err)
	if errors.Is(err, errReadOnly) {
		failure, ok = &pgconn.PgError{Code: readOnly}, true
	}
	if !ok {
		if lostPostgres(err) {
			return unavailable(err, "see whether %s is running and can be reached from here", where)
		}
		return err
	}
	switch failure.Code {
	case badPassword, badAuthorization:
		return unavailable(fmt.Errorf("%w: %w", ErrRefused, err), "%s does not let us in: see to the user in the URL of the catalog, and to its password", where)
	case noDatabase:
		return unavailable(fmt.Errorf("%w: %w", ErrRefused, err), "there is no %s: make it with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, or name another one", where)
	case noRight:
		return fmt.Errorf("our user has to own %s, or at least its schema: %w", where, err)
	case readOnly:
		return unavailable(err, "%s is a standby or set to be read only: name the primary, or all of them", where)
	case diskFull:
		return fmt.Errorf("%w on the server of %s: %w", syscall.ENOSPC, where, err)
	case outOfConnections:
		return unavailable(err, "%s has no connection left: raise max_connections, or lower pool_max_conns in the URL of the catalog", where)
	case canceled:
		return unavailable(err, "%s took too long for an answer", where)
	case lockTimeout:
		return unavailable(err, "another node was writing to %s for too long", where)
	case idleTooLong:
		return unavailable(err, "%s gave our turn to write to others, because we stood still in it", where)
	case startingUp:
		return unavailable(err, "%s is starting", where)
	}
	if lostPostgres(err) {
		return unavailable(err, "see whether %s is running and can be reached from here", where)
	}
	return err
}

func unavailable(err error, what string, args ...any) error {
	what = fmt.Sprintf(what, args...)
	if errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, what, err)
}
