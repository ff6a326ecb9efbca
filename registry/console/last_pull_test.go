package console

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// The page of an artifact says who pulled it to those who may read the log of the project, and when
// that was to everybody who sees it.
func TestWhoPulledIsShown(t *testing.T) {
	v := open(t)
	app, busybox := registry.Repo{Project: "shop", Name: "app"}, registry.Repo{Project: "hub", Name: "library/busybox"}
	first, second, public := v.image(app, "v1", plainConfig, `{"a":"b"}`), v.image(app, "v2", plainConfig, `{}`), v.image(busybox, "latest", plainConfig, `{}`)
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	v.must(v.db.Update(t.Context(), func(tx *catalog.Tx) error {
		_, err1 := tx.PutLastPull(app, first, catalog.LastPull{At: at, By: "robot$shop+<ci>"})
		_, err2 := tx.PutLastPull(app, second, catalog.LastPull{At: at})
		_, err3 := tx.PutLastPull(busybox, public, catalog.LastPull{At: at, By: "gina"})
		return errors.Join(err1, err2, err3)
	}))
	gina := v.as("gina")
	gina.get("/c/artifacts/shop/app?ref=v1").has(t, http.StatusOK, "2026-05-01", "Last pulled by", "robot$shop&#43;&lt;ci&gt;")
	gina.get("/c/artifacts/shop/app?ref=v2").has(t, http.StatusOK, "2026-05-01", "Last pulled by", "anybody")
	v.as("admin").get("/c/artifacts/hub/library/busybox?ref=latest").has(t, http.StatusOK, "2026-05-01", "<dd>gina</dd>")
	nobody := v.as("nobody").get("/c/artifacts/hub/library/busybox?ref=latest")
	nobody.has(t, http.StatusOK, "2026-05-01")
	if strings.Contains(nobody.body, "gina") || strings.Contains(nobody.body, "Last pulled by") {
		t.Errorf("whoever is no member is told who pulled:\n%s", nobody.body)
	}
}
