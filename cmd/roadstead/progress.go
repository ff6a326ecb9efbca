package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far a long command is: a bar when people watch, and a line now and then
// when a log does. What the command finds is written between, and stays.
type progress struct {
	out, err io.Writer
	doing    string
	text     func(int64) string // how amounts are written

	mu          sync.Mutex
	done, total int64 // a total of zero is not known yet
	said        time.Time

	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar
}

// lineEvery is how often a log hears of a command that goes on: often enough to see that it
// does, seldom enough that a night's scrub can be read.
const lineEvery = 30 * time.Second

// newProgress begins to show one. total may be zero until SetTotal.
func newProgress(std streams, doing string, total int64, text func(int64) string) *progress {
	p := &progress{out: std.out, err: std.err, doing: doing, total: total, text: text, said: time.Now()}
	if !isTerminal(std.err) {
		return p
	}
	p.bars = mpb.New(mpb.WithOutput(std.err), mpb.WithWidth(40))
	amount := func(s decor.Statistics) string {
		if s.Total <= 0 {
			return text(s.Current)
		}
		return text(s.Current) + " of " + text(s.Total)
	}
	p.bar = p.bars.AddBar(total,
		mpb.PrependDecorators(decor.Name(doing+" ")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.Any(amount), decor.Name("  "),
			decor.AverageETA(decor.ET_STYLE_GO), decor.Name(" left")),
	)
	if isTerminal(std.out) {
		p.out = p.bars // above the bar, not through it
	}
	return p
}

// SetTotal says how much there is to do.
func (p *progress) SetTotal(n int64) {
	p.mu.Lock()
	p.total = n
	p.mu.Unlock()
	if p.bar != nil {
		p.bar.SetTotal(n, false)
	}
}

// Set says how much is done.
func (p *progress) Set(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = n
	if p.bar != nil {
		p.bar.SetCurrent(n)
		return
	}
	if now := time.Now(); now.Sub(p.said) >= lineEvery {
		p.said = now
		fmt.Fprintf(p.err, "%s: %s\n", p.doing, p.amount())
	}
}

// Add says how much more is done.
func (p *progress) Add(n int64) {
	p.mu.Lock()
	done := p.done + n
	p.mu.Unlock()
	p.Set(done)
}

func (p *progress) amount() string {
	if p.total <= 0 {
		return p.text(p.done)
	}
	return fmt.Sprintf("%s of %s (%d%%)", p.text(p.done), p.text(p.total), int(100*float64(p.done)/float64(p.total)))
}

// Found writes a finding, which is a result of the command.
func (p *progress) Found(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// End takes the bar away and waits until it is.
func (p *progress) End() {
	if p.bars == nil {
		return
	}
	p.bar.Abort(true)
	p.bars.Wait()
	p.out = p.err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// countText is for amounts that are numbers of things.
func countText(n int64) string { return fmt.Sprint(n) }
