package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// Configs are the commands about the configuration.
type Configs struct {
	Export       ConfigExport       `cmd:"" help:"Write what is in force as a configuration file, with what was made by API or browser."`
	ImportHarbor ConfigImportHarbor `cmd:"" name:"import-harbor" help:"Read the API of a Harbor, and write a configuration with its projects."`
}

// ConfigExport is the command of that name.
type ConfigExport struct {
	onCatalog
}

// Help is the long help.
func (c *ConfigExport) Help() string {
	return `The file says the same as the configuration and the catalog do together, on this server or on another one. No secret is in it: where one is needed it names a stored secret, and a comment says how to store it. Users, robots and members are not in it, nor is content.

    roadstead config export > roadstead.yaml
    roadstead check --config roadstead.yaml`
}

// Run writes the configuration.
func (c *ConfigExport) Run(std streams) error {
	return c.with(func(ctx context.Context, cfg Config, data *Data) error {
		holding, err := readHolding(ctx, data.Catalog)
		if err != nil {
			return err
		}
		all, err := holding.whole(cfg)
		if err != nil {
			return err
		}
		if err := exportPlan(ctx, std, data.Catalog); err != nil {
			return err
		}
		return export(std, all)
	})
}

// exportPlan says in a comment when content is collected, if that was set by API: there is no key for it.
func exportPlan(ctx context.Context, std streams, db *catalog.DB) error {
	plan, set, err := estate.PlanIn(ctx, db)
	if err == nil && set {
		_, err = fmt.Fprintf(std.out, "# Collections run by the schedule %q, which was set by the API (PUT /api/v2.0/system/gc/schedule) and\n"+
			"# goes before collect.every. There is no key for it: set it again where this file is used.\n\n", cmp.Or(plan.Cron, "never"))
	}
	return err
}

// whole is a configuration with all that was made here, of either kind. The passwords of registries in
// it are the sealed ones: they say no more than that there is one.
func (h holding) whole(cfg Config) (Config, error) {
	all, err := h.over(cfg, func(r catalog.Registry) (Secret, error) { return Secret(r.Password), nil })
	if h.creators.Anyone && !h.creators.Configured {
		all.Creators = h.creators.String()
	}
	declared := all.hosted()
	for _, row := range h.beside(cfg) {
		if !slices.ContainsFunc(declared, func(p catalog.Project) bool { return p.Name == row.Name }) {
			all.Projects = append(all.Projects, madeHosted(row))
		}
	}
	return all, err
}

// madeHosted is a hosted project in the words of the configuration.
func madeHosted(row catalog.Project) Project {
	return Project{
		Name: row.Name, Hosted: true, Public: row.Public, Quota: row.Quota, Immutable: row.Immutable,
		Retain: Retain{Newest: row.Retention.Newest, Pulled: row.Retention.Pulled, Rules: row.Retention.Rules, Schedule: row.Schedule},
	}
}

// mapping is a YAML mapping that is being written, in order. What is empty is left out.
type mapping struct{ node yaml.Node }

func newMapping() *mapping { return &mapping{yaml.Node{Kind: yaml.MappingNode}} }

// add adds a key with a value, above which a comment may stand.
func (m *mapping) add(key string, value *yaml.Node, comment string) {
	m.node.Content = append(m.node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key, HeadComment: comment}, value)
}

func (m *mapping) text(key, value string) {
	if value != "" {
		m.add(key, textNode(value), "")
	}
}

// textNode writes text so that nothing in it is taken for a number or a reference.
func textNode(s string) *yaml.Node {
	var n yaml.Node
	n.SetString(strings.ReplaceAll(s, "${", "$${"))
	return &n
}

func (m *mapping) list(key string, values []string) {
	if len(values) == 0 {
		return
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, v := range values {
		item := textNode(v)
		item.Style = yaml.DoubleQuotedStyle
		n.Content = append(n.Content, item)
	}
	m.add(key, n, "")
}

func (m *mapping) flag(key string, value, usual bool) {
	if value != usual {
		m.add(key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(value)}, "")
	}
}

func (m *mapping) count(key string, n int) {
	if n != 0 {
		m.add(key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprint(n)}, "")
	}
}

