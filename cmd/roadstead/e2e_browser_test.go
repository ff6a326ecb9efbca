package main_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is how long a page may take to do what a test waits for. Chromium is a dozen processes,
// and on two cores that tests keep busy a picture has taken half a minute.
const patience = 90 * time.Second

// browserOptions are what differs between people's browsers. Zero is English, light and a desktop.
type browserOptions struct {
	language string // of the person, "en" or "zh-CN"
	dark     bool   // the person's system is
	phone    bool   // held upright, touched with a finger
	trusts   string // the file with a server's certificate, of a node with TLS
	foreign  string // host and port of others, whose pages' faults are not ours to mend
}

// String is what a test and a screenshot by these are named.
func (o browserOptions) String() string {
	words := []string{"desktop", "light", cmp.Or(o.language, "en")}
	if o.phone {
		words[0] = "phone"
	}
	if o.dark {
		words[1] = "dark"
	}
	return strings.Join(words, "-")
}

// everyLook is each width and each colour scheme, in English.
var everyLook = []browserOptions{{}, {phone: true, dark: true}}

// A browser is a Chromium with one page, driven as a person would. Whatever a page complains of
// while it is open fails the test; see complaints.
type browser struct {
	browserOptions
	t        testing.TB
	ctx      context.Context // of the page; it bounds the browser's life, which is the test's
	pictures string          // the directory for them; "": none are taken

	mu       sync.Mutex
	heard    []string
	requests map[network.RequestID]string
	dialogs  sync.WaitGroup
}

// startBrowser starts one with a profile of its own. It reaches nothing but this machine.
func startBrowser(t testing.TB, o browserOptions) *browser {
	t.Helper()
	b := &browser{browserOptions: o, t: t, pictures: os.Getenv("ROADSTEAD_SCREENSHOTS"),
		requests: map[network.RequestID]string{}}
	b.ctx = chromium(t, o, b.hear)
	b.emulate()
	// The cleanup of what chromium started comes after this one.
	t.Cleanup(func() {
		for _, complaint := range b.complaints() {
			t.Errorf("%v complains: %s", b, complaint)
		}
	})
	return b
}

// devtools is a command of the DevTools protocol whose result nobody wants.
func devtools[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, page *chromedp.Target) error {
		_, err := cdp.Call(ctx, page, command, params)
		return err
	})
}

// act does one thing, and fails the test if it cannot be done.
func act[T any](b *browser, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%v: %s: %v\n%s", b, what, err, b.view())
	}
	return result
}

// view is what somebody who looked over the person's shoulder would read.
func (b *browser) view() string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	if err != nil {
		return fmt.Sprintf("and the page does not answer: %v", err)
	}
	return text
}

// open goes to a page, as by the address bar, and waits until it has loaded.
func (b *browser) open(url string) {
	b.t.Helper()
	act(b, "open "+url, chromedp.Navigate(url))
}

// click clicks the first element that a CSS selector finds, or taps it on a phone.
func (b *browser) click(selector string) {
	b.t.Helper()
	act(b, "click "+selector, b.press(selector))
}

// follow clicks something that leads to another page, and waits until that has loaded.
func (b *browser) follow(selector string) {
	b.t.Helper()
	act(b, "follow "+selector, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.RunResponse(ctx, b.press(selector))
		return err
	}))
}

func (b *browser) press(selector string) chromedp.Action[chromedp.Void] {
	if b.phone {
		return chromedp.Tap(chromedp.CSS(selector), chromedp.NodeVisible)
	}
	return chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)
}

// fill writes a text into a field in place of what was there.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	act(b, "fill "+selector, chromedp.Steps(
		chromedp.Focus(chromedp.CSS(selector), chromedp.NodeVisible),
		chromedp.Evaluate[chromedp.Void]("document.activeElement.select()"),
		chromedp.KeyEvent(kb.Delete),
		devtools(input.InsertText, input.InsertTextParams{Text: text}),
	))
}

// waitFor waits until there is something to see that the selector finds.
func (b *browser) waitFor(selector string) {
	b.t.Helper()
	act(b, "wait for "+selector, chromedp.WaitVisible(chromedp.CSS(selector)))
}

// text waits for an element and returns what is to be read in it.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return strings.TrimSpace(act(b, "read "+selector, chromedp.Text(chromedp.CSS(selector), chromedp.NodeVisible)))
}

// screenshot keeps a picture of the whole page in the directory that ROADSTEAD_SCREENSHOTS names (an
// absolute path). Without it nobody would see the picture, and none is taken: to draw each page as a
// whole costs more than all that is asked of it.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	if b.pictures == "" {
		return
	}
	picture := act(b, "take a picture", chromedp.FullScreenshot(100))
	if err := os.MkdirAll(b.pictures, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.pictures, name+"-"+b.String()+".png"), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
