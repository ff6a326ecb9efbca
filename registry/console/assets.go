package console

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
)

// asset is a file that pages are made with.
type asset struct {
	path string // where it is, with what it is in the query: a browser keeps it until there is another
	kind string
	body []byte
}

var kinds = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func readAssets() (map[string]asset, error) {
	all := map[string]asset{}
	names, err := fs.Glob(files, "assets/*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		body, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(body)
		all[path.Base(name)] = asset{
			path: home + name + "?v=" + hex.EncodeToString(sum[:6]), kind: kinds[path.Ext(name)], body: body,
		}
	}
	return all, nil
}

func serveAsset(v *visit) error {
	a, ok := v.assets[v.r.PathValue("name")]
	if !ok {
		return errNoPage
	}
	h := v.w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Cache-Control", "max-age=31536000, immutable")
	h.Del("Vary")
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write(a.body) // a browser that has left
	return nil
}
