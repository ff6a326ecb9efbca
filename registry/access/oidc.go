package access

import "net/http"

// OIDC is a provider that users log in at.
type OIDC struct {
	AdminGroup string // whoever is in it is an administrator of everything
	Groups     []GroupRole
}

// GroupRole is a role that all users of a group have in a project.
type GroupRole struct {
	Group   string
	Project string
	Role    Role
}

func (a *Access) oidcRoutes(*http.ServeMux) {}
