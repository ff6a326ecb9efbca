package accesstest

import (
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry/access"
	"roadstead/storage/catalogtest"
)

// The variable is still the one that is meant, and its fields are.
func TestHashesAreCheap(t *testing.T) {
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := Open(t.Context(), access.Config{Catalog: db, Directory: t.TempDir(), AdminPassword: "Correct-Horse-1"}); err != nil {
		t.Fatal(err)
	}
	accounts, err := db.Accounts(t.Context())
	if err != nil || len(accounts.Passwords) != 1 {
		t.Fatalf("%d passwords, %v", len(accounts.Passwords), err)
	}
	for _, stored := range accounts.Passwords {
		if !strings.HasPrefix(stored, "$argon2id$v=19$m=64,t=1,p=1$") {
			t.Errorf("a password is stored as %s", stored)
		}
	}
}
