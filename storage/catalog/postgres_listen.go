package catalog

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// channel is what changes are told on. Channels are per database.
const channel = "roadstead"

// heartbeat is how often a connection that says nothing is asked whether it is still there. Twice
// that is how long a node may not know that it hears nothing, which with the time to connect again
// is less than the five seconds in which it has to know of changes.
const heartbeat = 2 * time.Second

// listenPostgres calls fn for each payload of the channel, first with "" when it hears all from then
// on, until ctx or the connection ends.
func listenPostgres(ctx context.Context, config *pgx.ConnConfig, fn func(payload string)) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closePostgres(ctx, conn)
	if err := briefly(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, "LISTEN "+channel)
		return err
	}); err != nil {
		return err
	}
	fn("")
	for {
		within, cancel := context.WithTimeout(ctx, heartbeat)
		said, err := conn.WaitForNotification(within)
		quiet := within.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			fn(said.Payload)
		case !quiet:
			return err
		case conn.IsClosed():
			return errors.New("the connection is closed")
		default:
			if err := briefly(ctx, conn.Ping); err != nil {
				return err
			}
		}
	}
}

func briefly(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	return do(ctx)
}

func closePostgres(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer cancel()
	conn.Close(ctx) // whatever that says, it is closed
}
