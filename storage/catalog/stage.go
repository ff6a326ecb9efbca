package catalog

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"roadstead/registry"
)

// What is imported is stored before it is known which repository is going to have it: the list of images
// may be at the end of an archive. Such content has a row and no holder, so it cannot be read, counts for
// no project, and goes with the next collection should the import never end. As long as one is under way
// no collection takes what nobody has.

// importing is what the settings are called that say when an import was last known to be under way, one
// for each, by its id: the end of one says nothing of another. A process of an older release
// writes one setting of that very name for all, which is heard too.
const (
	importing      = "importing"
	importingBelow = importing + "0" // what sorts behind all "importing/…"
)

// importTrust is for how long that is believed. It bounds for how long an import that was killed keeps what
// it has stored from going, and how long a computer may sleep that imports.
const importTrust = 15 * time.Minute

// ImportBeat is how often an import says that it is under way, beside what it says with all that it stages:
// a layer may take hours to arrive.
const ImportBeat = time.Minute

// ErrStaging refuses what would take content from under an import.
var ErrStaging = errors.New("an import is under way, which has content that no repository has yet")

// Stage says that content is stored, whoever is going to have it, and that it was used now. While a
// removal of it has not come to its end it writes nothing, and ok is false: what was put may go at any
// time, so it has to be put again after that. by is the id of the import.
func (tx *Tx) Stage(by string, d registry.Digest, size int64) (ok bool, err error) {
	c, err := tx.find(d)
	if err != nil {
		return false, tx.spoil(err, "stage %s", d)
	}
	_, open, err := tx.unfinished(d)
	if err != nil {
		return false, tx.spoil(err, "stage %s", d)
	}
	// Where one process writes, a removal that a crash has left is still listed when its content has
	// come back, and ends with the next removal of that.
	if open && (tx.db.Shared() || !c.stored) {
		return false, nil
	}
	c.keep(size)
	if err := tx.save(c); err != nil {
		return false, tx.spoil(err, "stage %s", d)
	}
	if err := tx.Touch([]registry.Digest{d}, time.Now()); err != nil {
		return false, err
	}
	return true, tx.Importing(by, time.Now())
}

// Importing says that the import of an id is under way. What killed ones have left of this goes.
func (tx *Tx) Importing(id string, now time.Time) error {
	_, err := tx.exec(`DELETE FROM settings WHERE name >= $1 AND name < $2 AND changed_at < $3`, importing, importingBelow, millis(now.Add(-importTrust)))
	if err != nil {
		return tx.spoil(err, "forget imports that have died")
	}
	return tx.KeepSetting(importing+"/"+id, now)
}

// Imported says that the import of an id has come to its end.
func (tx *Tx) Imported(id string) error {
	if _, err := tx.exec(`DELETE FROM settings WHERE name = $1`, importing+"/"+id); err != nil {
		return tx.spoil(err, "end import %s", id)
	}
	return nil
}

// unstaged is ErrStaging while an import is under way.
func (tx *Tx) unstaged() error {
	now, staging := time.Now(), false
	err := tx.each(`SELECT value FROM settings WHERE name >= $1 AND name < $2`, []any{importing, importingBelow}, func(rows *sql.Rows) error {
		var text string
		var last time.Time
		if err := rows.Scan(&text); err != nil {
			return err
		}
		err := json.Unmarshal([]byte(text), &last)
		staging = staging || now.Sub(last).Abs() < importTrust
		return err
	})
	if err != nil {
		return tx.spoil(err, "look for imports")
	}
	if staging {
		return ErrStaging
	}
	return nil
}

// ForgetUnheld is ForgetCold for what no repository has, however lately it was used. With ErrStaging,
// which does not spoil the transaction, an import may have it.
func (tx *Tx) ForgetUnheld(d registry.Digest) (r Removal, ok bool, err error) {
	if err := tx.unstaged(); err != nil {
		return Removal{}, false, err
	}
	return tx.ForgetCold(d, nil, time.Now().Add(24*time.Hour))
}
