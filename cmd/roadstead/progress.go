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
	rate     bool               // how fast it goes is worth a word
	began    time.Time

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
	p := &progress{doing: doing, total: total, text: text}
	p.begin(std)
	return p
}

// newTransfer begins to show one of bytes that go elsewhere, and how fast they do.
func newTransfer(std streams, doing string, total int64) *progress {
	p := &progress{doing: doing, total: total, text: bytesText, rate: true}
	p.begin(std)
	return p
}

func (p *progress) begin(std streams) {
	p.out, p.err, p.said, p.began = std.out, std.err, time.Now(), time.Now()
	if !isTerminal(std.err) {
		return
	}
	text := p.text
	p.bars = mpb.New(mpb.WithOutput(std.err), mpb.WithWidth(40))
	amount := func(s decor.Statistics) string {
		if s.Total <= 0 {
			return text(s.Current) + p.speed(s.Current)
		}
		return text(s.Current) + " of " + text(s.Total) + p.speed(s.Current)
	}
	p.bar = p.bars.AddBar(p.total,
		mpb.PrependDecorators(decor.Name(p.doing+" ")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.Any(amount), decor.Name("  "),
			decor.AverageETA(decor.ET_STYLE_GO), decor.Name(" left")),
	)
	if isTerminal(std.out) {
		p.out = p.bars // above the bar, not through it
	}
}

// speed is how fast it has gone until now; "" where nobody asks.
func (p *progress) speed(done int64) string {
	took := time.Since(p.began)
	if !p.rate || took < time.Second {
		return ""
	}
	return fmt.Sprintf(", %s/s", p.text(int64(float64(done)/took.Seconds())))
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
	p.set(n)
}

// Add says how much more is done.
func (p *progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(p.done + n)
}

// set is Set with p.mu held.
func (p *progress) set(n int64) {
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

func (p *progress) amount() string {
	if p.total <= 0 {
		return p.text(p.done) + p.speed(p.done)
	}
	return fmt.Sprintf("%s of %s (%d%%)%s", p.text(p.done), p.text(p.total), int(100*float64(p.done)/float64(p.total)), p.speed(p.done))
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
