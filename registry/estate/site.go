package estate

import (
	"context"
	"net/url"

	"roadstead/registry"
	"roadstead/rewrite/clients"
)

// Site is what clients are configured by: this server at the URL that they reach it by, with the
// projects that somebody may look at.
func (e *Estate) Site(ctx context.Context, p registry.Principal, at *url.URL) (clients.Site, error) {
	all, err := e.Projects(ctx, p)
	if err != nil {
		return clients.Site{}, err
	}
	s := clients.Site{URL: at}
	if e.config.Default != nil {
		s.Default = e.config.Default(at.Host)
	}
	for _, project := range all {
		s.Projects = append(s.Projects, clients.Project{
			Name: project.Name, Private: !project.Public, Hosted: project.Hosted(),
			Names: project.Names, Host: project.Host, Prefix: project.Policy.Prefix,
		})
	}
	return s, nil
}
