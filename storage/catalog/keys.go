package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// AddKey writes a key that the nodes of a cluster have in common. sealed is of no use to whoever has
// the catalog only. ErrExists says that there is one of that name; it does not spoil the transaction.
func (tx *Tx) AddKey(name, sealed string) error {
	what := "add key " + name
	if err := tx.absent(what, `SELECT 1 FROM keys WHERE name = $1`, name); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO keys (name, sealed, created_at) VALUES ($1, $2, $3)`, name, sealed, millis(time.Now()))
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return tx.spoil(err, "%s", what)
	}
	return nil
}

// DeleteKey removes a key. ErrNotFound says that there is none of that name, and does not spoil the
// transaction.
func (tx *Tx) DeleteKey(name string) error {
	return tx.alter("delete key "+name, `DELETE FROM keys WHERE name = $1`, name)
}

// Keys returns all keys as they were put, by their names.
func (db *DB) Keys(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	err := db.read.each(ctx, `SELECT name, sealed FROM keys`, nil, func(rows *sql.Rows) error {
		var name, sealed string
		err := rows.Scan(&name, &sealed)
		all[name] = sealed
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: keys: %w", db.explain(err))
	}
	return all, nil
}
