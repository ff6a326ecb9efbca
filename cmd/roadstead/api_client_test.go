package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clientModule has the versions that generate the client and that it is made with.
const clientModule = `module client

go 1.26

require (
	github.com/oapi-codegen/runtime v1.9.0
	go.yaml.in/yaml/v3 v3.0.6
)
`

const generator = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"

// clientProgram does with the generated client what an operator begins with, and says what it sees.
const clientProgram = `package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func check(err error, response *http.Response, body []byte, want int) {
	if err != nil || response.StatusCode != want {
		fmt.Println("unexpected:", err, response, string(body))
		os.Exit(1)
	}
}

func ptr[T any](v T) *T { return &v }

func number(location string) int64 {
	n, err := strconv.ParseInt(location[strings.LastIndexByte(location, '/')+1:], 10, 64)
	if err != nil {
		fmt.Println("no number in", location)
		os.Exit(1)
	}
	return n
}

func main() {
	ctx := context.Background()
	login := func(_ context.Context, r *http.Request) error { r.SetBasicAuth("admin", os.Args[3]); return nil }
	c, err := NewClientWithResponses(os.Args[1], WithRequestEditorFn(login))
	if err != nil {
		panic(err)
	}
	all, err := c.ListRegistriesWithResponse(ctx, nil)
	check(err, all.HTTPResponse, all.Body, 200)
	fmt.Println("registries:", len(*all.JSON200), "of", all.Headers200.XTotalCount)

	made, err := c.CreateRegistryWithResponse(ctx, RegistryCreate{Name: "there", Type: ptr("docker-registry"), Url: ptr(os.Args[2]), AllowPrivate: ptr(true)})
	check(err, made.HTTPResponse, made.Body, 201)
	id := number(made.HTTPResponse.Header.Get("Location"))
	one, err := c.ReadRegistryWithResponse(ctx, id)
	check(err, one.HTTPResponse, one.Body, 200)
	fmt.Println("registry:", one.JSON200.Name, one.JSON200.Status)

	proxy, err := c.CreateProjectWithResponse(ctx, ProjectCreate{ProjectName: "mirror", RegistryId: &id, Public: ptr(true)})
	check(err, proxy.HTTPResponse, proxy.Body, 201)
	project, err := c.ReadProjectWithResponse(ctx, "mirror", nil)
	check(err, project.HTTPResponse, project.Body, 200)
	fmt.Println("project:", project.JSON200.Name, project.JSON200.Metadata["public"], *project.JSON200.RegistryId == id)

	fresh, err := c.RefreshTagWithResponse(ctx, "mirror", "team/app", "v1", nil)
	check(err, fresh.HTTPResponse, fresh.Body, 200)
	fmt.Println("refreshed:", fresh.JSON200.Moved)
	repository, err := c.ReadRepositoryWithResponse(ctx, "mirror", "team/app", nil)
	for range 500 { // what is cached is written down a little later
		if err != nil || repository.StatusCode() != 404 {
			break
		}
		time.Sleep(10 * time.Millisecond)
		repository, err = c.ReadRepositoryWithResponse(ctx, "mirror", "team/app", nil)
	}
	check(err, repository.HTTPResponse, repository.Body, 200)
	fmt.Println("repository:", repository.JSON200.Name)

	used, err := c.DeleteRegistryWithResponse(ctx, id)
	check(err, used.HTTPResponse, used.Body, 412)
	fmt.Println("in use:", used.JSON412.Errors[0].Code)
	forgotten, err := c.DeleteRepositoryWithResponse(ctx, "mirror", "team/app", nil)
	check(err, forgotten.HTTPResponse, forgotten.Body, 200)
	gone, err := c.DeleteProjectWithResponse(ctx, "mirror", nil)
	check(err, gone.HTTPResponse, gone.Body, 200)
	last, err := c.DeleteRegistryWithResponse(ctx, id)
	check(err, last.HTTPResponse, last.Body, 200)
	none, err := c.ReadRegistryWithResponse(ctx, id)
	check(err, none.HTTPResponse, none.Body, 404)
	fmt.Println("at last:", none.JSON404.Errors[0].Code)
}
`

// A client that somebody generates from the document compiles, and works.
func TestAGeneratedClientWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("it generates and compiles a client, and -short is set")
	}
	b := openBureau(t)
	dir := t.TempDir()
	status, document := b.get("/api/openapi.yaml")
	if status != 200 {
		t.Fatalf("the document: %d", status)
	}
	write(t, filepath.Join(dir, "openapi.yaml"), document)
	write(t, filepath.Join(dir, "go.mod"), clientModule)
	write(t, filepath.Join(dir, "main.go"), clientProgram)
	command := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -trimpath", "GOWORK=off", "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// In continuous integration everything has to be there.
	if out, err := command("go", "run", generator, "-version"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI=true: the generator cannot be had: %v\n%s", err, out)
		}
		t.Skipf("the generator cannot be had: %v\n%s", err, out)
	}
	for _, args := range [][]string{
		{"go", "run", generator, "-generate", "types,client", "-package", "main", "-o", "client.go", "openapi.yaml"},
		{"go", "mod", "tidy"},
		{"go", "build", "-o", "client", "."},
	} {
		if out, err := command(args[0], args[1:]...); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	got, err := command(filepath.Join(dir, "client"), b.url, b.up.URL(), apiPassword)
	want := `registries: 1 of 1
registry: there healthy
project: mirror true true
refreshed: true
repository: mirror/team/app
in use: PRECONDITION
at last: NOT_FOUND
`
	if err != nil || got != want {
		t.Errorf("the client says\n%s%v, want\n%s", got, err, want)
	}
}
