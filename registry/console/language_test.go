package console

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestBothLanguagesSayEverything(t *testing.T) {
	all, err := readWords()
	if err != nil {
		t.Fatal(err)
	}
	gaps := regexp.MustCompile(`%[a-z]`)
	for key, text := range all[english].all {
		other := all[chinese].all[key]
		if strings.TrimSpace(text) == "" || strings.TrimSpace(other) == "" {
			t.Errorf("%s is %q and %q", key, text, other)
		}
		if !slices.Equal(gaps.FindAllString(text, -1), gaps.FindAllString(other, -1)) {
			t.Errorf("%s has other gaps in Chinese: %q and %q", key, text, other)
		}
	}
	for key := range all[chinese].all {
		if !all[english].has(key) {
			t.Errorf("%s is in Chinese only", key)
		}
	}
}

func TestEveryMessageIsSaid(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"pages", "."} {
		for _, name := range list(t, pattern) {
			sources.WriteString(read(t, name))
		}
	}
	all, err := readWords()
	if err != nil {
		t.Fatal(err)
	}
	text := sources.String()
	// Keys that are put together of a beginning and a name that comes from elsewhere.
	made := []string{"done.", "error.", "kind.", "role.", "state.", "outcome.", "action.", "window.", "tab.", "order.", "show.", "client.", "pull.", "may.", "artifact.", "hint.", "why.", "thing.", "explain.way.", "explain.clause.", "explain.state.", "run.retired", "task.scrub", "task.eviction"}
	for key := range all[english].all {
		base := strings.TrimSuffix(strings.TrimSuffix(key, ".one"), ".many")
		if !strings.Contains(text, `"`+base+`"`) && !slices.ContainsFunc(made, func(p string) bool { return strings.HasPrefix(key, p) }) {
			t.Errorf("nothing says %s", key)
		}
	}
}

func TestLanguages(t *testing.T) {
	for _, tt := range []struct {
		accept, cookie string
		want           language
	}{
		{"", "", english},
		{"zh-CN,zh;q=0.9,en;q=0.8", "", chinese},
		{"zh-TW", "", chinese},
		{"en-GB,zh;q=0.9", "", english},
		{"de,fr;q=0.9", "", english},
		{"de, zh;q=0.3, en;q=0.2", "", chinese},
		{"zh;q=0, en;q=0.1", "", english},
		{"zh;q=x", "", english},
		{"zh", "en", english},
		{"en", "zh-CN", chinese},
		{"en", "xx", english},
	} {
		r := httptest.NewRequest(http.MethodGet, "/c/", nil)
		r.Header.Set("Accept-Language", tt.accept)
		if tt.cookie != "" {
			r.AddCookie(&http.Cookie{Name: languageCookie, Value: tt.cookie})
		}
		if got := languageOf(r); got != tt.want {
			t.Errorf("%q with the cookie %q: %s, want %s", tt.accept, tt.cookie, got, tt.want)
		}
	}
}

func TestALanguageIsChosen(t *testing.T) {
	b := open(t).as("")
	b.get("/c/signin").has(t, http.StatusOK, `<html lang="en">`, "简体中文")
	b.post("/c/language", url.Values{"language": {"zh-CN"}, "next": {"/c/projects?q=a"}}).leads(t, "/c/projects?q=a")
	b.get("/c/signin").has(t, http.StatusOK, `<html lang="zh-CN">`, "用户名")
	b.post("/c/language", url.Values{"language": {"xx"}}).has(t, http.StatusUnprocessableEntity)
	b.post("/c/language", url.Values{"language": {"en"}, "next": {"https://evil.example/"}}).leads(t, "/c/")
}
