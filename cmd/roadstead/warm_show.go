package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// warming shows how far a warm-up is: a bar for each layer under way and one for all when people
// watch; else a line for each image that has ended, and one now and then. What is not here has a line
// of its own in either case.
type warming struct {
	std      streams
	out, err io.Writer
	dry      bool
	missing  int               // images, of a dry run
	lacking  int64             // bytes of each of them, what they share in each
	told     map[string]string // how each image has ended, by its name

	bars   *mpb.Progress // nil without a terminal
	total  *mpb.Bar
	layers map[string]*mpb.Bar // by digest

	mu    sync.Mutex
	last  warmup
	trail []mark // what was fetched when, the oldest first
	said  time.Time
}

// mark is how much had been fetched at some time.
type mark struct {
	at      time.Time
	fetched int64
}

const (
	// warmLineEvery is how often a log hears of a warm-up.
	warmLineEvery = 10 * time.Second

	// tooSmall is a configuration, which has come before anybody can read its bar.
	tooSmall = 64 << 10

	// rateOver is over what time a rate is taken: shorter it jumps with each layer, longer it tells
	// of a line that is no more.
	rateOver = 10 * time.Second
)

func newWarming(std streams, dry bool) *warming {
	now := time.Now()
	w := &warming{std: std, out: std.out, err: std.err, dry: dry, told: map[string]string{}, layers: map[string]*mpb.Bar{}, said: now}
	w.trail = []mark{{at: now}} // the job has just begun: what has come by the first look has come since then
	if !isTerminal(std.err) {
		return w
	}
	w.bars = mpb.New(mpb.WithOutput(std.err), mpb.WithWidth(20))
	w.total = w.bars.AddBar(0, mpb.BarPriority(1<<30), // below the layers
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return w.images() }, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return w.amount() })),
	)
	w.err = w.bars // above the bars, not through them
	if isTerminal(std.out) {
		w.out = w.bars
	}
	return w
}

// say writes a line that is no result.
func (w *warming) say(format string, args ...any) { fmt.Fprintf(w.err, format+"\n", args...) }

// again forgets what is counted: the server has been restarted, and tells it from the beginning.
func (w *warming) again() { w.missing, w.lacking = 0, 0 }

// set shows what the server has said.
func (w *warming) set(now warmup) {
	w.mu.Lock()
	if now.Fetched < w.last.Fetched {
		w.trail = nil // another job, which begins anew
	}
	w.last = now
	w.trail = append(w.trail, mark{time.Now(), now.Fetched})
	for len(w.trail) > 2 && time.Since(w.trail[1].at) > rateOver {
		w.trail = w.trail[1:]
	}
	w.mu.Unlock()
	for _, i := range now.Images {
		before := w.told[i.Name]
		w.told[i.Name] = i.State
		if i.State == "missing" {
			w.missing++
			w.lacking += i.Total - i.Done
		}
		switch {
		case before == i.State: // the server has been restarted, and has said it before
		case i.State == "failed":
			fmt.Fprintf(w.out, "failed   %s: %s\n", i.Name, strings.ReplaceAll(i.Error, "\n", " "))
		case i.State == "missing":
			fmt.Fprintf(w.out, "missing  %s: %s of %s\n", i.Name, bytesText(i.Total-i.Done), bytesText(i.Total))
		case w.bars == nil:
			fmt.Fprintf(w.out, "here     %s: %s\n", i.Name, bytesText(i.Total))
		}
	}
	if w.bars != nil {
		w.draw(now)
		return
	}
	if time.Since(w.said) >= warmLineEvery && now.Job.Ended == nil {
		w.said = time.Now()
		w.say("%s, %s", w.images(), w.amount())
	}
}

// draw has the bars say what the server has said.
func (w *warming) draw(now warmup) {
	w.total.SetTotal(max(now.Total, 1), false)
	w.total.SetCurrent(min(now.Done, max(now.Total, 1)-1)) // at its end a bar is taken away
	under := map[string]bool{}
	for _, l := range now.Layers {
		if l.Size < tooSmall {
			continue
		}
		under[l.Digest] = true
		bar := w.layers[l.Digest]
		if bar == nil {
			bar = w.bars.AddBar(l.Size+1, // see above
				mpb.PrependDecorators(decor.Name(layerText(l), decor.WCSyncSpaceR)),
				mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string { return bytesText(s.Current) + " of " + bytesText(l.Size) })),
			)
			w.layers[l.Digest] = bar
		}
		bar.SetCurrent(l.Written)
	}
	for digest, bar := range w.layers {
		if !under[digest] {
			bar.Abort(true)
			delete(w.layers, digest)
		}
	}
}

// layerText names a layer in a width that leaves room for its bar: by the end of its repository, which
// is what tells it from another one.
func layerText(l warmLayer) string {
	const most = 20
	_, name, _ := strings.Cut(l.Repository, "/")
	if len(name) > most {
		name = "…" + name[len(name)-most+1:]
	}
	_, hex, _ := strings.Cut(l.Digest, ":")
	return fmt.Sprintf("%s %.8s", name, hex)
}

// images says how many there are.
func (w *warming) images() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last.Count == 0 {
		return "waiting"
	}
	return fmt.Sprintf("%d of %d images", w.last.Ended, w.last.Count)
}

// amount says how many bytes, how fast they come, and how long that will last.
func (w *warming) amount() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.last
	text := bytesText(l.Done) + " of "
	if l.Unknown > 0 {
		text += "≥ "
	}
	text += bytesText(l.Total)
	if rate := w.rate(); rate > 0 {
		text += ", " + bytesText(rate) + "/s"
		if l.Unknown == 0 && l.Total > l.Done {
			left := time.Duration(float64(l.Total-l.Done) / float64(rate) * float64(time.Second))
			text += ", " + left.Round(time.Second).String() + " left"
		}
	}
	return text
}

// rate is how many bytes came in a second lately; mu is held.
func (w *warming) rate() int64 {
	if len(w.trail) < 2 {
		return 0
	}
	first, last := w.trail[0], w.trail[len(w.trail)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 {
		return 0
	}
	return int64(float64(last.fetched-first.fetched) / took)
}

// end takes the bars away and waits until they are.
func (w *warming) end() {
	if w.bars == nil {
		return
	}
	for _, bar := range w.layers {
		bar.Abort(true)
	}
	w.total.Abort(true)
	w.bars.Wait()
	w.bars, w.layers, w.err = nil, nil, w.std.err
}

// verdict says what has come of it; an error, unless all is here.
func (w *warming) verdict(last warmup) error {
	if !w.dry {
		fmt.Fprintf(w.err, "%d of %d images are here; %d blobs were fetched, %s\n", last.Ended-last.Failed, last.Count, last.Blobs, bytesText(last.Fetched))
	}
	switch {
	case last.Job.State == "stopped":
		return errors.New("somebody has stopped the job, or the server has ended; the same command again fetches what is still missing")
	case last.Failed > 0 && w.missing == 0:
		return fmt.Errorf("%d of %d images are not here", last.Failed, last.Count)
	case w.missing > 0:
		text := fmt.Sprintf("%d of %d images are not here whole; %s of %s are missing", last.Failed+w.missing, last.Count, bytesText(last.Total-last.Done), bytesText(last.Total))
		if w.lacking > last.Total-last.Done {
			text += ", with what they share counted once"
		}
		return errors.New(text)
	case last.Job.State != "success":
		return fmt.Errorf("job %d has ended as %s", last.Job.ID, last.Job.State)
	}
	return nil
}
