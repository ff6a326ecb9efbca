package console

import (
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"
)

// readPages parses every page once for each language, so that a page has its messages without being
// handed them. Each has the layout and the parts, and its own "main".
func readPages(c *Console) (map[language]map[string]*template.Template, error) {
	all := map[language]map[string]*template.Template{}
	for _, l := range languages {
		base, err := template.New("").Funcs(functions(c.words[l])).ParseFS(files, "pages/layout.html", "pages/parts_*.html")
		if err != nil {
			return nil, err
		}
		all[l] = map[string]*template.Template{}
		names, err := fs.Glob(files, "pages/*.html")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			page := strings.TrimSuffix(path.Base(name), ".html")
			if page == "layout" || strings.HasPrefix(page, "parts_") {
				continue
			}
			t, err := base.Clone()
			if err == nil {
				t, err = t.ParseFS(files, name)
			}
			if err != nil {
				return nil, fmt.Errorf("page %s: %w", page, err)
			}
			all[l][page] = t
		}
	}
	return all, nil
}

// functions are what pages can call, in the language of some words.
func functions(w words) template.FuncMap {
	return template.FuncMap{
		"t":         w.say,
		"count":     w.count,
		"number":    w.number,
		"size":      w.size,
		"rate":      w.rate,
		"percent":   w.percent,
		"long":      w.long,
		"when":      w.when,
		"exact":     w.exact,
		"short":     short,
		"path":      pathOf,
		"link":      link,
		"lines":     lines,
		"dict":      dict,
		"mediatype": mediaType,
		"has":       w.has,
	}
}

// dict hands a part several things by name.
func dict(pairs ...any) (map[string]any, error) {
	all := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name", pairs[i])
		}
		all[name] = pairs[i+1]
	}
	return all, nil
}
