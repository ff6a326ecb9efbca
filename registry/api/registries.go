package api

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// hidden stands for a secret in answers, and in requests for the one that is there.
const hidden = "*****"

// registryView is a registry as clients see it.
type registryView struct {
	ID           int64           `json:"id"`
	Name         string          `json:"name"`
	Description  string          `json:"description"`
	Type         string          `json:"type"`
	URL          string          `json:"url"`
	Credential   *credentialView `json:"credential,omitempty"`
	Insecure     bool            `json:"insecure"`
	CA           string          `json:"ca_certificate,omitempty"`
	AllowPrivate bool            `json:"allow_private"` // ours
	Declared     bool            `json:"declared"`      // ours
	Status       string          `json:"status"`
	CreatedAt    stamp           `json:"creation_time"`
	UpdatedAt    stamp           `json:"update_time"`
}

type credentialView struct {
	Type   string `json:"type"`
	Key    string `json:"access_key"`
	Secret string `json:"access_secret"`
}

func viewRegistry(r estate.Registry) registryView {
	v := registryView{
		ID: r.ID, Name: r.Name, Description: r.Description, Type: r.Kind, URL: r.URL, Insecure: r.Insecure, CA: r.CA,
		AllowPrivate: r.AllowPrivate, Declared: r.Configured, Status: healthy(!r.Down), CreatedAt: stamp(r.CreatedAt), UpdatedAt: stamp(r.UpdatedAt),
	}
	if r.Username != "" || r.HasPassword {
		v.Credential = &credentialView{Type: "basic", Key: r.Username}
		if r.HasPassword {
			v.Credential.Secret = hidden
		}
	}
	return v
}

func healthy(ok bool) string {
	if ok {
		return "healthy"
	}
	return "unhealthy"
}

// registryBody is what clients send of a registry. To create one they nest the credential, to change
// or ping one most do not. What is absent stays as it is.
type registryBody struct {
	ID           *int64  `json:"id"`
	Name         *string `json:"name"`
	Description  *string `json:"description"`
	Type         *string `json:"type"`
	URL          *string `json:"url"`
	Insecure     *bool   `json:"insecure"`
	CA           *string `json:"ca_certificate"`
	AllowPrivate *bool   `json:"allow_private"`
	Key          *string `json:"access_key"`
	Secret       *string `json:"access_secret"`
	Credential   *struct {
		Key    *string `json:"access_key"`
		Secret *string `json:"access_secret"`
	} `json:"credential"`
}

// apply writes what the body says into a registry.
func (b registryBody) apply(r *estate.Registry) {
	key, secret := b.Key, b.Secret
	if b.Credential != nil {
		key, secret = cmp.Or(key, b.Credential.Key), cmp.Or(secret, b.Credential.Secret)
	}
	set(&r.Name, b.Name)
	set(&r.Description, b.Description)
	set(&r.Kind, b.Type)
	set(&r.URL, b.URL)
	set(&r.Insecure, b.Insecure)
	set(&r.CA, b.CA)
	set(&r.AllowPrivate, b.AllowPrivate)
	set(&r.Username, key)
	if secret != nil && *secret != hidden {
		r.NewPassword = *secret
	}
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (c *call) listRegistries() error {
	f, err := c.filter("name", "type", "url", "id")
	if err != nil {
		return err
	}
	all, err := c.estate.Registries(c.ctx(), c.who)
	if err != nil {
		return err
	}
	name := strings.ToLower(c.r.URL.Query().Get("name"))
	var views []registryView
	for _, r := range all {
		fits := f.fits("name", r.Name) && f.fits("type", r.Kind) && f.fits("url", r.URL) && f.fits("id", strconv.FormatInt(r.ID, 10))
		if fits && strings.Contains(strings.ToLower(r.Name), name) {
			views = append(views, viewRegistry(r))
		}
	}
	err = order(c, views, map[string]func(a, b registryView) int{
		"name":          func(a, b registryView) int { return strings.Compare(a.Name, b.Name) },
		"id":            func(a, b registryView) int { return cmp.Compare(a.ID, b.ID) },
		"creation_time": func(a, b registryView) int { return time.Time(a.CreatedAt).Compare(time.Time(b.CreatedAt)) },
		"update_time":   func(a, b registryView) int { return time.Time(a.UpdatedAt).Compare(time.Time(b.UpdatedAt)) },
	})
	if err != nil {
		return err
	}
	return cut(c, views)
}

func (c *call) createRegistry() error {
	var b registryBody
	if err := c.body(&b); err != nil {
		return err
	}
	var r estate.Registry
	b.apply(&r)
	id, err := c.estate.AddRegistry(c.ctx(), c.who, r)
	if err != nil {
		return err
	}
	return c.created(nil, "/registries/%d", id)
}

func (c *call) readRegistry() error {
	id, err := c.number("id", "registry")
	if err != nil {
		return err
	}
	r, err := c.estate.Registry(c.ctx(), c.who, id)
	if err != nil {
		return err
	}
	return c.ok(viewRegistry(r))
}

func (c *call) updateRegistry() error {
	id, err := c.number("id", "registry")
	if err != nil {
		return err
	}
	var b registryBody
	if err := c.body(&b); err != nil {
		return err
	}
	err = c.estate.ChangeRegistry(c.ctx(), c.who, id, func(r *estate.Registry) error {
		b.apply(r)
		return nil
	})
	if err != nil {
		return err
	}
	return c.done()
}

func (c *call) deleteRegistry() error {
	id, err := c.number("id", "registry")
	if err != nil {
		return err
	}
	if err := c.estate.DeleteRegistry(c.ctx(), c.who, id); err != nil {
		return err
	}
	return c.done()
}

func (c *call) pingRegistry() error {
	var b registryBody
	if err := c.body(&b); err != nil {
		return err
	}
	r := estate.Registry{Registry: catalog.Registry{Name: "ping"}}
	if b.ID != nil && *b.ID > 0 {
		was, err := c.estate.Registry(c.ctx(), c.who, *b.ID)
		if err != nil {
			return err
		}
		was.NewPassword = ""
		r = was
	}
	name := r.Name
	b.apply(&r)
	r.Name = name
	if err := c.estate.PingRegistry(c.ctx(), c.who, r); err != nil {
		return err
	}
	return c.done()
}

func (c *call) listAdapters() error {
	if err := c.estate.MayIn(c.who, registry.List, access.Adapters, ""); err != nil {
		return err
	}
	return c.ok(estate.Kinds())
}