func (m *mapping) duration(key string, d, usual time.Duration) {
	if d != usual {
		m.text(key, durationText(d))
	}
}

func (m *mapping) size(key string, n, usual int64) {
	if n != usual {
		m.text(key, exactSize(n))
	}
}

// exactSize writes a size without rounding it.
func exactSize(n int64) string {
	for _, unit := range []string{"PiB", "TiB", "GiB", "MiB", "KiB"} {
		if n > 0 && n%units[unit] == 0 {
			return fmt.Sprintf("%d%s", n/units[unit], unit)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// part adds a mapping below a key if there is anything in it.
func (m *mapping) part(key string, fill func(*mapping)) {
	below := newMapping()
	if fill(below); len(below.node.Content) > 0 {
		m.add(key, &below.node, "")
	}
}

// export writes a configuration.
func export(std streams, c Config) error {
	usual := defaults()
	m := newMapping()
	m.text("listen", c.Listen)
	m.add("admin", textNode(c.Admin), "")
	m.part("tls", func(m *mapping) {
		m.text("certificate", c.TLS.Certificate)
		m.text("key", c.TLS.Key)
	})
	m.text("url", c.URL)
	m.part("oidc", func(m *mapping) { exportOIDC(m, c.OIDC) })
	m.flag("offline", c.Offline, false)
	m.text("project_creation", c.Creators)
	m.part("storage", func(m *mapping) {
		m.text("directory", c.Storage.Directory)
		m.part("s3", func(m *mapping) { exportS3(m, c.Storage.S3) })
		m.part("hot", func(m *mapping) { exportHot(m, c.Storage.Hot, usual.Storage.Hot) })
		if c.Storage.MaxShare > 0 {
			m.text("max_size", fmt.Sprintf("%d%%", c.Storage.MaxShare))
		} else {
			m.size("max_size", c.Storage.MaxSize, 0)
		}
		if c.Storage.Floor < 0 {
			m.text("floor", "0B")
		} else {
			m.size("floor", c.Storage.Floor, 0)
		}
		m.text("catalog", c.Storage.Catalog)
	})
	m.part("cluster", func(m *mapping) { exportCluster(m, c.Cluster) })
	m.part("uploads", func(m *mapping) {
		m.size("max", c.Uploads.Max, 0)
		m.size("max_project", c.Uploads.MaxProject, 0)
		m.size("max_node", c.Uploads.MaxNode, 0)
		m.duration("idle", c.Uploads.Idle, usual.Uploads.Idle)
	})
	m.part("collect", func(m *mapping) {
		m.duration("grace", c.Collect.Grace, usual.Collect.Grace)
		m.duration("every", c.Collect.Every, usual.Collect.Every)
	})
	m.part("warm", func(m *mapping) { exportPlans(m, c.Plans) })
	m.part("audit", func(m *mapping) { m.duration("keep", c.Audit.Keep, 0) })
	m.size("memory", c.Memory, usual.Memory)
	m.duration("drain", c.Drain, usual.Drain)
	var networks []string
	for _, n := range c.PrivateNetworks {
		networks = append(networks, n.String())
	}
	m.list("allow_private_networks", networks)
	m.part("log", func(m *mapping) {
		if c.Log.Level != slog.LevelInfo {
			m.text("level", strings.ToLower(c.Log.Level.String()))
		}
		if c.Log.JSON {
			m.text("format", "json")
		}
	})
	m.add("default_project", textNode(c.DefaultProject), "")
	m.part("hosts", func(m *mapping) {
		for _, host := range slices.Sorted(maps.Keys(c.Hosts)) {
			m.text(host, c.Hosts[host])
		}
	})
	m.flag("builtin_projects", false, true)
	m.part("projects", func(m *mapping) {
		projects := slices.SortedFunc(slices.Values(c.Projects), func(a, b Project) int { return cmp.Compare(a.Name, b.Name) })
		for _, p := range projects {
			below := newMapping()
			exportProject(below, p)
			m.add(p.Name, &below.node, secretComment(p))
		}
	})
	enc := yaml.NewEncoder(std.out)
	enc.SetIndent(2)
	if err := enc.Encode(&m.node); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return enc.Close()
}

func exportOIDC(m *mapping, o OIDC) {
	m.text("issuer", o.Issuer)
	m.text("client_id", o.ClientID)
	name := o.ClientSecretName
	if o.ClientSecret != "" && name == "" {
		name = "oidc"
	}
	if name != "" {
		m.add("client_secret_name", textNode(name), store(name))
	}
	m.text("ca_file", o.CAFile)
	m.list("scopes", o.Scopes)
	m.text("username_claim", o.UsernameClaim)
	m.text("groups_claim", o.GroupsClaim)
	m.text("admin_group", o.AdminGroup)
	m.duration("trust", o.Trust, 0)
	if len(o.Groups) == 0 {
		return
	}
	groups := &yaml.Node{Kind: yaml.SequenceNode}
	for _, g := range o.Groups {
		one := newMapping()
		one.text("group", g.Group)
		one.text("project", g.Project)
		one.text("role", g.Role)
		groups.Content = append(groups.Content, &one.node)
	}
	m.add("groups", groups, "")
}

// store says how to store the secret of a name.
func store(name string) string { return "Store it: roadstead secret set " + name }

// secretOf is the name of the stored secret that is the password of a project in the file.
func secretOf(p Project) string {
	if p.Remote.Password == "" && p.Remote.PasswordSecret == "" || p.Remote.PasswordFile != "" {
		return ""
	}
	return cmp.Or(p.Remote.PasswordSecret, p.Name)
}

func secretComment(p Project) string {
	if name := secretOf(p); name != "" {
		return store(name)
	}
	return ""
}

func exportProject(m *mapping, p Project) {
	if p.Hosted {
		m.flag("hosted", true, false)
		m.flag("public", p.Public, false)
		m.redirect(p.Redirect)
		m.size("quota", p.Quota, 0)
		m.list("immutable", p.Immutable)
		m.part("retain", func(m *mapping) {
			m.count("newest", p.Retain.Newest)
			m.duration("pulled", p.Retain.Pulled, 0)
			m.text("schedule", p.Retain.Schedule)
			exportRules(m, p.Retain.Rules)
		})
		return
	}
	usual, remote := newProject(p.Name), p.Remote
	m.list("endpoints", remote.Endpoints)
	m.add("public", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(p.Public)}, "")
	m.redirect(p.Redirect)
	m.add("hub", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(p.Hub)}, "")
	m.list("names", p.Names)
	m.text("prefix", remote.Prefix)
	m.text("username", remote.Username)
	m.text("password_file", remote.PasswordFile)
	m.text("password_secret", secretOf(p))
	m.text("credential_helper", remote.CredentialHelper)
	m.list("auth_hosts", remote.AuthHosts)
	m.text("ca_file", remote.CAFile)
	if remote.CAFile == "" {
		m.text("ca", remote.CA)
	}
	m.text("client_certificate", remote.ClientCertificate)
	m.text("client_key", remote.ClientKey)
	m.flag("insecure", remote.Insecure, false)
	m.flag("allow_private", remote.AllowPrivate, false)
	exportProxy(m, string(remote.Proxy))
	m.duration("ttl", p.TTL, usual.TTL)
	m.duration("negative_ttl", p.Negative, usual.Negative)
	m.duration("stale_for", p.StaleFor, usual.StaleFor)
	m.duration("keep", p.Keep, usual.Keep)
	m.list("allow", p.Allow)
	m.list("deny", p.Deny)
	m.list("pin", p.Pin)
	m.duration("cooldown", p.Cooldown, 0)
	m.flag("cooldown_new", p.CooldownNew, false)
	m.part("verify", func(m *mapping) { exportVerify(m, p.Verify) })
	m.flag("keep_gone", p.KeepGone, false)
	m.flag("deny_with_upstream", p.DenyWithUpstream, false)
}

// exportProxy writes the URL of an outbound proxy without the password that may be in it.
func exportProxy(m *mapping, proxy string) {
	u, err := url.Parse(proxy)
	switch {
	case proxy == "":
	case err == nil && u.User != nil:
		u.User = nil
		m.add("proxy", textNode(u.String()), "The user and password of this proxy are left out: write http://user:password@host.")
	default:
		m.text("proxy", proxy)
	}
}
