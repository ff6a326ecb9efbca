package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// PutSetting keeps what is set for the whole house under a name: anything that has a form in JSON.
func (tx *Tx) PutSetting(name string, value any) error {
	if err := tx.KeepSetting(name, value); err != nil {
		return err
	}
	if err := tx.changed(); err != nil {
		return tx.spoil(err, "put setting %s", name)
	}
	return nil
}

// KeepSetting is PutSetting for what nobody keeps in memory, and so need not be told of.
func (tx *Tx) KeepSetting(name string, value any) error {
	text, err := json.Marshal(value)
	if err == nil {
		_, err = tx.exec(`INSERT INTO settings (name, value, changed_at) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at`, name, string(text), millis(time.Now()))
	}
	if err != nil {
		return tx.spoil(err, "put setting %s", name)
	}
	return nil
}

// DropSetting forgets a setting. There may be none.
func (tx *Tx) DropSetting(name string) error {
	_, err := tx.exec(`DELETE FROM settings WHERE name = $1`, name)
	if err == nil {
		err = tx.changed()
	}
	if err != nil {
		return tx.spoil(err, "drop setting %s", name)
	}
	return nil
}

// Setting reads a setting into value, or returns ErrNotFound and leaves it.
func (db *DB) Setting(ctx context.Context, name string, value any) error {
	var text string
	err := db.read.one(ctx, `SELECT value FROM settings WHERE name = $1`, []any{name}, &text)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), value)
	}
	if err != nil {
		return fmt.Errorf("catalog: setting %s: %w", name, db.explain(err))
	}
	return nil
}

// Setting reads a setting into value, or returns ErrNotFound, which does not spoil the transaction, and
// leaves it.
func (tx *Tx) Setting(name string, value any) error {
	text, err := only(tx, "setting "+name, `SELECT value FROM settings WHERE name = $1`, []any{name}, func(scan func(...any) error) (text string, err error) {
		return text, scan(&text)
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		return tx.spoil(err, "read setting %s", name)
	}
	return nil
}
