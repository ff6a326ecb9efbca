package access

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestC8_NobodyIsSentElsewhereAfterALogin(t *testing.T) {
	for _, tt := range []struct{ next, want string }{
		{"", home},
		{"/", "/"},
		{"/c/oidc/", "/c/oidc/"},
		{"/c/projects?page=2&q=a%20b", "/c/projects?page=2&q=a%20b"},
		{"/c/projects/a%20b/", "/c/projects/a%20b/"},
		{"//evil.example", home},
		{"///evil.example", home},
		{"/\\evil.example", home},
		{"\\\\evil.example", home},
		{"/c/\\..\\\\evil.example", home},
		{"/\t/evil.example", home},
		{"/\n/evil.example", home},
		{"/\r\nSet-Cookie: a=b", home},
		{"\t//evil.example", home},
		{" //evil.example", home},
		{"https://evil.example/", home},
		{"https:evil.example", home},
		{"javascript:alert(1)", home},
		{"evil.example", home},
		{"/.//evil.example", home},
		{"/..//evil.example", home},
		{"/%2F/evil.example", home},
		{"/%5Cevil.example", "/%5Cevil.example"}, // a path with a backslash in it: no browser decodes it
		{"/%09/evil.example", "/%09/evil.example"},
		{"/@evil.example", "/@evil.example"},
		{"/c#//evil.example", "/c"},
		{"/%zz", home},
		{"/" + strings.Repeat("a", 3000), home},
		{loginPath + "?next=/c/oidc/login", home},
		{callbackPath + "?code=1", home},
	} {
		if got := local(tt.next); got != tt.want {
			t.Errorf("local(%q) = %q, want %q", tt.next, got, tt.want)
		}
	}
}

func TestALoginIsItsBrowsersForTenMinutes(t *testing.T) {
	s, now := newSealer(""), time.Now()
	want := flow{State: "s", Nonce: "n", Verifier: "v", Redirect: "r", Next: "/", Until: now.Add(flowAge)}
	sealed, err := s.seal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.open(sealed, now.Add(flowAge-time.Second)); err != nil || got.Verifier != "v" || got.Next != "/" {
		t.Errorf("open = %+v, %v", got, err)
	}
	if strings.Contains(sealed, "Verifier") {
		t.Error("the browser can read its flow")
	}
	for name, open := range map[string]func() (flow, error){
		"too late":       func() (flow, error) { return s.open(sealed, now.Add(flowAge)) },
		"another server": func() (flow, error) { return newSealer("").open(sealed, now) },
		"no cookie":      func() (flow, error) { return s.open("", now) },
		"cut":            func() (flow, error) { return s.open(sealed[:len(sealed)/2], now) },
		"changed":        func() (flow, error) { return s.open("A"+sealed[1:], now.Add(time.Hour)) },
	} {
		if got, err := open(); !errors.Is(err, errFlow) || got != (flow{}) {
			t.Errorf("%s: open = %+v, %v; want errFlow", name, got, err)
		}
	}
}
