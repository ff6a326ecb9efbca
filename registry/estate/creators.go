package estate

import (
	"context"
	"errors"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Creators says who may create projects. The zero value is administrators, as somebody has set it or
// nobody has.
type Creators struct {
	Anyone     bool `json:"anyone,omitempty"`     // every user, who then administers the project
	Configured bool `json:"configured,omitempty"` // the configuration says so, and nobody else
}

const creatorsSetting = "creators"

// ReadCreators returns what a catalog says of that.
func ReadCreators(ctx context.Context, db *catalog.DB) (c Creators, err error) {
	err = db.Setting(ctx, creatorsSetting, &c)
	if errors.Is(err, catalog.ErrNotFound) {
		return Creators{}, nil
	}
	return c, err
}

// Put writes it down.
func (c Creators) Put(tx *catalog.Tx) error { return tx.PutSetting(creatorsSetting, c) }

// String is Harbor's word for it.
func (c Creators) String() string {
	if c.Anyone {
		return "everyone"
	}
	return "adminonly"
}

// ParseCreators reads Harbor's word for it.
func ParseCreators(word string) (c Creators, ok bool) {
	c.Anyone = word == "everyone"
	return c, c.String() == word
}

// Creators returns who may create projects.
func (e *Estate) Creators(ctx context.Context, p registry.Principal) (Creators, error) {
	if err := e.may(p, registry.Read, access.Configuration, ""); err != nil {
		return Creators{}, err
	}
	return ReadCreators(ctx, e.catalog)
}

// SetCreators says who may create projects, unless the configuration does. To say what it says too
// changes nothing, and is taken.
func (e *Estate) SetCreators(ctx context.Context, p registry.Principal, c Creators) error {
	if err := e.may(p, registry.Update, access.Configuration, ""); err != nil {
		return err
	}
	was, err := ReadCreators(ctx, e.catalog)
	switch {
	case err != nil:
		return err
	case was.Anyone == c.Anyone:
		return nil
	case was.Configured:
		return refuse(registry.Denied, "declared.creators", "who may create projects is declared in %s as project_creation: change it there and send the server a SIGHUP", e.config.File)
	}
	return e.change(ctx, deed{p, registry.Update, access.Configuration, "project_creation", c.String()}, Creators{Anyone: c.Anyone}.Put)
}

// mayCreate says why somebody may not create a project, or nil. To create projects is not to make
// proxies, nor to take the place of a built-in one: see point.go.
func (e *Estate) mayCreate(p registry.Principal, next catalog.Project) error {
	if err := e.may(p, registry.Create, Projects, ""); err != nil {
		return err
	}
	switch {
	case !next.Hosted() && e.may(p, registry.Read, Registries, "") != nil:
		return refuse(registry.Denied, "create.proxy", "proxies are made by those who may read registries: make a project that people push to, or ask an administrator")
	case e.config.Builtin(next.Name) && e.may(p, registry.Update, Registries, "") != nil:
		return refuse(registry.Denied, "create.builtin", "%s is the name of a built-in proxy, which those replace who may change registries: choose another name", next.Name)
	}
	return nil
}
