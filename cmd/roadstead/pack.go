package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"roadstead/registry"
	"roadstead/registry/archive"
)

// Export is the command of that name.
type Export struct {
	onDirectory
	Output       string   `short:"o" required:"" placeholder:"FILE|DIR" help:"What to write: a file when the name ends in .tar, .tar.gz, .tgz, .tar.zst or .tzst, else the directory of an OCI layout."`
	File         []string `placeholder:"LIST" help:"A file with the names of images, one a line; \"-\" is standard input."`
	Project      string   `placeholder:"NAME" help:"All images of a project that are here whole."`
	Platform     []string `placeholder:"OS/ARCH" help:"Of images for several platforms, the one for this. Of several of them, an index of these. Default: that of this machine."`
	AllPlatforms bool     `help:"Indexes with the images for all platforms."`
	Format       string   `enum:"oci,docker" default:"oci" help:"An OCI layout, or an archive as \"docker save\" writes it."`
	Zstd         bool     `help:"Compress by zstd. The name has to end in .tar.zst or .tzst, by which RKE2 tells; then this is not needed."`
	Signatures   bool     `help:"With cosign's signatures that are here of the images. Those of projects with a verify policy come by themselves."`
	Since        string   `placeholder:"DIGESTS" help:"Leave out the blobs that an earlier export has carried: the file with its digests that it wrote."`
	Images       []string `arg:"" optional:"" name:"image" placeholder:"IMAGE" help:"Names of images, as in a pod: rancher/pause:3.6, quay.io/team/app@sha256:…"`
}

// Help is the long help.
func (c *Export) Help() string {
	return `Writes images that are here into an archive that "roadstead import" takes, and containerd, "docker load", podman and skopeo: for where no registry can be asked. RKE2 and K3s load what is in agent/images.

    roadstead export --file rke2-images-all.linux-amd64.txt -o images.tar.zst
    roadstead export --project docker.io --all-platforms -o /media/usb/layout
    roadstead export --since images.tar.zst.digests --file next.txt -o next.tar.zst

It reads the storage of the configuration, beside a running server or without one, and asks no upstream: what is not here is named, with the command that brings it. Content keeps its bytes and digests, and these are checked on the way. An image for one platform is written as that, under its name; one that is named by its digest, and those of --all-platforms or of several --platform, keep their index as it is.

Of images whose project verifies signatures, or of all with --signatures, those that are here go along: "roadstead warm" brings them. Whoever loads the archive into containerd or Docker sees nothing of them. An index that is signed itself keeps its place then, with the images for the platforms that are wanted.

Beside the archive it writes FILE.digests, with what the other side has once it is imported, for --since. A file has its name when it is whole; a directory is gone on with where an earlier try has ended.`
}

// Run exports.
func (c *Export) Run(std streams) error {
	out, err := c.output()
	if err != nil {
		return err
	}
	// As lint does: a list on stdin may never end, and nothing is open yet.
	names, err := c.names()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if !hasCatalog(cfg.Storage) {
		return fmt.Errorf("there is no catalog in %s, so there is nothing to export: name the data directory with --data or storage.directory", cfg.Storage.Directory)
	}
	carried, err := c.carried()
	if err != nil {
		return err
	}
	data, err := shareOwn(ctx, cfg.Storage)
	if err != nil {
		return err
	}
	err = c.pack(ctx, cfg, data, std, func(p *packing) error {
		if err := p.choose(ctx, names, c.Project); err != nil {
			return err
		}
		return p.write(ctx, out, carried)
	})
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, data.Close(), giveAway(cfg.Storage.Directory))
}

// pack calls fn with an export for the platforms that are wanted.
func (c *Export) pack(ctx context.Context, cfg Config, data *Data, std streams, fn func(*packing) error) error {
	p, err := newPacking(ctx, cfg, data, std)
	if err != nil {
		return err
	}
	for _, text := range c.platforms() {
		one, err := parsePlatform(text)
		if err != nil {
			return err
		}
		p.platforms = append(p.platforms, one)
	}
	p.signatures, p.docker = c.Signatures, c.Format == "docker"
	return fn(p)
}

