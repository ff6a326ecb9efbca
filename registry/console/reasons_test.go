package console

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reasons are the functions of a room that refuse something, and which of their arguments is the key;
// the next one is the sentence.
var reasons = map[string]map[string]int{
	"../estate": {"invalid": 0, "unknown": 0, "refuse": 1, "missing": 1, "Wrong": 1, "Because": 2},
	"../access": {"improper": 0, "Because": 2},
	".":         {"Wrong": 1, "Because": 2},
}

// said are the reasons in the source of those rooms: their sentences by their keys.
func said(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for room, functions := range reasons {
		names, err := fs.Glob(os.DirFS(room), "*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), room+"/"+name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				at, ok := functions[called(call.Fun)]
				if !ok || len(call.Args) < at+2 {
					return true
				}
				key, sentence := literal(call.Args[at]), literal(call.Args[at+1])
				if key == "" || sentence == "" {
					return true // one of the functions, which passes on what it is given
				}
				if before, ok := all[key]; ok && before != sentence {
					t.Errorf("%s stands for %q and for %q", key, before, sentence)
				}
				all[key] = sentence
				return true
			})
		}
	}
	return all
}

func called(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(l.Value)
	return text
}

// Whatever is refused with a reason is said in both languages, in English as the REST API says it.
func TestEveryReasonIsSaidInBothLanguages(t *testing.T) {
	all, err := readWords()
	if err != nil {
		t.Fatal(err)
	}
	found := said(t)
	if len(found) < 60 {
		t.Errorf("only %d reasons are found", len(found))
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if got := all[english].all["why."+key]; got != found[key] {
			t.Errorf("%q: %q, and in English the console says %q", "why."+key, found[key], got)
		}
		if !all[chinese].has("why." + key) {
			t.Errorf("why.%s has no Chinese", key)
		}
	}
	for key := range all[english].all {
		if name, ok := strings.CutPrefix(key, "why."); ok && found[name] == "" {
			t.Errorf("nothing is refused because of %s", name)
		}
	}
}

// What is refused is said in the language of the page, also with what stands in the sentence's gaps;
// what has no words in it is marked as English.
func TestRefusalsAreInTheLanguageOfThePage(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	registry := url.Values{"name": {"mine"}, "kind": {"docker-registry"}, "url": {"https://mine.example"}}
	with := func(form url.Values, name, value string) url.Values {
		changed := maps.Clone(form)
		changed[name] = []string{value}
		return changed
	}
	b.post("/c/registries", registry).has(t, http.StatusSeeOther)
	for _, tt := range []struct {
		path            string
		form            url.Values
		status          int
		english, native string
	}{
		{"/c/registries", registry, http.StatusConflict, "There is a registry mine already.", "镜像仓库 mine 已经存在。"},
		{"/c/registries", with(with(registry, "name", "b"), "url", "ftp://x"), http.StatusUnprocessableEntity, "is no URL of a registry", "不是镜像仓库的 URL"},
		{"/c/registries", with(with(registry, "name", "b"), "username", "me"), http.StatusUnprocessableEntity, "The user me of the registry needs a password.", "镜像仓库的用户 me 需要密码。"},
		{"/c/projects/declared/delete", url.Values{"typed": {"declared"}}, http.StatusForbidden, "Project declared is declared in roadstead.yaml", "项目 declared 由配置文件 roadstead.yaml 声明"},
		{"/c/projects", url.Values{"kind": {"hosted"}, "name": {"own"}, "quota": {"much"}}, http.StatusUnprocessableEntity, "is no size", "不是有效的大小"},
		{"/c/users", url.Values{"name": {"new"}, "password": {"short"}}, http.StatusUnprocessableEntity, "The password has 5 characters", "密码有 5 个字符"},
		{"/c/tasks", url.Values{"do": {"warm"}, "image": {"shop/web:1"}}, http.StatusUnprocessableEntity, "Project shop is no proxy", "项目 shop 不是代理"},
		{"/c/nowhere", nil, http.StatusNotFound, "There is no such page.", "没有这个页面。"},
	} {
		b.headers["Accept-Language"] = "en"
		page := b.post(tt.path, tt.form)
		page.has(t, tt.status, tt.english)
		if strings.Contains(page.body, ` lang="en">`+tt.english) {
			t.Errorf("%s: an English page marks its words as English", tt.path)
		}
		b.headers["Accept-Language"] = "zh-CN"
		page = b.post(tt.path, tt.form)
		page.has(t, tt.status, tt.native)
		if strings.Contains(page.body, tt.english) {
			t.Errorf("%s: the Chinese page says it in English: %s", tt.path, tt.english)
		}
	}
	v.down = errors.New("connection refused")
	b.post("/c/registries/test", registry).has(t, http.StatusOK, `<p lang="en">Connection refused.</p>`)
	gina := v.as("gina")
	gina.headers["Accept-Language"] = "zh-CN"
	gina.get("/c/users").has(t, http.StatusForbidden, "不允许此操作")
}
