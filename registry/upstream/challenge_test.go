package upstream

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	for _, row := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"none", nil, ""},
		{"Docker Hub", []string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull"`},
			`bearer realm=https://auth.docker.io/token scope=repository:library/busybox:pull service=registry.docker.io`},
		{"public.ecr.aws", []string{`Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"`},
			`bearer realm=https://public.ecr.aws/token/ scope=aws service=public.ecr.aws`},
		{"commas in a scope", []string{`Bearer realm="r",scope="repository:a:pull,push",error="invalid_token"`},
			`bearer error=invalid_token realm=r scope=repository:a:pull,push`},
		{"Basic", []string{`Basic realm="Registry Realm"`}, `basic realm=Registry Realm`},
		{"two in one field", []string{`Bearer realm="a", Basic realm="b"`}, `bearer realm=a|basic realm=b`},
		{"two fields", []string{`Basic realm="b"`, `Bearer realm="a"`}, `basic realm=b|bearer realm=a`},
		{"schemes without parameters", []string{`Negotiate, NTLM, Basic realm=b`}, `negotiate|ntlm|basic realm=b`},
		{"the example of RFC 9110", []string{`Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\""`},
			`basic realm=simple|newauth realm=apps title=Login to "apps" type=1`},
		{"token68 between others", []string{`Negotiate YII+/_-.~==, Basic realm="b"`}, `negotiate YII+/_-.~==|basic realm=b`},
		{"white space around everything", []string{" \tBearer\t  realm = \"a\" ,\tservice = b , Basic realm = c "}, `bearer realm=a service=b|basic realm=c`},
		{"empty elements", []string{`, ,Bearer realm="a",,service="b",, Basic realm="c",`}, `bearer realm=a service=b|basic realm=c`},
		{"the first of two equal names counts", []string{`Bearer realm="a",REALM="b"`}, `bearer realm=a`},
		{"an escape at the end", []string{`Bearer realm="a\`}, ``},
		{"an open string", []string{`Basic realm="b", Bearer realm="a`}, `basic realm=b`},
		{"a line break in a string", []string{"Bearer realm=\"a\r\nX: y\""}, ``},
		{"a name without a value", []string{`Bearer realm`}, `bearer realm`},
		{"a comma and nothing", []string{`,`}, ``},
		{"no scheme", []string{`="a"`}, ``},
		{"what follows rubbish is not read", []string{`Basic realm="b" ?? Bearer realm="a"`}, ``},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := show(parseChallenges(row.fields)); got != row.want {
				t.Errorf("got %s\nwant %s", got, row.want)
			}
		})
	}
}

func show(all []challenge) string {
	var out []string
	for _, c := range all {
		words := []string{c.scheme}
		if c.token68 != "" {
			words = append(words, c.token68)
		}
		for _, name := range slices.Sorted(maps.Keys(c.params)) {
			words = append(words, name+"="+c.params[name])
		}
		out = append(out, strings.Join(words, " "))
	}
	return strings.Join(out, "|")
}

// render writes challenges as RFC 9110 has them.
func render(all []challenge) string {
	var out []string
	for _, c := range all {
		text := c.scheme
		if c.token68 != "" {
			text += " " + c.token68
		}
		var params []string
		for _, name := range slices.Sorted(maps.Keys(c.params)) {
			params = append(params, fmt.Sprintf(`%s="%s"`, name, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.params[name])))
		}
		if len(params) > 0 {
			text += " " + strings.Join(params, ", ")
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// FuzzChallenges reads anything, and reads what it wrote of that the same again.
func FuzzChallenges(f *testing.F) {
	for _, seed := range []string{
		`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull"`,
		`Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\""`,
		`Negotiate YII==, NTLM, Basic realm=b`, `,`, `a b=`, `a b==,c`, "a \t b = \"\\\"\" ,", `a b/=`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		first := parseChallenges([]string{field})
		for _, c := range first {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) {
				t.Errorf("scheme %q", c.scheme)
			}
			for name, value := range c.params {
				if name == "" || strings.ContainsAny(value, "\r\n\x00") {
					t.Errorf("parameter %q=%q", name, value)
				}
			}
		}
		again := parseChallenges([]string{render(first)})
		if got, want := show(again), show(first); got != want {
			t.Errorf("%q\nread first  %s\nread again %s", field, want, got)
		}
	})
}
