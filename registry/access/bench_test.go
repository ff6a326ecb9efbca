package access

import (
	"net/http"
	"testing"

	"roadstead/registry"
)

// What Identify and Authorize add to a hit.
func BenchmarkDecide(b *testing.B) {
	h := open(b, func(c *Config) { c.cost = usual })
	_, token := h.ask(basic("admin", password), "repository:production/web:pull,push")
	robot := h.robot("production", "ci", "pull")
	for _, test := range []struct {
		name          string
		authorization string
		repo          registry.Repo
	}{
		{"anonymous", "", tool},
		{"robot by Basic", basic("robot$production+ci", robot), web},
		{"user by Basic", basic("admin", password), web},
		{"token", token, web},
	} {
		r := request("/v2/production/web/manifests/latest", test.authorization)
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := h.Identify(r)
				if err == nil {
					err = h.Authorize(p, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: test.repo})
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	for b.Loop() {
		hashPassword(password, usual)
	}
}

// What a token costs: a signature and the rest of the token service.
func BenchmarkToken(b *testing.B) {
	h := open(b)
	for b.Loop() {
		if w, _ := h.ask("", "repository:public/tool:pull"); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}

// A token that was not seen before.
func BenchmarkVerify(b *testing.B) {
	h := open(b)
	_, token := h.ask(basic("admin", password), "repository:production/web:pull,push")
	r := request("/v2/", token)
	for b.Loop() {
		h.verified.all.Purge()
		if p, _ := h.Identify(r); p.Name() != "admin" {
			b.Fatal("not identified")
		}
	}
}
