package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"roadstead/rewrite"
)

// Warm is the command of that name.
type Warm struct {
	settings
	Images       []string `arg:"" optional:"" name:"image" help:"An image as pods name it, a Helm chart (a directory or .tgz), or \"-\" for a list on stdin."`
	File         []string `short:"f" placeholder:"FILE" help:"A list of images, one on a line, or Kubernetes manifests; \"-\" is stdin. Can be given again."`
	Values       []string `placeholder:"FILE" help:"Values for the charts, which helm is given."`
	Platform     []string `placeholder:"OS/ARCH" help:"A platform to be brought, such as linux/amd64. Can be given again. Default: that of the server."`
	AllPlatforms bool     `help:"All platforms instead."`
	Signatures   bool     `help:"With cosign's signatures of the images. Where a project has a verify policy they come by themselves."`
	DryRun       bool     `help:"Only say what is missing, and how many bytes."`
	Detach       bool     `help:"Do not wait for the end. The server goes on."`
	remoteFlags
}

// Help is the long help.
func (w *Warm) Help() string {
	return `Has the running server fetch images before anybody pulls them. It takes names, the lists that RKE2 and K3s release, Kubernetes manifests and what helm renders:

    roadstead warm docker.io/rancher/mirrored-pause:3.6
    roadstead warm --file rke2-images-all.linux-amd64.txt --platform linux/amd64
    helm template cert-manager jetstack/cert-manager | roadstead warm -

What is there already costs nothing: the same command again fetches what is still missing. Ctrl-C stops the server's job. The exit status is 0 when all images are there whole, and 1 with a line for each that is not; that goes for --dry-run too.`
}

// Run has the list fetched and watches.
func (w *Warm) Run(std streams) error {
	if w.AllPlatforms && len(w.Platform) > 0 {
		return errors.New("--all-platforms and --platform exclude each other; leave one of them out")
	}
	images, err := w.list(os.Stdin)
	if err != nil {
		return err
	}
	r, err := w.remote(w.settings, w.PasswordFile)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return w.watch(ctx, std, r, images)
}

// order is the list as the API takes it.
type order struct {
	Images       []string `json:"images"`
	Platforms    []string `json:"platforms"`
	AllPlatforms bool     `json:"all_platforms"`
	Dry          bool     `json:"dry_run"`
	Signatures   bool     `json:"signatures,omitempty"`
}

// warmup is what the API tells of a warm-up.
type warmup struct {
	Job struct {
		ID    int64      `json:"id"`
		State string     `json:"state"`
		Ended *time.Time `json:"end_time"`
	} `json:"job"`
	Images []struct {
		Name, State, Error string
		Done, Total        int64
	}
	Layers  []warmLayer
	Count   int   `json:"image_count"`
	Ended   int   `json:"ended_count"`
	Failed  int   `json:"failed_count"`
	Unknown int   `json:"unknown_count"`
	Blobs   int   `json:"blob_count"`
	Done    int64 `json:"done"`
	Total   int64 `json:"total"`
	Fetched int64 `json:"fetched"`
}

type warmLayer struct {
	Repository, Digest string
	Size, Written      int64
}

const (
	// lookEvery is how often the server is asked how far it is, where people watch and where none do.
	lookEvery, lookSeldom = 300 * time.Millisecond, time.Second

	// serverPatience is how long a server may be away that was there: it is restarted meanwhile.
	serverPatience = 2 * time.Minute
)

// errStoppedByUser is how the command ends that is interrupted.
var errStoppedByUser = errors.New("stopped; the same command again fetches what is still missing")

func (w *Warm) watch(ctx context.Context, std streams, r *remote, images []rewrite.Listed) error {
	o := order{Platforms: w.Platform, AllPlatforms: w.AllPlatforms, Dry: w.DryRun, Signatures: w.Signatures}
	for _, i := range images {
		o.Images = append(o.Images, i.String())
	}
	id, err := begin(ctx, r, o)
	if err != nil {
		return err
	}
	if w.Detach {
		fmt.Fprintf(std.out, "job %d has begun; see %s/c/warmups/%d\n", id, r.base, id)
		return nil
	}
	show := newWarming(std, w.DryRun)
	defer show.end()
	f := following{remote: r, order: o, id: id, show: show}
	last, err := f.follow(ctx)
	show.end()
	switch {
	case ctx.Err() != nil:
		return f.stop()
	case err != nil:
		return err
	}
	return show.verdict(last)
}

// begin gives a server the list. Interrupted meanwhile it waits for the number of the job, which could
// not be stopped without.
func begin(ctx context.Context, r *remote, o order) (id int64, err error) {
	var job struct{ ID int64 }
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err = r.ask(ctx, http.MethodPost, "/warmups", o, &job)
	return job.ID, err
}

// following is a warm-up that is being followed.
type following struct {
	remote *remote
	order  order
	id     int64
	show   *warming
	seen   int // images that have ended
}

// follow follows it to its end.
func (f *following) follow(ctx context.Context) (last warmup, err error) {
	every := lookSeldom
	if f.show.bars != nil {
		every = lookEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var away time.Time // since when the server is
	for {
		now, err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
			return last, ctx.Err()
		case err == nil && now.Job.Ended != nil:
			return now, nil
		case err == nil:
			last, away = now, time.Time{}
		case !silent(err):
			return last, err
		case away.IsZero():
			away = time.Now()
			f.show.say("the server does not answer, and is waited for: %v", err)
		case time.Since(away) > serverPatience:
			return last, fmt.Errorf("the server has been away for %s: %w; the same command again fetches what is still missing", serverPatience, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, ctx.Err()
		}
	}
}

// look asks how far it is, and shows that. A server that has been restarted has forgotten its jobs: it
// is given the list again.
func (f *following) look(ctx context.Context) (warmup, error) {
	var now warmup
	err := f.remote.ask(ctx, http.MethodGet, fmt.Sprintf("/warmups/%d?ended_after=%d", f.id, f.seen), nil, &now)
	if answer, ok := errors.AsType[*answerError](err); ok && answer.status == http.StatusNotFound {
		id, err := begin(ctx, f.remote, f.order)
		if err != nil {
			return warmup{}, err
		}
		f.id, f.seen = id, 0
		f.show.again()
		f.show.say("the server has been restarted and is given the list again")
		return warmup{}, nil
	}
	if err != nil {
		return warmup{}, err
	}
	f.seen = now.Ended
	f.show.set(now)
	return now, nil
}

// stop has the job stopped.
func (f *following) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // that of the command has ended
	defer cancel()
	if err := f.remote.ask(ctx, http.MethodPost, fmt.Sprintf("/jobs/%d/stop", f.id), nil, nil); err != nil {
		return fmt.Errorf("job %d could not be stopped and may go on: %w", f.id, err)
	}
	return errStoppedByUser
}
