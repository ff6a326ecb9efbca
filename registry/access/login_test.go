package access

import (
	"errors"
	"testing"

	"roadstead/registry"
)

func isCode(err error, c registry.Code) bool { return errors.Is(err, c) }

func TestBasicAndTokenLeadToTheSame(t *testing.T) {
	h := open(t)
	h.member("dora", Developer)
	for _, authorization := range []string{basic("dora", password), ""} {
		if authorization == "" {
			w, token := h.ask(basic("dora", password), "repository:production/web:pull,push")
			if token == "" {
				t.Fatalf("no token: %d %s", w.Code, w.Body)
			}
			authorization = token
		}
		p := h.who(authorization)
		if p.Name() != "dora" {
			t.Errorf("%s: principal %q, want dora", authorization, p.Name())
		}
		if err := h.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}); err != nil {
			t.Errorf("%s: push: %v", authorization, err)
		}
		if err := h.Login(p); err != nil {
			t.Errorf("%s: login: %v", authorization, err)
		}
	}
	if err := h.Login(h.who(basic("dora", "Wrong-Horse-1"))); code(err) != registry.Unauthorized {
		t.Errorf("login with a wrong password: %v, want Unauthorized", err)
	}
	if err := h.Login(h.who("")); code(err) != registry.Unauthorized {
		t.Errorf("login without credentials: %v, want Unauthorized", err)
	}
}
