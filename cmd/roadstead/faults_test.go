package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/cache"
	"roadstead/registry/hosted"
)

// Each row is a file and all that check says of it. The texts are part of what is promised:
// they are how most people will learn the format.
var faultTable = []struct {
	name string
	text string
	want string // the lines without "roadstead.yaml:"
}{
	{"not YAML", "listen: \":5000\"\nadmin: a: b\n",
		`2: it is not YAML: mapping values are not allowed in this context; look at the indentation, the colons and the quotes of that line and the one before`},
	{"a list at the top", "- listen\n",
		`1: it is not a mapping; write "key: value" lines, such as "listen: :5000"`},
	{"a word at the top", "hello\n",
		`1: it is not a mapping; write "key: value" lines, such as "listen: :5000"`},
	{"two documents", "listen: \":1\"\n---\nlisten: \":2\"\n",
		`2: a second document begins here; remove the line with --- and what follows it, or merge the two`},
	{"misspelt key", "lisen: \":5000\"\n",
		`1: "lisen" is not a key of the configuration; did you mean "listen"?`},
	{"key in capitals", "Listen: \":5000\"\n",
		`1: "Listen" is not a key of the configuration; did you mean "listen"?`},
	{"key that nobody knows", "storage: { xyzzyx: 1 }\n",
		`1: "xyzzyx" is not a key of storage; known are directory, s3, hot, max_size, floor, catalog, catalog_password_file`},
	{"misspelt key of a project", "projects:\n  quay.io:\n    endpoint: [ https://quay.io ]\n",
		`3: "endpoint" is not a key of quay.io; did you mean "endpoints"?`},
	{"what other registries call it", "projects:\n  quay.io:\n    remoteurl: https://quay.io\n",
		`3: "remoteurl" is not a key of quay.io; did you mean "endpoints"?`},
	{"where it is nothing", "storage: { url: /srv }\n",
		`1: "url" is not a key of storage; known are directory, s3, hot, max_size, floor, catalog, catalog_password_file`},
	{"key twice", "memory: 1MiB\nlisten: \":1\"\nmemory: 2MiB\n",
		`3: "memory" is there twice, first on line 1; remove one of them`},
	{"project twice", "projects:\n  quay.io:\n  quay.io:\n",
		`3: "quay.io" is there twice, first on line 2; remove one of them`},
	{"key that is a list", "? [ a ]\n: b\n",
		`1: a key is a list; write a plain word before the colon`},
	{"merge", "projects:\n  quay.io: &q { ttl: 1m }\n  gcr.io: { <<: *q }\n",
		`3: "<<" merges are not understood; write the keys out`},
	{"no value", "listen:\n",
		`1: listen: it has no value; write one, "" for an empty one, or remove the line`},
	{"mapping for a value", "memory: { size: 1 }\n",
		`1: memory: it is a mapping; write one value on the same line`},
	{"list for a value", "memory: [ 1MiB ]\n",
		`1: memory: it is a list; write one value on the same line`},
	{"value for a mapping", "storage: ./data\n",
		`1: storage is "./data"; write one "key: value" per line, indented below it`},
	{"list for a mapping", "projects: [ quay.io ]\n",
		`1: projects is a list; write one "key: value" per line, indented below it`},
	{"mapping for a list", "projects: { quay.io: { deny: { a: b } } }\n",
		`1: deny: it is a mapping; write a list, [ "a", "b" ]`},
	{"no list", "projects:\n  quay.io:\n    deny:\n",
		`3: deny: it has no value; write a list, [] for an empty one, or remove the line`},
	{"list in a list", "projects: { quay.io: { deny: [ [ a ] ] } }\n",
		`1: deny: it is a list; write one value on the same line`},

	{"variable not set", "listen: \":${PORT}\"\n",
		`1: listen: the environment variable PORT is not set; set it, or write ${PORT:-default}`},
	{"variable not set, in a path", "projects: { quay.io: { ca_file: \"${CA}\" } }\n",
		`1: ca_file: the environment variable CA is not set; set it, or write ${CA:-default}`},
	{"reference not closed", "listen: \":${PORT\"\n",
		`1: listen: "${PORT" is not a reference to the environment; write ${NAME} or ${NAME:-default}, or $${ for the characters themselves`},
	{"reference of the shell", "listen: \":${PORT-5000}\"\n",
		`1: listen: "${PORT-5000}" is not a reference to the environment; write ${NAME} or ${NAME:-default}, or $${ for the characters themselves`},

	{"address without a colon", "listen: \"5000\"\n",
		`1: listen: "5000" is not an address to listen on; write ":5000"`},
	{"address without a port", "listen: localhost\n",
		`1: listen: "localhost" is not an address to listen on; add a port, "localhost:5000"`},
	{"address that is a URL", "listen: http://localhost:5000\n",
		`1: listen: "http://localhost:5000" is not an address to listen on; write host:port, such as ":5000", "127.0.0.1:5000" or "[::1]:5000"`},
	{"port too large", "admin: \":70000\"\n",
		`1: admin: ":70000" is not an address to listen on; write a port from 1 to 65535 after the colon, or 0 for any free one`},
	{"port with a zero", "admin: \":05000\"\n",
		`1: admin: ":05000" is not an address to listen on; write the port as 5000`},
	{"one address twice", "listen: \":5000\"\nadmin: \":5000\"\n",
		`2: admin: :5000 is taken by listen, :5000; write another port, or "" for no metrics and health`},
	{"one port twice", "listen: \":5001\"\n",
		`1: admin: 127.0.0.1:5001 is taken by listen, :5001; write another port, or "" for no metrics and health`},

	{"certificate without a key", "tls: { certificate: cert.pem }\n",
		`1: tls: there is no key; write key beside certificate`},
	{"key without a certificate", "tls: { key: key.pem }\n",
		`1: tls: there is no certificate; write certificate beside key`},
	{"certificate not there", "tls:\n  certificate: absent.pem\n  key: absent.key\n",
		`1: tls: certificate absent.pem with key absent.key: open absent.pem: no such file or directory; name the PEM files of a certificate and of its own key that this user can read`},

	{"size in words", "memory: lots\n",
		`1: memory: "lots" is not a size; write a whole number and a unit, such as 64MiB or 100GiB`},
	{"size with a bare letter", "memory: 64M\n",
		`1: memory: "64M" is not a size; write 64MiB (powers of 1024) or 64MB (powers of 1000)`},
	{"size in Kubernetes' spelling", "storage: { max_size: 100Gi }\n",
		`1: max_size: "100Gi" is not a size; write 100GiB (powers of 1024) or 100GB (powers of 1000)`},
	{"size below zero", "storage: { floor: -1GiB }\n",
		`1: floor: "-1GiB" is not a size; write a whole number and a unit, such as 64MiB or 100GiB`},
	{"size beyond all disks", "storage: { max_size: 10000PiB }\n",
		`1: max_size: "10000PiB" is not a size; write less than 8192PiB`},
	{"no size at all", "storage: { max_size: 0 }\n",
		`1: max_size: nothing fits into no bytes; write a size, or remove the line for no limit`},
	{"share beyond everything", "storage: { max_size: 120% }\n",
		`1: max_size: "120%" is not a share of the filesystem; write 1% to 100%`},
	{"path empty", "storage: { directory: \"\" }\n",
		`1: directory: the path is empty; write one, or remove the line`},

	{"duration without a unit", "drain: 60\n",
		`1: drain: 60 has no unit; write 60s, 60m or 60h`},
	{"duration in words", "drain: a minute\n",
		`1: drain: "a minute" is not a duration; write a number and a unit, such as 30s, 5m, 2h or 7d`},
	{"duration below zero", "projects: { quay.io: { ttl: -1s } }\n",
		`1: ttl: "-1s" is not a duration; write a number and a unit, such as 30s, 5m, 2h or 7d`},
	{"neither true nor false", "builtin_projects: yes\n",
		`1: builtin_projects: "yes" is neither true nor false; write true or false`},
	{"unknown level", "log: { level: warning }\n",
		`1: level: "warning" is no word for this; did you mean "warn"?`},
	{"unknown format", "log: { format: logfmt }\n",
		`1: format: "logfmt" is no word for this; known are text, json`},

	{"default project not there", "default_project: quay\n",
		`1: default_project: there is no project "quay"; did you mean "quay.io"?`},
	{"host for a project that is not there", "hosts:\n  quay.example: quai.io\n",
		`2: quay.example: there is no project "quai.io"; did you mean "quay.io"?`},
	{"host that is a URL", "hosts:\n  \"https://quay.example\": quay.io\n",
		`2: "https://quay.example" is not a host; write the name that clients use, such as "quay.mirror.example"`},
	{"project in capitals", "projects:\n  Quay.io:\n",
		`2: "Quay.io" is not the name of a project; write quay.io`},
	{"project with a slash", "projects:\n  quay.io/team:\n",
		`2: "quay.io/team" is not the name of a project; write lower-case letters and digits joined by single '.', '_' or '-', such as quay.io`},
	{"project v2", "projects:\n  v2: { endpoints: [ https://quay.io ] }\n",
		`2: "v2" cannot be the name of a project, it begins every request's path; choose another name`},
	{"two projects for one name", "projects:\n  mirror:\n    endpoints: [ https://mirror.example.com ]\n    names: [ \"registry-1.docker.io:443\" ]\n",
		`4: names: "docker.io" means both docker.io and mirror; write other names for one of them`},
	{"host twice", "hosts:\n  \"a.example:443\": quay.io\n  A.example: quay.io\n",
		`3: "A.example" is the same as "a.example" above; remove one of them`},

	{"no endpoints", "projects:\n  mirror:\n    ttl: 1m\n",
		`2: project mirror has no endpoints; write hosted: true below it for one that people push to, or endpoints: [ "https://…" ] for a proxy`},
	{"empty endpoints", "projects:\n  quay.io:\n    endpoints: []\n",
		`3: endpoints: the list is empty; write at least one URL, such as "https://quay.io"`},
	{"endpoint without a scheme", "projects: { quay.io: { endpoints: [ quay.io ] } }\n",
		`1: endpoints: "quay.io" has no scheme; write "https://quay.io", or http:// for plain HTTP`},
	{"endpoint of another kind", "projects: { quay.io: { endpoints: [ \"ftp://quay.io\" ] } }\n",
		`1: endpoints: "ftp" is neither https nor http; write "https://quay.io"`},
	{"endpoint without a host", "projects: { quay.io: { endpoints: [ \"https://\" ] } }\n",
		`1: endpoints: it is not a URL; write scheme and host, such as "https://quay.io"`},
	{"endpoint with credentials", "projects: { quay.io: { endpoints: [ \"https://u:SECRET@quay.io\" ] } }\n",
		`1: endpoints: the URL holds credentials; write them as username and password_file beside endpoints`},
	{"endpoint of a Harbor project", "projects: { quay.io: { endpoints: [ \"https://harbor.example/v2/quay.io/\" ] } }\n",
		`1: endpoints: "https://harbor.example/v2/quay.io/" has a repository in it; write "https://harbor.example" and prefix: "quay.io"`},
	{"endpoint with a query", "projects: { quay.io: { endpoints: [ \"https://quay.io?ns=x\" ] } }\n",
		`1: endpoints: "https://quay.io?ns=x" has a query or a fragment; write "https://quay.io"`},
	{"endpoint in a private network", "projects:\n  mirror:\n    endpoints:\n      - https://192.168.1.10:5000\n",
		`3: endpoints: https://192.168.1.10:5000 is on this machine or in a private network; write allow_private: true beside endpoints if that is meant, or its network into allow_private_networks`},
	{"endpoint in another private network", "allow_private_networks: [ 192.168.2.0/24 ]\nprojects: { a: { endpoints: [ \"https://192.168.2.7\" ] }, b: { endpoints: [ \"https://192.168.1.10\" ] } }\n",
		`2: endpoints: https://192.168.1.10 is on this machine or in a private network; write allow_private: true beside endpoints if that is meant, or its network into allow_private_networks`},
	{"network without its bits", "allow_private_networks: [ 10.0.0.0/33, intranet ]\n",
		`1: allow_private_networks: "10.0.0.0/33" is not a network; write an address and how many bits of it count, such as "10.0.0.0/8"
1: allow_private_networks: "intranet" is not a network; write an address and how many bits of it count, such as "10.0.0.0/8"`},
	{"endpoint on this machine", "projects:\n  mirror: { endpoints: [ \"http://localhost:5002\" ] }\n",
		`2: endpoints: http://localhost:5002 is on this machine or in a private network; write allow_private: true beside endpoints if that is meant, or its network into allow_private_networks`},
	{"name that is a URL", "projects: { quay.io: { names: [ \"https://quay.io/\" ] } }\n",
		`1: names: "https://quay.io/" is a URL; write only the host, "quay.io"`},
	{"name that is a path", "projects: { quay.io: { names: [ \"quay.io/team\" ] } }\n",
		`1: names: "quay.io/team" is not a host; write a name with an optional port, such as "quay.io" or "registry.example.com:5000"`},
	{"prefix with a slash", "projects: { quay.io: { prefix: /team } }\n",
		`1: prefix: "/team" is not the beginning of a repository's name; write lower-case components without a slash at the ends, such as "team/images"`},

	{"user without a password", "projects: { quay.io: { username: u } }\n",
		`1: username: there is no password; write password or, better, password_file beside it`},
	{"password without a user", "projects: { quay.io: { password: SECRET } }\n",
		`1: password: there is no username; write username beside it`},
	{"two passwords", "projects:\n  quay.io:\n    username: u\n    password: SECRET\n    password_file: empty\n",
		`5: password_file: the file is empty; put the password into it`},
	{"two passwords that are good", "projects:\n  quay.io:\n    username: u\n    password: SECRET\n    password_file: text\n",
		`4: password: password_file is there as well; remove one of them`},
	{"password file not there", "projects: { quay.io: { username: u, password_file: absent } }\n",
		`1: password_file: the file cannot be read: open absent: no such file or directory; name a file that this user can read; relative paths start from the folder of the configuration file`},
	{"password in clear text", "projects: { mirror: { endpoints: \"http://mirror.example.com\", username: u, password: SECRET } }\n",
		`1: endpoints: username and password would go to http://mirror.example.com in clear text; write https://, or insecure: true if that is meant`},
	{"user and helper", "projects: { quay.io: { username: u, password: SECRET, credential_helper: ecr-login } }\n",
		`1: credential_helper: there is a username or a password as well; remove either
1: credential_helper: there is no program docker-credential-ecr-login in PATH; install it, or write username and password_file`},
	{"helper that is a path", "projects: { quay.io: { credential_helper: /usr/bin/docker-credential-x } }\n",
		`1: credential_helper: "/usr/bin/docker-credential-x" is not the name of a credential helper; write what follows "docker-credential-", such as ecr-login`},
	{"helper that is not installed", "projects: { public.ecr.aws: { credential_helper: ecr-login } }\n",
		`1: credential_helper: there is no program docker-credential-ecr-login in PATH; install it, or write username and password_file`},
	{"nothing to send to a token service", "projects: { quay.io: { auth_hosts: [ sso.example.com ] } }\n",
		`1: auth_hosts: there are no credentials that could go there; write username and password_file, or remove auth_hosts`},
	{"CA file without a certificate", "projects: { quay.io: { ca_file: empty } }\n",
		`1: ca_file: no certificate is in the file; name a PEM file with "BEGIN CERTIFICATE" in it`},
	{"client certificate without a key", "projects: { quay.io: { client_certificate: empty } }\n",
		`1: client_certificate: there is no client_key; write client_key beside it`},
	{"client key without a certificate", "projects: { quay.io: { client_key: empty } }\n",
		`1: client_key: there is no client_certificate; write client_certificate beside it`},
	{"client certificate and key that are none", "projects: { quay.io: { client_certificate: text, client_key: text } }\n",
		`1: client_certificate: certificate text with key text: tls: failed to find any PEM data in certificate input; name the PEM files of a certificate and of its own key that this user can read`},
	{"proxy of another kind", "projects: { quay.io: { proxy: \"ftp://u:SECRET@proxy\" } }\n",
		`1: proxy: it is not the URL of a proxy; write http://, https:// or socks5:// and host:port, or "direct" for none`},

	{"pattern with the project", "projects: { quay.io: { allow: [ \"quay.io/team/**\" ] } }\n",
		`1: allow: "quay.io/team/**" begins with the project's name; write "team/**": patterns are below the project`},
	{"pattern with a digest", "projects: { quay.io: { pin: [ \"team/app@sha256:abc\" ] } }\n",
		`1: pin: "team/app@sha256:abc" has a digest; write a repository, or a repository and a tag: digests follow from them`},
	{"pattern in capitals", "projects: { quay.io: { deny: [ \"Team/*\" ] } }\n",
		`1: deny: "Team/*" is not a pattern; write repository or repository:tag in lower case with * within a component and ** across, such as "library/**" or "rancher/*:v1.*"`},
	{"pattern without a repository", "projects: { quay.io: { deny: [ \":latest\" ] } }\n",
		`1: deny: ":latest" is not a pattern; write repository or repository:tag in lower case with * within a component and ** across, such as "library/**" or "rancher/*:v1.*"`},
	{"pattern with an open bracket", "projects: { quay.io: { deny: [ \"team/[a\" ] } }\n",
		`1: deny: "team/[a" is not a pattern; write repository or repository:tag in lower case with * within a component and ** across, such as "library/**" or "rancher/*:v1.*"`},

	{"project of a path of ours", "projects:\n  c: { endpoints: [ https://quay.io ] }\n  api: { hosted: true }\n  service: { hosted: true }\n",
		`2: "c" cannot be the name of a project, people sign in at /c/oidc/login; choose another name
3: "api" cannot be the name of a project, /api is for Harbor's REST API; choose another name
4: "service" cannot be the name of a project, tokens are given out at /service/token; choose another name`},
	{"hosted project with an upstream", "projects:\n  production:\n    hosted: true\n    endpoints: [ https://quay.io ]\n    ttl: 1m\n",
		`4: endpoints: a hosted project has no upstream, and what is pushed to it stays; remove the line, or hosted: true for a proxy
5: ttl: a hosted project has no upstream, and what is pushed to it stays; remove the line, or hosted: true for a proxy`},
	{"proxy with what only a hosted project has", "projects:\n  quay.io:\n    quota: 1GiB\n    immutable: [ \"**:v*\" ]\n    retain: { newest: 3 }\n",
		`3: quota: a proxy has what its upstream has, and evicts what nobody uses; remove the line, or write hosted: true for a project that people push to
4: immutable: a proxy has what its upstream has, and evicts what nobody uses; remove the line, or write hosted: true for a project that people push to
5: retain: a proxy has what its upstream has, and evicts what nobody uses; remove the line, or write hosted: true for a project that people push to`},
	{"neither hosted nor with an upstream", "projects:\n  production: { public: true }\n",
		`2: project production has no endpoints; write hosted: true below it for one that people push to, or endpoints: [ "https://…" ] for a proxy`},
	{"quota with a bare letter", "projects: { production: { hosted: true, quota: 100G } }\n",
		`1: quota: "100G" is not a size; write 100GiB (powers of 1024) or 100GB (powers of 1000)`},
	{"no quota at all", "projects: { production: { hosted: true, quota: 0 } }\n",
		`1: quota: nothing fits into no bytes; write a size, or remove the line for no limit`},
	{"immutable that is no pattern", "projects: { production: { hosted: true, immutable: [ \"production/app:v*\", \"v[1\" ] } }\n",
		`1: immutable: "production/app:v*" begins with the project's name; write "app:v*": patterns are below the project
1: immutable: "v[1" is not a pattern; write repository or repository:tag in lower case with * within a component and ** across, such as "library/**" or "rancher/*:v1.*"`},
	{"retention that nobody knows", "projects: { production: { hosted: true, retain: { newst: 3 } } }\n",
		`1: "newst" is not a key of retain; did you mean "newest"?`},
	{"retention below zero", "projects: { production: { hosted: true, retain: { newest: -1, pulled: 30 } } }\n",
		`1: newest: "-1" is not a number of things; write a whole number, such as 10
1: pulled: 30 has no unit; write 30s, 30m or 30h`},
	{"retention at no time", "projects: { production: { hosted: true, retain: { newest: 3, schedule: \"0 3 * * *\" } } }\n",
		`1: schedule: "0 3 * * *" is no schedule: write second, minute, hour, day, month and day of the week, such as 0 0 3 * * * for every night at three, UTC; or write @daily and the like, or never for by command only`},
	{"rules of retention that are none", "projects: { production: { hosted: true, retain: { rules: [ { tag: v }, { tags: \"[v\", newest: 0 }, { tags: a, except_tags: b, pulled: 0s } ] } } }\n",
		`1: "tag" is not a key of rules; did you mean "tags"?
1: tags: "[v" is not a pattern; write * within a component and ** across, such as "web/**" or "v*"
1: newest: it keeps nothing; write 1 or more, or remove the line
1: except_tags: the rule says already which it is about; write one of except_tags and its opposite, and join patterns with {a,b}
1: pulled: it keeps nothing; write a time, such as 30d, or remove the line`},
	{"projects created by nobody", "project_creation: nobody\n",
		`1: project_creation: "nobody" is no word for this; known are everyone, adminonly`},
	{"neither public nor private", "projects: { production: { hosted: true, public: everybody } }\n",
		`1: public: "everybody" is neither true nor false; write true or false`},
	{"two passwords, one stored", "projects: { quay.io: { username: u, password: SECRET, password_secret: quay } }\n",
		`1: password_secret: there is another password as well; remove one of them`},
	{"stored password without a user", "projects: { quay.io: { password_secret: quay } }\n",
		`1: password: there is no username; write username beside it`},
	{"stored password that is a path", "projects: { quay.io: { username: u, password_secret: ../quay } }\n",
		`1: password_secret: "../quay" is not the name of a secret; write the name that "roadstead secret set NAME" was given: lower-case letters and digits joined by single '.', '_' or '-'`},

	{"url without a scheme", "url: mirror.example.com\n",
		`1: url: it is not the URL of a server; write scheme and host, such as "https://mirror.example.com"`},
	{"url with a password", "url: https://u:SECRET@mirror.example.com\n",
		`1: url: it is not the URL of a server; write scheme and host, such as "https://mirror.example.com"`},
	{"url with a path", "url: https://mirror.example.com/v2/\n",
		`1: url: "https://mirror.example.com/v2" has a path; write "https://mirror.example.com": the registry is at the root of its host`},
	{"admin password file not there", "admin_password_file: absent\n",
		`1: admin_password_file: the file cannot be read: open absent: no such file or directory; name a file that this user can read; relative paths start from the folder of the configuration file`},
	{"secret file of a bucket empty", "storage: { s3: { bucket: b, access_key: a, secret_key_file: empty } }\n",
		`1: secret_key_file: the file is empty; put the secret into it`},
	{"admin password file empty", "admin_password_file: empty\n",
		`1: admin_password_file: the file is empty; put the password into it`},
	{"catalog that is no database", "storage: { catalog: mysql://u@db.example/SECRET }\n",
		`1: catalog: it is not the URL of a database; write postgres://USER@HOST:5432/DATABASE, with what is special in it escaped as in %2F, or remove the line for a file in the directory`},
	{"catalog with a password", "storage: { catalog: 'postgres://u:SECRET@db.example/roadstead' }\n",
		`1: catalog: the URL holds a password; write it into a file and name that as catalog_password_file beside it, or set ROADSTEAD_CATALOG_PASSWORD`},
	{"catalog with a password that is not escaped", "storage: { catalog: 'postgres://u:SEC/RET@db.example/roadstead' }\n",
		`1: catalog: it is not the URL of a database; write postgres://USER@HOST:5432/DATABASE, with what is special in it escaped as in %2F, or remove the line for a file in the directory`},
	{"catalog password without a catalog", "storage: { catalog_password_file: text }\n",
		`1: catalog_password_file: there is no catalog that it is for; write catalog beside it, or remove the line`},
	{"uploads that nobody knows", "uploads: { max_size: 1GiB }\n",
		`1: "max_size" is not a key of uploads; did you mean "max_node"?`},
	{"uploads without a time", "uploads: { idle: 0s }\n",
		`1: idle: no upload could ever be gone on with; write how long one may rest, such as 24h`},
	{"collection without a grace", "collect: { grace: 0s, every: soon }\n",
		`1: grace: what is pushed before its manifest would go at once; write how long it may wait for it, such as 24h
1: every: "soon" is not a duration; write a number and a unit, such as 30s, 5m, 2h or 7d`},

	{"oidc with nothing in it", "oidc: {}\n",
		`1: oidc: there is no issuer; write its URL, such as "https://id.example.com"
1: oidc: there is no client_id; write what the issuer calls this server
1: oidc: there is no url, and the issuer has to know where to send people back to; write url: "https://mirror.example.com" at the top, with the name that people use`},
	{"oidc in clear text", "url: https://mirror.example.com\noidc: { issuer: \"http://id.example.com\", client_id: r, client_secret: SECRET }\n",
		`2: issuer: people's passwords and names would go there in clear text; write https://`},
	{"oidc that trusts nobody", "url: https://mirror.example.com\noidc: { issuer: \"https://id.example.com\", client_id: r, trust: 0s }\n",
		`2: trust: nobody's secret would be good for anything; write how long it is after the last sign-in, such as 7d`},
	{"oidc with two secrets", "url: https://mirror.example.com\noidc: { issuer: \"https://id.example.com\", client_id: r, client_secret: SECRET, client_secret_name: oidc }\n",
		`2: client_secret_name: client_secret is there as well; remove one of them`},
	{"oidc with groups that lead nowhere", `url: https://mirror.example.com
oidc:
  issuer: https://id.example.com
  client_id: r
  client_secret: SECRET
  groups:
    - { group: dev, project: production, role: Developer }
    - { group: dev, project: Production, role: developer }
    - { group: dev, role: developer }
    - { group: dev, project: production, role: boss }
    - dev
`,
		`7: role: "Developer" is not a role; did you mean "developer"?
8: project: "Production" is not the name of a project; write lower-case letters and digits joined by single '.', '_' or '-', such as production
9: groups: one of group, project and role is not there; write { group: dev, project: production, role: developer }
10: role: "boss" is not a role; known are limitedGuest, guest, developer, maintainer, projectAdmin
11: groups is "dev"; write one "key: value" per line, indented below it`},

	{"everything at once, in the order of the file", `listen: "5000"
memry: 1MiB
projects:
  quay.io:
    ttl: soon
    endpoints: [ quay.io ]
default_project: hub
storage: { max_size: big }
`,
		`1: listen: "5000" is not an address to listen on; write ":5000"
2: "memry" is not a key of the configuration; did you mean "memory"?
5: ttl: "soon" is not a duration; write a number and a unit, such as 30s, 5m, 2h or 7d
6: endpoints: "quay.io" has no scheme; write "https://quay.io", or http:// for plain HTTP
7: default_project: there is no project "hub"; known are docker.io, gcr.io, ghcr.io, k8s.gcr.io, mcr.microsoft.com, nvcr.io, public.ecr.aws, quay.io, registry.k8s.io
8: max_size: "big" is not a size; write a whole number and a unit, such as 64MiB or 100GiB`},
}

