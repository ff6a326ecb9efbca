package estate

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Registry is a registry elsewhere, as it is shown and written.
type Registry struct {
	catalog.Registry // its Password is ""

	HasPassword bool   // one is stored
	Down        bool   // a project that is a cache of it finds that it does not answer
	NewPassword string // to be stored instead; "" leaves what is there. Whoever takes the Username away takes it away too
}

func shown(r catalog.Registry) Registry {
	one := Registry{Registry: r, HasPassword: r.Password != ""}
	one.Password = ""
	return one
}

// Registries lists all registries in the order of their names.
func (e *Estate) Registries(ctx context.Context, p registry.Principal) ([]Registry, error) {
	if err := e.may(p, registry.List, Registries, ""); err != nil {
		return nil, err
	}
	rows, err := e.catalog.Registries(ctx)
	if err != nil {
		return nil, err
	}
	down, err := e.down(ctx)
	all := make([]Registry, len(rows))
	for i, row := range rows {
		all[i] = shown(row)
		all[i].Down = down[row.ID]
	}
	return all, err
}

// down are the registries that do not answer a project.
func (e *Estate) down(ctx context.Context) (map[int64]bool, error) {
	if e.config.Down == nil {
		return nil, nil
	}
	rows, err := e.catalog.AllProjects(ctx)
	all := map[int64]bool{}
	for _, row := range rows {
		if !row.Hosted() && e.config.Down(row.Name) {
			all[row.Registry] = true
		}
	}
	return all, err
}

// Registry returns one of them.
func (e *Estate) Registry(ctx context.Context, p registry.Principal, id int64) (Registry, error) {
	row, err := e.registry(ctx, p, registry.Read, id)
	if err != nil {
		return Registry{}, err
	}
	down, err := e.down(ctx)
	one := shown(row)
	one.Down = down[id]
	return one, err
}

func (e *Estate) registry(ctx context.Context, p registry.Principal, action registry.Action, id int64) (catalog.Registry, error) {
	if err := e.may(p, action, Registries, ""); err != nil {
		return catalog.Registry{}, err
	}
	return e.findRegistry(ctx, id)
}

func (e *Estate) findRegistry(ctx context.Context, id int64) (catalog.Registry, error) {
	rows, err := e.catalog.Registries(ctx) // some dozens
	if err != nil {
		return catalog.Registry{}, err
	}
	i := slices.IndexFunc(rows, func(r catalog.Registry) bool { return r.ID == id })
	if i < 0 {
		return catalog.Registry{}, unknown("registry.unknown", "there is no registry %d", id)
	}
	return rows[i], nil
}

// AddRegistry writes a new registry that answers, and returns its ID.
func (e *Estate) AddRegistry(ctx context.Context, p registry.Principal, r Registry) (id int64, err error) {
	if err := e.may(p, registry.Create, Registries, ""); err != nil {
		return 0, err
	}
	if err := tidyRegistry(&r); err != nil {
		return 0, err
	}
	if r.Username != "" && r.NewPassword == "" {
		return 0, Wrong("password", "password.missing", "the user %s of the registry needs a password", registry.Clip(r.Username))
	}
	if err := e.ping(ctx, r.Registry, r.NewPassword); err != nil {
		return 0, err
	}
	r.ID, r.Password, r.Configured = 0, "", false
	err = e.change(ctx, deed{p, registry.Create, Registries, r.Name, r.URL}, func(tx *catalog.Tx) error {
		var err error
		if id, err = tx.AddRegistry(r.Registry); err != nil || r.NewPassword == "" {
			return err
		}
		// Sealed under its number, which it has only now.
		sealed := r.Registry
		sealed.ID = id
		if sealed.Password, err = e.access.Seal(SecretOf(id), r.NewPassword); err != nil {
			return err
		}
		return tx.SetRegistry(sealed)
	})
	return id, err
}

// ChangeRegistry has fn change a registry. The projects that are caches of it ask what it says then
// from the next request on.
func (e *Estate) ChangeRegistry(ctx context.Context, p registry.Principal, id int64, fn func(*Registry) error) error {
	was, err := e.registry(ctx, p, registry.Update, id)
	if err != nil {
		return err
	}
	if was.Configured {
		return e.declaredRegistry(was.Name)
	}
	next := shown(was)
	if err := fn(&next); err != nil {
		return err
	}
	next.ID, next.Configured, next.Password = was.ID, false, was.Password
	if err := tidyRegistry(&next); err != nil {
		return err
	}
	switch {
	case next.Username == "":
		next.Password = ""
	case next.NewPassword == "" && next.Password == "":
		return Wrong("password", "password.missing", "the user %s of the registry needs a password", registry.Clip(next.Username))
	case next.NewPassword != "":
		if next.Password, err = e.access.Seal(SecretOf(id), next.NewPassword); err != nil {
			return err
		}
	case moved(was, next.Registry) && next.Password != "":
		// Whoever may change where it is must not find out the password by that.
		return Wrong("password", "password.elsewhere", "the URL leads elsewhere: give the password again, which is for %s", was.URL)
	}
	return e.change(ctx, deed{p, registry.Update, Registries, next.Name, next.URL}, func(tx *catalog.Tx) error {
		now, err := tx.Registry(id)
		if err != nil {
			return err
		}
		if now != was {
			return refuse(registry.Conflict, "registry.changed", "somebody else has just changed registry %s: look at it again", was.Name)
		}
		return tx.SetRegistry(next.Registry)
	})
}

// moved reports whether a password would go to another place, or to one that is not proved.
func moved(was, next catalog.Registry) bool {
	return was.URL != next.URL || next.Insecure && !was.Insecure || next.CA != was.CA
}

