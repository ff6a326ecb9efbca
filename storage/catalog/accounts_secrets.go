package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// PutSecret writes a secret, over what is there of that name. sealed is of no use to whoever has
// the catalog only.
func (tx *Tx) PutSecret(name, sealed string) error {
	_, err := tx.exec(`INSERT INTO secrets (name, sealed, changed_at) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, changed_at = excluded.changed_at`, name, sealed, millis(time.Now()))
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return tx.spoil(err, "put secret %s", name)
	}
	return nil
}

// DeleteSecret removes a secret. ErrNotFound says that there is none of that name, and does not
// spoil the transaction.
func (tx *Tx) DeleteSecret(name string) error {
	return tx.alter("delete secret "+name, `DELETE FROM secrets WHERE name = $1`, name)
}

// Sealed returns a secret as it was put, or ErrNotFound.
func (db *DB) Sealed(ctx context.Context, name string) (string, error) {
	var sealed string
	err := db.read.one(ctx, `SELECT sealed FROM secrets WHERE name = $1`, []any{name}, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("catalog: secret %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("catalog: secret %s: %w", name, db.explain(err))
	}
	return sealed, nil
}

// SecretNames lists the names of all secrets, in their order.
func (db *DB) SecretNames(ctx context.Context) ([]string, error) {
	all, err := db.names(ctx, `SELECT name FROM secrets ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("catalog: secrets: %w", err)
	}
	return all, nil
}