func TestEveryFaultIsSaidWithItsLineAndWhatToWrite(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("PATH", dir)
	write(t, filepath.Join(dir, "empty"), "\n")
	write(t, filepath.Join(dir, "text"), "text\n")
	for _, row := range faultTable {
		t.Run(row.name, func(t *testing.T) {
			_, faults := parse(t, row.text)
			var got []string
			for _, f := range faults {
				if strings.Contains(f.Error(), "SECRET") {
					t.Errorf("a secret is in %q", f)
				}
				got = append(got, strings.TrimPrefix(f.Error(), "roadstead.yaml:"))
			}
			if text := strings.Join(got, "\n"); text != row.want {
				t.Errorf("\ngot  %s\nwant %s", text, row.want)
			}
		})
	}
}

func TestACertificateThatIsNotOfItsKeyIsAFault(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	cert, _ := certificate(t, a)
	_, key := certificate(t, b)
	for name, text := range map[string]string{
		"of the server": "tls: { certificate: " + cert + ", key: " + key + " }\n",
		"of the client": "projects: { quay.io: { client_certificate: " + cert + ", client_key: " + key + " } }\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := parse(t, text)
			if len(faults) != 1 || !strings.Contains(faults[0].Error(), "private key does not match public key") {
				t.Errorf("got %v", faults)
			}
		})
	}
}