// DeleteRegistry removes a registry that no project is a cache of.
func (e *Estate) DeleteRegistry(ctx context.Context, p registry.Principal, id int64) error {
	was, err := e.registry(ctx, p, registry.Delete, id)
	if err != nil {
		return err
	}
	if was.Configured {
		return e.declaredRegistry(was.Name)
	}
	return e.change(ctx, deed{p, registry.Delete, Registries, was.Name, was.URL}, func(tx *catalog.Tx) error {
		return tx.DeleteRegistry(id)
	})
}

// PingRegistry asks a registry that is written or is about to be. With an ID what r leaves empty is
// as it is stored, its password too, if it would go where it is for. Whoever may only look at it may
// ask it as it is, and nobody else that he names.
func (e *Estate) PingRegistry(ctx context.Context, p registry.Principal, r Registry) error {
	action := registry.Create
	if r.ID != 0 {
		action = registry.Read
	}
	if err := e.may(p, action, Registries, ""); err != nil {
		return err
	}
	password := r.NewPassword
	if r.ID != 0 {
		was, err := e.findRegistry(ctx, r.ID)
		if err != nil {
			return err
		}
		if r.URL == "" {
			r.Registry = was
		}
		if password == "" && was.Password != "" && was.Username == r.Username && !moved(was, r.Registry) {
			if password, err = e.access.Unseal(SecretOf(was.ID), was.Password); err != nil {
				return err
			}
		}
		r.Name = "ping" // what the configuration calls its own nobody else may
		if err := tidyRegistry(&r); err != nil {
			return err
		}
		if r.Name = was.Name; moved(was, r.Registry) || r.AllowPrivate && !was.AllowPrivate {
			if err := e.mayWrite(p); err != nil {
				return err
			}
		}
	} else if err := tidyRegistry(&r); err != nil {
		return err
	}
	return e.ping(ctx, r.Registry, password)
}

// mayWrite says why somebody may neither make nor change registries, or nil.
func (e *Estate) mayWrite(p registry.Principal) error {
	if e.may(p, registry.Create, Registries, "") == nil {
		return nil
	}
	return e.may(p, registry.Update, Registries, "")
}

// ping wants a registry to answer.
func (e *Estate) ping(ctx context.Context, r catalog.Registry, password string) error {
	if err := e.config.Ping(ctx, r, password); err != nil {
		return &registry.Fault{Code: Unhealthy, Message: err.Error(), Err: err}
	}
	return nil
}

// Unhealthy says that a registry did not answer as one.
const Unhealthy registry.Code = "UNHEALTHY"

const (
	maxName        = 255
	maxDescription = 1 << 10
	maxCA          = 64 << 10 // a few dozen authorities
	maxCredential  = 4 << 10  // a service account in JSON is half of that
)

// tidyRegistry says what of a registry cannot be, or makes it as it is written.
func tidyRegistry(r *Registry) error {
	r.Name, r.URL = strings.TrimSpace(r.Name), strings.TrimRight(strings.TrimSpace(r.URL), "/")
	if r.Kind == "" {
		r.Kind = KindOf(r.URL)
	}
	if r.URL == "" {
		r.URL = KnownURL(r.Kind)
	}
	u, err := url.Parse(r.URL)
	switch {
	case r.Name == "" || len(r.Name) > maxName || !plain(r.Name):
		return Wrong("name", "registry.name", "the name of a registry is 1 to %d bytes without control characters", maxName)
	case strings.HasSuffix(r.Name, " (configured)") || strings.HasSuffix(r.Name, " (built-in)"):
		return Wrong("name", "registry.reserved", "%q is how registries of the configuration are called: choose another name", registry.Clip(r.Name))
	case !slices.Contains(Kinds(), r.Kind):
		return Wrong("kind", "registry.kind", "%q is no kind of registry that is known: take one of %s; docker-registry is for all that have a kind of their own", registry.Clip(r.Kind), strings.Join(Kinds(), ", "))
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return Wrong("url", "url.wrong", "%q is no URL of a registry: write one such as https://quay.io", registry.Clip(r.URL))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return Wrong("url", "url.parts", "the URL of a registry has no user, query or fragment: write https://host, and the user and password beside it")
	case len(r.Description) > maxDescription || !text(r.Description):
		return Wrong("description", "description.wrong", "the description is longer than %d bytes or has control characters", maxDescription)
	case len(r.Username) > maxCredential || !plain(r.Username) || strings.Contains(r.Username, ":"):
		return Wrong("username", "username.wrong", "the user name of a registry is at most %d bytes without a colon or control characters", maxCredential)
	case len(r.NewPassword) > maxCredential:
		return Wrong("password", "password.long", "the password of a registry is at most %d bytes long", maxCredential)
	case r.NewPassword != "" && r.Username == "":
		return Wrong("username", "username.missing", "a password needs a user name beside it")
	case r.Username != "" && u.Scheme == "http" && !r.Insecure:
		return Wrong("url", "url.clear", "the password would go to %s in clear text: write https://, or say that the registry is insecure if that is meant", registry.Clip(u.Host))
	case r.CA != "" && !certificates(r.CA):
		return Wrong("ca", "ca.wrong", "the CA certificates are not all in PEM: each begins with -----BEGIN CERTIFICATE----- and all are at most %d bytes long", maxCA)
	}
	return nil
}

// certificates reports whether text is certificates in PEM and nothing else that is PEM: a chain of
// which one link cannot be read is not the one that was meant.
func certificates(text string) bool {
	if len(text) > maxCA {
		return false
	}
	n := 0
	for rest := []byte(text); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return n > 0
		}
		if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
			return false
		}
	}
}

// plain is text of one line.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// text is text of any number of lines.
func text(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' && c != '\r' })
}
