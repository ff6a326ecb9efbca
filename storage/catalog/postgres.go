package catalog

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/postgres/*.sql
var postgresMigrations embed.FS

const (
	// A node has so many connections that read, unless its URL says pool_max_conns, one that writes, one
	// that says that the node is alive and one that listens. Eleven are a ninth of what a server takes by
	// default.
	postgresReaders = 8

	// A server in the same network answers a question in a millisecond, and the slowest page in a tenth
	// of a second. What takes a hundred times that is not coming: clients that pull would rather have
	// what is known without it. The server gives up a little earlier than we do, which keeps the
	// connection.
	postgresPatience  = 5 * time.Second
	postgresStatement = 4 * time.Second

	// Connecting is TCP, TLS and a password: a few round trips.
	postgresConnect = 5 * time.Second

	// A turn to write is waited for so long: nodes that adopt write some thousand rows at a time, which
	// far from the database takes seconds. It is longer than it takes the server to end the turn of a
	// node that is frozen or gone, which is the next one.
	postgresQueue = 30 * time.Second
	postgresIdle  = 10 * time.Second

	// Migrations may rewrite tables; others that start meanwhile wait for them.
	postgresMigration = 5 * time.Minute
)

// The advisory locks, which are per database: one for each transaction that writes, and one for
// migrations. The numbers are "road" and what follows, in ASCII.
const (
	writeLock   = 0x726f616457726974
	migrateLock = 0x726f61644d696772
)

// oldestPostgres has all that we use, and is what other projects still support.
const oldestPostgres = 130000

// openPostgres opens the catalog in the database that a URL names, and asks it nothing: until Prepare
// has brought the schema up to date, nobody does.
func openPostgres(address string) (*DB, error) {
	config, readers, err := postgresConfig(address)
	if err != nil {
		return nil, err
	}
	where := place(config)
	explain := func(err error) error { return explainPostgres(where, err) }
	db := &DB{
		explain: explain, turn: postgresTurn, isolation: &sql.TxOptions{Isolation: sql.LevelReadCommitted}, node: rand.Text(),
		remote: &remote{patience: postgresPatience, queue: postgresQueue, lost: lostPostgres},
	}
	db.read = newPool(postgresPool(config, readers, readSession, nil), db.remote)
	db.read.seats = make(seats, readers)
	db.alive = newPool(postgresPool(config, 1, readSession, nil), db.remote)
	db.alive.seats = make(seats, 1)
	db.remote.renew = func() {
		db.read.db.SetMaxIdleConns(0)
		db.read.db.SetMaxIdleConns(readers)
		db.alive.db.SetMaxIdleConns(0)
		db.alive.db.SetMaxIdleConns(1)
	}
	// Sets that this node knows may be gone with a server that lost its last transactions, and their
	// numbers be given again. Whenever that happens the connection is lost too.
	db.write = newPool(postgresPool(config, 1, writeSession, db.sets.forget), db.remote)
	db.write.seats = make(seats, 1)
	db.listen = func(ctx context.Context, fn func(string)) error { return listenPostgres(ctx, config, fn) }
	db.remote.unprepared.Store(true)
	db.migrate = func(ctx context.Context) error {
		if err := migratePostgres(ctx, config); err != nil {
			return explain(err)
		}
		db.remote.unprepared.Store(false)
		return nil
	}
	return db, nil
}

// place is what the database is called in errors.
func place(config *pgx.ConnConfig) string {
	return fmt.Sprintf("database %s on %s", config.Database, config.Host)
}

var errURL = errors.New("that is no URL of a database: write postgres://USER@HOST:5432/DATABASE, with what is not a letter or digit escaped as in %2F, and the password in a file of its own")

// postgresConfig reads a URL. No error of it quotes any part of that: who forgot to escape a password
// has it in the place of a host or a port.
func postgresConfig(address string) (config *pgx.ConnConfig, readers int, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" || u.Fragment != "" || strings.Contains(u.Path+u.RawQuery, "@") {
		return nil, 0, errURL
	}
	password, given := u.User.Password()
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	query := u.Query()
	if p := query.Get("password"); p != "" {
		password, given = p, true
		query.Del("password")
	}
	readers = postgresReaders
	if n := query.Get("pool_max_conns"); n != "" {
		if readers, err = strconv.Atoi(n); err != nil || readers < 1 || readers > 1000 {
			return nil, 0, errors.New("pool_max_conns is no number of connections: write one from 1 to 1000")
		}
		query.Del("pool_max_conns")
	}
	u.RawQuery = query.Encode()
	if config, err = pgx.ParseConfig(u.String()); err != nil {
		return nil, 0, err
	}
	if given {
		config.Password = password
	}
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, postgresConnect)
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "roadstead"
	}
	if config.ValidateConnect == nil {
		config.ValidateConnect = writable
	}
	// Columns of a newer schema may come while a statement is prepared: it is prepared again then.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	return config, readers, nil
}

// errReadOnly says that nothing can be written to a server.
var errReadOnly = errors.New("it can only be read")

// writable finds, of several hosts, the one that can be written to.
func writable(ctx context.Context, conn *pgconn.PgConn) error {
	result := conn.ExecParams(ctx, "SHOW transaction_read_only", nil, nil, nil, nil).Read()
	if result.Err == nil && string(result.Rows[0][0]) == "on" {
		return errReadOnly
	}
	return result.Err
}

// A session bounds by itself what this process cannot, because it is frozen or cut off.
var (
	readSession = map[string]string{
		"statement_timeout": milliseconds(postgresStatement), "lock_timeout": milliseconds(postgresStatement),
		"idle_in_transaction_session_timeout": milliseconds(postgresIdle),
	}
	// The statement that waits for the turn gives the others their shorter time.
	writeSession = map[string]string{
		"statement_timeout": milliseconds(postgresQueue + postgresStatement), "lock_timeout": milliseconds(postgresQueue),
		"idle_in_transaction_session_timeout": milliseconds(postgresIdle),
	}
	migrateSession = map[string]string{
		"statement_timeout": "0", "lock_timeout": milliseconds(postgresMigration), "idle_in_transaction_session_timeout": milliseconds(postgresMigration),
	}
)

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// unasked is how long a connection may have been idle that is used without a question whether it is still
// there. A node that nobody asks anything has one question a second of its own, and would ask two.
const unasked = 5 * time.Second

// postgresPool makes connections as they are needed. fresh is called for each new one.
func postgresPool(config *pgx.ConnConfig, connections int, session map[string]string, fresh func()) *sql.DB {
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		if fresh != nil {
			fresh()
		}
		return prepareSession(ctx, conn, session)
	}), stdlib.OptionShouldPing(func(_ context.Context, p stdlib.ShouldPingParams) bool { return p.IdleDuration > unasked }))
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	// A node that is quiet at night need not hold all of them.
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

// prepareSession says what a session needs in a statement, and not when it connects: pgbouncer knows
// few of these and refuses others.
func prepareSession(ctx context.Context, conn *pgx.Conn, session map[string]string) error {
	// Answers are small: to start processes or to compile for one takes longer than to find it.
	all := "SET standard_conforming_strings = on; SET max_parallel_workers_per_gather = 0; SET jit = off"
	for name, value := range session {
		all += "; SET " + name + " = " + value
	}
	_, err := conn.Exec(ctx, all)
	return err
}

// migratePostgres brings the schema up to date. Of several nodes that start at once one does it, and
// the others wait for it and find it done.
func migratePostgres(ctx context.Context, config *pgx.ConnConfig) error {
	db := postgresPool(config, 2, migrateSession, nil)
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() // and with it the lock, if that was not given back
	if err := suitable(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrateLock)); err != nil {
		return fmt.Errorf("wait for another node to bring the schema up to date: %w", err)
	}
	if err := migrate(ctx, db, goose.DialectPostgres, postgresMigrations, "migrations/postgres"); err != nil {
		return err
	}
	_, err = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrateLock))
	return err
}

// suitable refuses servers and databases that would only fail later.
func suitable(ctx context.Context, conn *sql.Conn) error {
	var (
		version            int
		readable, encoding string
	)
	err := conn.QueryRowContext(ctx, `SELECT current_setting('server_version_num'), current_setting('server_version'), current_setting('server_encoding')`).
		Scan(&version, &readable, &encoding)
	switch {
	case err != nil:
		return err
	case version < oldestPostgres:
		return fmt.Errorf("the server is PostgreSQL %s: it has to be %d or newer", readable, oldestPostgres/10000)
	case encoding != "UTF8":
		return fmt.Errorf("the encoding of the database is %s: make another one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

// postgresTurn makes those who write on all nodes take turns, until the transaction ends: that the
// one before is seen is certain then, because each statement sees what was committed before it, and
// a lock is let go after its transaction can be seen.
//
// Waiting for the disk at each commit is for what nobody else has. Rows about cached content survive
// a server that is killed, but for the last half second.
func postgresTurn(ctx context.Context, t *sql.Tx, synced bool) error {
	within, cancel := context.WithTimeout(ctx, postgresQueue+postgresPatience)
	defer cancel()
	_, err := t.ExecContext(within, `SELECT pg_advisory_xact_lock($1), set_config('synchronous_commit', $2, true), set_config('statement_timeout', $3, true)`,
		int64(writeLock), synchronous(synced), milliseconds(postgresStatement))
	return err
}

func synchronous(yes bool) string {
	if yes {
		return "on"
	}
	return "off"
}
