// Command issuer is an OpenID provider for tests: the certified one of zitadel's library, with
// users and their groups from a file that it reads anew for each question, so that a test can
// change them under its feet. Logging in is a form at /login/username.
//
// It has two clients of the same secret: "roadstead", whose ID tokens carry every claim, as those
// of most providers do, and "terse", whose do not, as OpenID Connect Core 1.0 §5.4 has it: what its
// scopes ask for is at the UserInfo endpoint only.
//
// It is a module of its own, because what it depends on would weigh on every build of the
// house. Nothing of the house imports it; .ci/tools installs it as oidc-issuer.
package main

import (
	"cmp"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9998", "address to listen on")
	users := flag.String("users", "users.json", "file of users: name → sub, password, email, groups")
	secret := flag.String("secret", "", "the secret of both clients")
	redirects := flag.String("redirects", "", "redirect URIs of both clients, with commas between them")
	cert := flag.String("cert", "", "certificate, for https")
	key := flag.String("key", "", "its key")
	flag.Parse()

	scheme := "http://"
	if *cert != "" {
		scheme = "https://"
	}
	clients := map[string]*storage.Client{}
	for _, id := range []string{"roadstead", "terse"} {
		clients[id] = storage.WebClient(id, *secret, strings.Split(*redirects, ",")...)
	}
	people := file(*users)
	store := &store{Storage: storage.NewStorageWithClients(people, clients), people: people}
	server := &http.Server{
		Handler:           exampleop.SetupServer(scheme+*listen, store, slog.Default(), false),
		ReadHeaderTimeout: 10 * time.Second,
	}
	if err := serve(server, *listen, *cert, *key); err != nil {
		slog.Error("ended", "err", err)
		os.Exit(1)
	}
}

func serve(s *http.Server, addr, cert, key string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if cmp.Or(cert, key) == "" {
		return s.Serve(l)
	}
	return s.ServeTLS(l, cert, key)
}
