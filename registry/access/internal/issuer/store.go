package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// store is the library's own store in memory, with a claim of groups.
type store struct {
	*storage.Storage
	people file
}

func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{c}, nil
}

func (s *store) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	if err := s.Storage.SetUserinfoFromRequest(ctx, info, r, scopes); err != nil {
		return err
	}
	// The library keeps what is in the standard's scopes out of the ID tokens of a terse client; that
	// of groups is not one of them.
	if !terse(r.GetClientID()) {
		s.group(info)
	}
	return nil
}

func (s *store) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	if err := s.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin); err != nil {
		return err
	}
	s.group(info)
	return nil
}

func (s *store) group(info *oidc.UserInfo) {
	for _, p := range s.people.read() {
		if p.Sub == info.Subject {
			info.AppendClaims("groups", p.Groups)
		}
	}
}

// client is one that may ask for groups, and may have them in its ID token.
type client struct {
	op.Client
}

func (c client) IsScopeAllowed(scope string) bool { return scope == "groups" }

func (c client) IDTokenUserinfoClaimsAssertion() bool { return !terse(c.GetID()) }

func terse(client string) bool { return client == "terse" }

// file is the path of a JSON file of users by name.
type file string

type person struct {
	Sub      string   `json:"sub"`
	Password string   `json:"password"`
	Email    string   `json:"email"`
	Groups   []string `json:"groups"`
}

// read reads the users. One that cannot be read is a provider without users.
func (f file) read() map[string]person {
	people := map[string]person{}
	b, err := os.ReadFile(string(f))
	if err == nil {
		err = json.Unmarshal(b, &people)
	}
	if err != nil {
		slog.Error("read users", "err", err)
	}
	return people
}

func (f file) GetUserByID(id string) *storage.User {
	return f.find(func(_ string, p person) bool { return p.Sub == id })
}

func (f file) GetUserByUsername(name string) *storage.User {
	return f.find(func(n string, _ person) bool { return n == name })
}

func (f file) find(wanted func(string, person) bool) *storage.User {
	for name, p := range f.read() {
		if wanted(name, p) {
			return &storage.User{ID: p.Sub, Username: name, Password: p.Password, Email: p.Email, EmailVerified: true}
		}
	}
	return nil
}

// ExampleClientID names a service user of the library's example, which nobody has the key of.
func (f file) ExampleClientID() string { return storage.ServiceUserID }
