// Command pull fetches an image as RKE2's bootstrap does: through wharfie, by the mirrors,
// rewrite rules, credentials and certificates of a registries.yaml.
//
//	pull -registries registries.yaml -out DIR IMAGE       unpacks the image below DIR
//	pull -registries registries.yaml -out FILE.tar IMAGE  writes what "docker load" reads
//
// The digest of the image's manifest is printed. As in RKE2, the registry of the image itself
// is tried last, whatever the file says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rancher/wharfie/pkg/extract"
	"github.com/rancher/wharfie/pkg/registries"
	"github.com/sirupsen/logrus"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pull:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("pull", flag.ContinueOnError)
	file := flags.String("registries", "/etc/rancher/rke2/registries.yaml", "the registries.yaml to obey; one that is not there is an empty one")
	out := flags.String("out", "", "directory to unpack into, or a file ending in .tar")
	debug := flags.Bool("debug", false, "log which endpoints are tried")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || *out == "" {
		return errors.New("an image and -out are needed")
	}
	logrus.SetLevel(logrus.WarnLevel)
	if *debug {
		logrus.SetLevel(logrus.DebugLevel)
	}

	ref, err := name.ParseReference(flags.Arg(0))
	if err != nil {
		return err
	}
	registry, err := registries.GetPrivateRegistries(*file)
	if err != nil {
		return fmt.Errorf("read %s: %w", *file, err)
	}
	platform := v1.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	image, err := registry.Image(ref, remote.WithPlatform(platform), remote.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	if err := save(*out, ref, image); err != nil {
		return fmt.Errorf("write %s to %s: %w", ref, *out, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, digest)
	return err
}

// save reads the layers, which are fetched only now and checked against their digests.
func save(out string, ref name.Reference, image v1.Image) error {
	if strings.HasSuffix(out, ".tar") {
		return tarball.WriteToFile(out, ref, image)
	}
	return extract.Extract(image, out)
}