// platforms are those that are wanted; none: all.
func (c *Export) platforms() []string {
	switch {
	case c.AllPlatforms:
		return nil
	case len(c.Platform) == 0:
		return []string{"linux/" + runtime.GOARCH} // also on a workstation that is no Linux
	}
	return c.Platform
}

// output says what is to be written, as far as the flags fit together.
func (c *Export) output() (output, error) {
	o := output{path: filepath.Clean(c.Output), format: c.Format, dir: true}
	for suffix, compression := range map[string]string{".tar": "", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tzst": "zstd"} {
		if strings.HasSuffix(o.path, suffix) {
			o.dir, o.compression = false, compression
		}
	}
	switch {
	case c.Zstd && o.compression != "zstd":
		return o, fmt.Errorf("%s is to be compressed by zstd: call it %s.tar.zst, by which those who load it tell", o.path, strings.TrimSuffix(o.path, ".tar"))
	case o.dir && o.format == "docker":
		return o, fmt.Errorf("an archive of Docker's is a file: call it %s.tar or %s.tar.zst", o.path, o.path)
	case c.Since != "" && o.format == "docker":
		return o, errors.New("an archive of Docker's has to be whole: leave out --since, or take --format oci")
	case c.Signatures && o.format == "docker":
		return o, errors.New("an archive of Docker's has no manifests that could be signed: leave out --signatures, or take --format oci")
	case c.AllPlatforms && o.format == "docker" || len(c.Platform) > 1 && o.format == "docker":
		return o, errors.New("an archive of Docker's has images for one platform: name that with --platform, or take --format oci")
	case c.AllPlatforms && len(c.Platform) > 0:
		return o, errors.New("--platform and --all-platforms are two things: leave out one of them")
	}
	return o, nil
}

// names are all images that somebody has named.
func (c *Export) names() ([]string, error) {
	all := c.Images
	for _, list := range c.File {
		in := stdin
		if list != "-" {
			f, err := os.Open(list)
			if err != nil {
				return nil, fmt.Errorf("read the list of images: %w", err)
			}
			defer f.Close()
			in = f
		}
		some, err := imageList(in)
		if err != nil {
			return nil, fmt.Errorf("read the list of images %s: %w", list, err)
		}
		all = append(all, some...)
	}
	if len(all) == 0 && c.Project == "" {
		return nil, errors.New("no image is named: write their names, --file with a list of them, or --project")
	}
	return all, nil
}

// imageList reads names of images, one a line, without comments.
func imageList(r io.Reader) (all []string, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text != "" {
			all = append(all, text)
		}
	}
	return all, lines.Err()
}

// carried reads what an earlier export has carried.
func (c *Export) carried() ([]archive.Carried, error) {
	if c.Since == "" {
		return nil, nil
	}
	f, err := os.Open(c.Since)
	if err != nil {
		return nil, fmt.Errorf("what an earlier export has carried: %w", err)
	}
	defer f.Close()
	all, err := archive.ReadCarried(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; name the file FILE.digests that an export has written", c.Since, err)
	}
	return all, nil
}

// platform is what an index is searched for.
type platform struct{ os, architecture, variant string }

func parsePlatform(text string) (platform, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || strings.Contains("/"+text+"/", "//") {
		return platform{}, fmt.Errorf("%q is no platform: write os/architecture or os/architecture/variant, such as linux/amd64 or linux/arm/v7", registry.Clip(text))
	}
	p := platform{os: parts[0], architecture: parts[1]}
	if len(parts) == 3 {
		p.variant = parts[2]
	}
	return p, nil
}

func (p platform) String() string {
	return strings.TrimSuffix(p.os+"/"+p.architecture+"/"+p.variant, "/")
}

// matches reports whether an entry of an index is for p, as a warm-up has it: without a variant every
// one is, and v8 is the only one of arm64 that people leave out on either side.
func (p platform) matches(d registry.Descriptor) bool {
	is := d.Platform
	if is == nil || is.OS != p.os || is.Architecture != p.architecture {
		return false
	}
	variant := is.Variant
	if variant == "" && p.architecture == "arm64" {
		variant = "v8"
	}
	return p.variant == "" || p.variant == variant
}
