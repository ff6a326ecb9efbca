package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// migrate brings the schema up to date, each step in a transaction of its own. Nothing goes
// back down: whoever returns to an older program restores the catalog of that time or rebuilds
// it, and until then the older program refuses (FAULTS P7). It would otherwise write rows that
// lack what the newer schema means.
func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, files fs.FS, dir string) error {
	steps, err := fs.Sub(files, dir)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, steps, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	found, known, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read its schema version: %w", err)
	}
	if found > known {
		return fmt.Errorf("its schema is version %d, and this program knows versions up to %d: "+
			"start the newer program again, or move the catalog away and run `roadstead adopt`", found, known)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring its schema from version %d to %d: %w", found, known, err)
	}
	return nil
}