// FuzzParseConfig looks for texts that stop the parser, for faults without a place or a
// remedy, and for configurations that pass and cannot be used.
func FuzzParseConfig(f *testing.F) {
	for _, row := range faultTable {
		f.Add(row.text)
	}
	f.Add("a: &a [*a]\n")
	f.Add("projects: &a { quay.io: *a }\n")
	f.Add("listen: ${A:-${B}}\nmemory: 9223372036854775807PiB\n")
	dir := f.TempDir()
	if err := os.Chdir(dir); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "/") && strings.Contains(text, "_file") {
			return // it may name a device of this machine
		}
		c, faults := parseConfig("roadstead.yaml", []byte(text), environment([]string{"PORT=5000"}))
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1
		for _, f := range faults {
			if f.What == "" || f.Instead == "" || f.Line > lines {
				t.Errorf("%+v of a text of %d lines", f, lines)
			}
		}
		if len(faults) > 0 {
			return
		}
		if _, err := newTable(c, c.hosted()); err != nil {
			t.Errorf("passed: %v", err)
		}
		var u upstreams
		next, err := u.connect(c.proxies())
		if err != nil {
			t.Fatalf("passed: %v", err)
		}
		if err := new(cache.Cache).SetProjects(next.cached(c.proxies())); err != nil {
			t.Errorf("passed: %v", err)
		}
		if err := new(hosted.Registry).SetProjects(c.hosted()); err != nil {
			t.Errorf("passed: %v", err)
		}
		if c.Memory < 0 || c.Drain < 0 || c.Storage.Directory == "" {
			t.Errorf("passed: %+v", c)
		}
	})
}
