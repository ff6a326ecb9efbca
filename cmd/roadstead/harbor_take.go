package main

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/api"
	"roadstead/registry/estate"
	"roadstead/registry/hosted"
	"roadstead/storage/catalog"
)

// takeover is what becomes of a Harbor here.
type takeover struct {
	from     *harborEstate
	secrets  string // the folder of the files that are to be filled in, as the configuration names it
	config   Config // of which only what Harbor has a word for is set
	projects []takenProject
	accounts takenAccounts
	fills    []harborFill
	lost     []string // what has no counterpart and is no project's alone
	blanks   map[string]bool
}

// takenProject is a project in the words of the configuration.
type takenProject struct {
	Project
	registry harborRegistry // zero: people push to it
	endpoint string         // with a variable in it that is to be filled in, instead of Remote.Endpoints
	username string         // the same, instead of Remote.Username
	notes    []string       // what has no counterpart
}

// harborFill is something that Harbor does not give away and that has to be filled in.
type harborFill struct {
	where string // a file, or a variable "${NAME}" in the configuration
	what  string
	names []string // of the projects that need it
}

// takeOver says in our words what a Harbor has. It asks nobody anything.
func takeOver(e *harborEstate, secrets string) *takeover {
	t := &takeover{from: e, secrets: secrets, config: defaults(), blanks: map[string]bool{}}
	registries := map[int64]harborRegistry{}
	slugs := map[int64]string{}
	taken := map[string]bool{}
	slices.SortFunc(e.registries, func(a, b harborRegistry) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for _, r := range e.registries {
		registries[r.ID] = r
		slug := cmp.Or(slugOf(r.Name), "endpoint")
		for taken[slug] || slug == "endpoint" {
			slug += fmt.Sprintf("-%d", r.ID)
		}
		taken[slug], slugs[r.ID] = true, slug
	}
	slices.SortFunc(e.projects, func(a, b harborProject) int { return cmp.Compare(a.Name, b.Name) })
	used := map[int64]bool{}
	for _, p := range e.projects {
		used[p.Registry] = true
		if why := projectNameFault(p.Name); why != "" {
			t.lose("project %q (%d repositories) cannot be called so here, %s: move what is needed of it into another one before the volume is adopted, or it is left out", oneLine(p.Name), p.Repos, why)
			continue
		}
		one := takenProject{Project: newProject(p.Name)}
		one.Public = p.Metadata["public"] == "true"
		if p.Registry == 0 {
			t.takeHosted(&one, p)
		} else {
			r, ok := registries[p.Registry]
			if !ok {
				r = harborRegistry{ID: p.Registry}
			}
			t.takeProxy(&one, p, r, cmp.Or(slugs[r.ID], fmt.Sprintf("endpoint-%d", r.ID)))
		}
		t.noteProject(&one, p)
		t.projects = append(t.projects, one)
	}
	t.nameRegistries()
	for _, r := range e.registries {
		if !used[r.ID] {
			t.lose("endpoint %q (%s, %s): no project is a cache of it", oneLine(r.Name), oneLine(r.Type), shownURL(r.URL))
		}
	}
	t.takeSettings()
	t.takeAccounts()
	return t
}

func (t *takeover) lose(format string, args ...any) {
	t.lost = append(t.lost, fmt.Sprintf(format, args...))
}

func (p *takenProject) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// fill has something filled in, for a project.
func (t *takeover) fill(project, where, what string) {
	for i := range t.fills {
		if f := &t.fills[i]; f.where == where {
			if !slices.Contains(f.names, project) {
				f.names = append(f.names, project)
			}
			return
		}
	}
	t.fills = append(t.fills, harborFill{where, what, []string{project}})
}

// blank is a variable that is to be filled in, as it stands in the configuration.
func (t *takeover) blank(project, slug, suffix, what string) string {
	name := "HARBOR_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(slug)) + "_" + suffix
	t.blanks[name] = true
	t.fill(project, "${"+name+"}", what)
	return "${" + name + "}"
}

// projectNameFault is why a project cannot be called that; "" when it can.
func projectNameFault(name string) string {
	if registry.CheckProject(name) != nil {
		return "which is lower-case letters and digits joined by single '.', '_' or '-'"
	}
	return reservedNames[name]
}

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slugOf is a name as that of a file.
func slugOf(name string) string {
	slug := strings.Trim(notSlug.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return strings.TrimRight(slug[:min(len(slug), 60)], "-")
}

// takeHosted takes over a project that people push to.
func (t *takeover) takeHosted(one *takenProject, p harborProject) {
	one.Project = Project{Name: p.Name, Hosted: true, Public: one.Public}
	switch {
	case p.quota > 0:
		one.Quota = p.quota
	case p.quota == 0:
		one.note("its quota is 0 bytes at Harbor, and there is none here")
	}
	for _, rule := range p.immutable {
		pattern, err := api.Immutable(rule)
		switch {
		case err != nil:
			one.note("a rule of immutable tags is not taken over, so tags move that did not: %v", plain(err))
		case pattern == "":
		case !glob.MatchString(pattern) || badPattern(pattern) || strings.HasPrefix(pattern, p.Name+"/"):
			one.note("a rule of immutable tags is not taken over, so tags move that did not: %q is not a pattern here", oneLine(pattern))
		case !slices.Contains(one.Immutable, pattern):
			one.Immutable = append(one.Immutable, pattern)
		}
	}
	slices.Sort(one.Immutable)
	if p.retention == nil {
		return
	}
	// Rules keep: with one of them missing, tags would go that Harbor has kept.
	r, schedule, err := api.Retention(p.retention)
	if err != nil {
		one.note("its retention is not taken over, so all tags stay: %v", plain(err))
		return
	}
	if _, err := hosted.ParseSchedule(schedule); err != nil && schedule != hosted.Never {
		one.note("its retention runs by command only (roadstead project retain %s): %v", p.Name, err)
		schedule = hosted.Never
	}
	if len(r.Rules) > 0 {
		one.Retain = Retain{Rules: r.Rules, Schedule: schedule}
	}
}

// cloudKeys are the kinds of registries that Harbor logs in to with keys of the cloud's API, which the
// registry itself takes for nothing.
var cloudKeys = []string{"ali-acr", "huawei-SWR", "tencent-tcr", "volcengine-cr"}

// takeProxy takes over a proxy cache.
func (t *takeover) takeProxy(one *takenProject, p harborProject, r harborRegistry, slug string) {
	one.registry = r
	remote := &one.Remote
	one.Hub = r.Type == estate.DockerHub
	if r.URL == "" {
		r.URL = estate.KnownURL(r.Type)
	}
	switch known, builtin := builtinProject(p.Name); {
	case r.Type == "aws-ecr":
		t.takeAmazon(one, r, slug)
		return
	case r.URL == "" && builtin: // Harbor does not show its endpoints
		*remote, one.Hub = known.Remote, known.Hub
		one.note("its endpoint is the usual one of %s, as Harbor does not show it", p.Name)
		return
	case r.URL == "":
		one.endpoint = "https://" + t.blank(p.Name, slug, "HOST", "the host of the registry that it is a cache of, which Harbor does not show")
		return
	}
	endpoint, why := harborEndpoint(r.URL)
	if why != "" {
		one.endpoint = "https://" + t.blank(p.Name, slug, "HOST", fmt.Sprintf("the host of the registry at %s: %s", shownURL(r.URL), why))
		return
	}
	remote.Endpoints = []string{endpoint}
	if one.Hub {
		remote.Endpoints = []string{estate.BaseURL(catalog.Registry{URL: endpoint})}
	}
	if !vendor(remote.Endpoints[0]) {
		// Harbor asks anything anywhere, and most of what people run themselves is in a network of their own.
		remote.AllowPrivate = true
	}
	remote.Insecure = r.Insecure
	if r.CA != "" {
		if x509.NewCertPool().AppendCertsFromPEM([]byte(r.CA)) {
			remote.CA = r.CA
		} else {
			one.note("the CA certificate of its endpoint is not in PEM")
		}
	}
	if !slices.Contains(estate.Kinds(), r.Type) && !slices.Contains(cloudKeys, r.Type) {
		one.note("endpoints of type %q are taken for ordinary registries", oneLine(r.Type))
	}
	if r.Credential.Key == "" {
		return
	}
	if strings.HasPrefix(endpoint, "http://") && !remote.Insecure {
		remote.Insecure = true
		one.note("it has to say that it is insecure, because the password goes to it in clear text")
	}
	remote.PasswordFile = filepath.Join(t.secrets, slug)
	switch {
	case slices.Contains(cloudKeys, r.Type):
		one.username = t.blank(p.Name, slug, "USERNAME", fmt.Sprintf("whom \"docker login\" knows at %s: Harbor has keys of the cloud's API instead", remote.Endpoints[0]))
		t.fill(p.Name, remote.PasswordFile, "the password of that user")
	case r.Type == "quay" && r.Credential.Key == "json_file":
		one.username = t.blank(p.Name, slug, "USERNAME", "the account_name in the JSON that Harbor was given for "+remote.Endpoints[0])
		t.fill(p.Name, remote.PasswordFile, "the docker_cli_password in that JSON")
	default:
		remote.Username = r.Credential.Key
		t.fill(p.Name, remote.PasswordFile, fmt.Sprintf("the password of %s at %s", oneLine(r.Credential.Key), remote.Endpoints[0]))
	}
}

var (
	amazonAPI      = regexp.MustCompile(`^api\.(ecr(?:-fips)?\..+)$`)
	amazonRegistry = regexp.MustCompile(`^[0-9]+\.dkr\.ecr`)
)

// takeAmazon takes over a cache of Amazon's registries, which are one for each account and region, and
// have passwords for half a day, made by a program of Amazon's.
func (t *takeover) takeAmazon(one *takenProject, r harborRegistry, slug string) {
	endpoint, why := harborEndpoint(r.URL)
	u, err := url.Parse(endpoint)
	switch {
	case why != "" || err != nil:
		one.endpoint = "https://" + t.blank(one.Name, slug, "HOST", "the host of the registry: ACCOUNT.dkr.ecr.REGION.amazonaws.com")
	case amazonAPI.MatchString(u.Host):
		account := t.blank(one.Name, slug, "ACCOUNT", "the number of the Amazon account, which Harbor asks for at "+endpoint)
		one.endpoint = "https://" + account + ".dkr." + amazonAPI.FindStringSubmatch(u.Host)[1]
	default:
		one.Remote.Endpoints = []string{endpoint}
		if !amazonRegistry.MatchString(u.Host) {
			one.Remote.AllowPrivate = true
		}
	}
	one.Remote.CredentialHelper = "ecr-login"
	t.fill(one.Name, "docker-credential-ecr-login", "Amazon's program in PATH of the server, with keys in its environment or ~/.aws (AWS_ACCESS_KEY_ID is what Harbor calls the access ID)")
}

// vendor reports whether a registry is one of those that are at public addresses for everybody.
func vendor(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	for _, domain := range []string{"docker.io", "quay.io", "ghcr.io", "gcr.io", "pkg.dev", "registry.k8s.io", "mcr.microsoft.com", "nvcr.io", "public.ecr.aws", "azurecr.io", "amazonaws.com", "aliyuncs.com", "registry.gitlab.com", "jfrog.io"} {
		if name := u.Hostname(); name == domain || strings.HasSuffix(name, "."+domain) {
			return true
		}
	}
	return false
}

// harborEndpoint is a URL as the configuration has it, or why it cannot be one.
func harborEndpoint(at string) (endpoint, why string) {
	if _, found := cutScheme(at); !found {
		at = "https://" + at
	}
	doc := &document{env: func(string) (string, bool) { return "", false }, faulty: map[string]bool{}, lines: map[string]int{}}
	endpoint, ok := value{doc: doc, node: textNode(at), key: "endpoints"}.endpointURL()
	if !ok {
		return "", oneLine(strings.TrimPrefix(doc.faults[0].What, "endpoints: "))
	}
	return endpoint, ""
}

// shownURL is a URL without what may be secret in it.
func shownURL(at string) string {
	rest, found := cutScheme(at)
	if !found {
		rest = at
	}
	u, err := url.Parse("//" + rest)
	if err != nil {
		return "something that is no URL"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	if found {
		u.Scheme = at[:len(at)-len("://")-len(rest)]
	}
	return oneLine(strings.TrimPrefix(u.String(), "//"))
}

// nameRegistries has ?ns= of a registry mean the project that is a cache of it, as far as one is: of two,
// one that everybody may pull from.
func (t *takeover) nameRegistries() {
	taken := map[string]bool{}
	for _, p := range t.projects {
		taken[sameName(p.Name)] = true
	}
	for _, public := range []bool{true, false} {
		for i := range t.projects {
			p := &t.projects[i]
			if p.Hosted || p.Public != public {
				continue
			}
			p.Names = []string{p.Name}
			if len(p.Remote.Endpoints) == 0 {
				continue
			}
			name := sameName(estate.HostOf(p.Remote.Endpoints[0]))
			if u, err := url.Parse(p.Remote.Endpoints[0]); err != nil || u.Path != "" || !host.MatchString(name) || taken[name] {
				continue
			}
			taken[name] = true
			p.Names = []string{name}
		}
	}
}

// noteProject says what else Harbor knows of a project, and takes of a proxy what there is a word for.
func (t *takeover) noteProject(one *takenProject, p harborProject) {
	is := func(key string) bool { return p.Metadata[key] == "true" }
	if !one.Hosted {
		one.KeepGone = is("proxy_cache_local_on_not_found")
		if p.quota > 0 {
			one.note("a quota of %s: storage.max_size bounds all proxies together", bytesText(p.quota))
		}
		if p.retention != nil {
			if keep, err := api.Keep(p.retention); err == nil {
				one.Keep = keep
			} else {
				one.note("its retention: %v", plain(err))
			}
		}
	}
	if is("enable_content_trust_cosign") {
		if one.Hosted {
			one.note("Harbor serves only what is signed by cosign: here that is asked of proxies only")
		} else {
			one.note("Harbor serves only what is signed by cosign, by whomever: write verify with the keys that you trust")
		}
	}
	if is("enable_content_trust") {
		one.note("Notary's signatures")
	}
	if is("auto_scan") || is("prevent_vul") || is("auto_sbom_generation") {
		one.note("scans for vulnerabilities and bills of materials%s", either(is("prevent_vul"), ", by which pulls are refused from "+oneLine(cmp.Or(p.Metadata["severity"], "low"))+" on", ""))
	}
	if len(p.CVE.Items) > 0 {
		one.note("a list of %s", howMany(len(p.CVE.Items), "allowed CVE", "allowed CVEs"))
	}
	for _, limit := range []struct{ key, what string }{{"proxy_speed_kb", "a limit of %s kB a second to upstream"}, {"max_upstream_conn", "a limit of %s connections to upstream"}} {
		if n := p.Metadata[limit.key]; n != "" && n != "-1" && n != "0" {
			one.note(limit.what, oneLine(n))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Metadata)) {
		if v := p.Metadata[key]; !slices.Contains(knownMetadata, key) && v != "" && v != "false" && v != "-1" {
			one.note("its setting %s is %s", oneLine(key), registry.Clip(oneLine(v)))
		}
	}
	for _, many := range []struct {
		what string
		all  []harborNamed
	}{{"webhooks", p.webhooks}, {"labels", p.labels}, {"preheating, instead of which there is roadstead warm", p.preheats}} {
		if len(many.all) > 0 {
			one.note("%s: %s", many.what, someNames(many.all))
		}
	}
}

// knownMetadata are the settings of a project that have been thought about.
var knownMetadata = []string{
	"public", "retention_id", "proxy_cache_local_on_not_found", "enable_content_trust_cosign", "enable_content_trust", "auto_scan", "prevent_vul",
	"auto_sbom_generation", "severity", "reuse_sys_cve_allowlist", "proxy_speed_kb", "max_upstream_conn",
}

// someNames lists the first of many names.
func someNames(all []harborNamed) string {
	var names []string
	for _, one := range all {
		names = append(names, registry.Clip(oneLine(one.Name)))
	}
	slices.Sort(names)
	return some(names)
}

// some lists the first of many.
func some(names []string) string {
	const most = 8
	if len(names) > most+1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func howMany(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// takeSettings takes over what is no project's.
func (t *takeover) takeSettings() {
	e, c := t.from, &t.config
	switch creators := e.config["project_creation_restriction"]; creators {
	case estate.Creators{Anyone: true}.String(), estate.Creators{}.String():
		c.Creators = creators
	}
	if every, ok := t.every("collections", e.gc); ok {
		c.Collect.Every = every
	}
	if e.gc.set() && e.gc.parameter("delete_untagged") == "true" {
		t.lose("collections that remove what has no tag: here a manifest without a tag stays, unless retain has rules for the repository")
	}
	if hours := e.purge.parameter("audit_retention_hour"); e.purge.set() && hours != "" {
		if keep, err := time.ParseDuration(hours + "h"); err == nil && keep > 0 {
			c.Audit.Keep = (keep + 24*time.Hour - 1).Truncate(24 * time.Hour)
		}
	}
	if e.scan.set() {
		t.lose("scheduled scans for vulnerabilities")
	}
	if len(e.cve.Items) > 0 {
		t.lose("the list of %s", howMany(len(e.cve.Items), "allowed CVE", "allowed CVEs"))
	}
	if len(e.labels) > 0 {
		t.lose("labels: %s", someNames(e.labels))
	}
	slices.SortFunc(e.replications, func(a, b harborReplication) int { return cmp.Compare(a.Name, b.Name) })
	for _, r := range e.replications {
		t.lose("replication %q, %s%s: a proxy and roadstead warm are for what is pulled, regctl or skopeo by cron for what is sent", oneLine(r.Name),
			either(r.From.Name != "", "from "+oneLine(r.From.Name), "to "+oneLine(r.To.Name)), either(r.Enabled, "", " (disabled)"))
	}
	set := func(key string) bool { return e.config[key] == "true" }
	if set("self_registration") {
		t.lose("people who sign up by themselves: an administrator adds them, or they sign in by OIDC")
	}
	if set("read_only") {
		t.lose("Harbor is read-only now, and this would not be")
	}
	if n := e.config["storage_per_project"]; n != "" && n != "-1" && n != "0" {
		t.lose("a quota of %s bytes for each new project: give --quota to project create", oneLine(n))
	}
	if e.config["audit_log_forward_endpoint"] != "" {
		t.lose("the audit log that goes to a syslog server as well: roadstead audit --json has it")
	}
	if prefix := e.config["robot_name_prefix"]; prefix != "" && prefix != "robot$" {
		t.lose("robots are called robot$… here, and %s… at Harbor: whoever logs in as one has to change its name", oneLine(prefix))
	}
	if strings.Contains(e.config["banner_message"], "message") && !strings.Contains(e.config["banner_message"], `"message":""`) {
		t.lose("the banner")
	}
	t.takeSignIn(cmp.Or(e.config["auth_mode"], e.info.AuthMode))
}

// every is how long it is from one time of a schedule to the next.
func (t *takeover) every(what string, s harborSchedule) (time.Duration, bool) {
	if !s.set() {
		return 0, false
	}
	cron := cmp.Or(s.Schedule.Cron, map[string]string{"Hourly": "@hourly", "Daily": "@daily", "Weekly": "@weekly"}[s.Schedule.Type])
	parsed, err := hosted.ParseSchedule(cron)
	if err != nil {
		t.lose("the schedule %q of %s", oneLine(cron), what)
		return 0, false
	}
	first := parsed.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	every := max(parsed.Next(first).Sub(first), time.Hour)
	t.lose("%s at %q: here they come every %s from the start on, or by the same schedule when it is sent to PUT /api/v2.0/system/gc/schedule", what, oneLine(cron), durationText(every))
	return every, true
}

// takeSignIn takes over how people prove who they are.
func (t *takeover) takeSignIn(mode string) {
	e, c := t.from, &t.config
	switch mode {
	case "", "db_auth":
	case "ldap_auth":
		t.lose("LDAP: people get passwords of their own here, or sign in by an OIDC provider in front of it")
	case "oidc_auth":
		issuer := e.config["oidc_endpoint"]
		if issuer == "" {
			t.lose("OIDC: Harbor does not show its settings; see the README's part on OIDC")
			return
		}
		// The redirect to Harbor's path, /c/oidc/callback, is registered already.
		c.URL = e.base
		if external, err := siteURL(e.info.ExternalURL); err == nil && external != nil {
			c.URL = external.String()
		}
		c.OIDC = OIDC{
			Issuer: issuer, ClientID: e.config["oidc_client_id"], UsernameClaim: e.config["oidc_user_claim"],
			GroupsClaim: e.config["oidc_groups_claim"], AdminGroup: e.config["oidc_admin_group"],
		}
		for scope := range strings.SplitSeq(e.config["oidc_scope"], ",") {
			if scope = strings.TrimSpace(scope); scope != "" && scope != "openid" {
				c.OIDC.Scopes = append(c.OIDC.Scopes, scope)
			}
		}
		t.fill("OIDC", filepath.Join(t.secrets, "oidc"), "the client secret of "+oneLine(c.OIDC.ClientID)+" at "+oneLine(issuer))
		if e.config["oidc_verify_cert"] == "false" {
			t.lose("Harbor does not verify the certificate of the OIDC provider, and this does: write oidc.ca_file if it is of your own authority")
		}
		if e.config["oidc_group_filter"] != "" {
			t.lose("the filter of OIDC groups")
		}
	default:
		t.lose("the sign-in %q: people get passwords of their own here, or sign in by OIDC", oneLine(mode))
	}
}
