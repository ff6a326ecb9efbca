package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// badPages are served by their names below; each has one fault.
var badPages = map[string]string{
	"/good":      `<p>Nothing is wrong here.</p><form><label>Name <input></label></form><button>Press</button><script src="/later.js"></script>`,
	"/console":   `<script src="/say.js"></script>`,
	"/exception": `<script src="/throw.js"></script>`,
	"/policy":    `<p style="color: red">Styled where it may not be.</p>`,
	"/missing":   `<img alt="" src="/nowhere.png">`,
	"/outside":   `<img alt="" src="http://192.0.2.1/a.png">`,
	"/named":     `<img alt="" src="http://roadstead.example/a.png">`,
	"/dialog":    `<script src="/ask.js"></script>`,
	"/label":     `<form><input name="unlabelled"></form>`,
	"/contrast":  `<p class="dim">You can hardly read this.</p>`,
	"/wide":      `<div class="wide">wider than any screen</div>`,
}

var badFiles = map[string]string{
	"/say.js":   `console.error("said aloud", {})`,
	"/throw.js": `setTimeout(() => { throw new Error("thrown away") })`,
	"/ask.js":   `confirm("really?")`,
	"/later.js": `document.querySelector("button").onclick = e => setTimeout(() => {
		const p = document.createElement("p");
		p.className = "later";
		p.textContent = "pressed by " + e.pointerType;
		document.querySelector("main").append(p);
	}, 200)`,
	"/it.css": `.dim { color: #ccc; background: #fff } .wide { width: 4000px }`,
}

// serveBadPages serves them with a policy as strict as that of the pages of ours.
func serveBadPages(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src *")
		if file, ok := badFiles[r.URL.Path]; ok {
			w.Header().Set("Content-Type", map[bool]string{true: "text/css", false: "text/javascript"}[strings.HasSuffix(r.URL.Path, ".css")])
			_, _ = fmt.Fprint(w, file)
			return
		}
		if r.URL.Path == "/favicon.ico" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		body, ok := badPages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><head><meta name="viewport" content="width=device-width, initial-scale=1">`+
			`<link rel="stylesheet" href="/it.css"><title>A page</title></head><body><main><h1>A page for %s</h1>%s</main></body></html>`,
			r.Header.Get("Accept-Language"), body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// What the tests of pages rely on: no fault of a page goes unheard, and a good page is not blamed.
func TestABrowserHearsEveryFault(t *testing.T) {
	e2e(t)
	url := serveBadPages(t)
	b := startBrowser(t, browserOptions{})
	for _, row := range []struct {
		page string
		want []string // words of complaints, and the rule of axe
	}{
		{"/good", nil},
		{"/console", []string{`console.error: "said aloud"`}},
		{"/exception", []string{"thrown away"}},
		{"/policy", []string{"Content Security Policy"}},
		{"/missing", []string{"404"}},
		{"/outside", []string{"ERR_NAME_NOT_RESOLVED"}},
		{"/named", []string{"ERR_NAME_NOT_RESOLVED"}},
		{"/dialog", []string{"confirm: really?"}},
		{"/label", []string{"axe: label"}},
		{"/contrast", []string{"axe: color-contrast"}},
		{"/wide", []string{"too wide"}},
		{"/none-such", []string{"404", "axe: "}},
	} {
		b.open(url + row.page)
		heard := b.complaints()
		for _, v := range b.violations() {
			heard = append(heard, fmt.Sprintf("axe: %s: %s %q", v.ID, v.Help, v.Where))
		}
		if b.tooWide() > 0 {
			heard = append(heard, "too wide")
		}
		for _, want := range row.want {
			if !slices.ContainsFunc(heard, func(s string) bool { return strings.Contains(s, want) }) {
				t.Errorf("%s: heard %q, want %q", row.page, heard, want)
			}
		}
		if row.want == nil && len(heard) > 0 {
			t.Errorf("%s: heard %q of a page without a fault", row.page, heard)
		}
	}
}

// A browser is as its options say to the server that it asks, to the scripts of pages and to their
// styles, and writes Chinese as it does English.
func TestABrowserIsAsItIsAskedFor(t *testing.T) {
	e2e(t)
	url := serveBadPages(t)
	for _, row := range []struct {
		options browserOptions
		header  string
		self    string // what its scripts and styles know
		pointer string // what presses a button
	}{
		{browserOptions{}, "en", "en en 1280 light mouse 1,234.5", "mouse"},
		{browserOptions{dark: true, language: "zh-CN"}, "zh-CN,zh;q=0.9", "zh-CN zh-CN,zh 1280 dark mouse 1,234.5", "mouse"},
		{browserOptions{phone: true, language: "de"}, "de", "de de 390 light finger 1.234,5", "touch"},
	} {
		t.Run(row.options.String(), func(t *testing.T) {
			t.Parallel()
			b := startBrowser(t, row.options)
			b.open(url + "/good")
			if got, want := b.text("h1"), "A page for "+row.header; got != want {
				t.Errorf("the server sees %q, want %q", got, want)
			}
			self := act(b, "ask a script", chromedp.Evaluate[string](`[navigator.language, navigator.languages, innerWidth,
				matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
				matchMedia("(pointer: coarse)").matches && navigator.maxTouchPoints > 0 ? "finger" : "mouse",
				(1234.5).toLocaleString()].join(" ")`))
			if self != row.self {
				t.Errorf("a script sees %q, want %q", self, row.self)
			}
			b.fill("input", "wrong")
			b.fill("input", "港口 harbour")
			if got := act(b, "read", chromedp.Value(chromedp.CSS("input"))); got != "港口 harbour" {
				t.Errorf("the field has %q", got)
			}
			b.click("button")
			b.waitFor(".later")
			if got, want := b.text(".later"), "pressed by "+row.pointer; got != want {
				t.Errorf("the page says %q, want %q", got, want)
			}
			b.screenshot("harbour")
		})
	}
}
