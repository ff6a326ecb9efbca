package main_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/inspector"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// hear keeps what a page complains of: errors in its console, exceptions that nobody caught, what
// its content security policy refused, requests that failed or were answered with an error, and
// dialogs, which no page of ours opens. The browser calls it for each event, in their order.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complain := func(format string, args ...any) {
		said := fmt.Sprintf(format, args...)
		if b.foreign == "" || !strings.Contains(said, "//"+b.foreign+"/") {
			b.heard = append(b.heard, said)
		}
	}
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			complain("console.%s: %s%s", e.Type, spoken(e.Args), place(e.StackTrace))
		}
	case *runtime.EventExceptionThrown:
		complain("exception: %s", thrown(e.ExceptionDetails))
	case *log.EventEntryAdded:
		// Policies and answers of 400 and more are here.
		if e.Entry.Level == log.EntryLevelError {
			complain("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		b.requests[e.RequestID] = e.Request.Method + " " + e.Request.URL
	case *network.EventLoadingFailed:
		// Whoever leaves a page cancels what it was still loading.
		if !e.Canceled {
			complain("%s: %s %s", b.requests[e.RequestID], e.ErrorText, e.BlockedReason)
		}
	case *page.EventJavascriptDialogOpening:
		complain("%s: %s", e.Type, e.Message)
		// The page stands still until somebody says no, which must not be done from here.
		b.dialogs.Go(func() {
			_, err := chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{})
			if err != nil && b.ctx.Err() == nil {
				b.t.Errorf("close a dialog: %v", err)
			}
		})
	case *inspector.EventTargetCrashed:
		complain("the page crashed")
	}
}

// complaints returns what was heard and forgets it: whoever asks has dealt with it, and what
// nobody asked for fails the test at its end.
func (b *browser) complaints() []string {
	b.t.Helper()
	b.dialogs.Wait()
	// Events come in order, so the answer to this is behind those of all that was done. A page
	// that does not answer has crashed, which has been heard.
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, _ = chromedp.Run(ctx, chromedp.Evaluate[chromedp.Void]("0"))
	b.mu.Lock()
	defer b.mu.Unlock()
	heard := b.heard
	b.heard = nil
	return heard
}

// spoken is what a call of the console's said.
func spoken(args []*runtime.RemoteObject) string {
	var words []string
	for _, arg := range args {
		if len(arg.Value) > 0 {
			words = append(words, string(arg.Value))
		} else {
			words = append(words, arg.Description)
		}
	}
	return strings.Join(words, " ")
}

// place is where a script was.
func place(s *runtime.StackTrace) string {
	if s == nil || len(s.CallFrames) == 0 {
		return ""
	}
	return fmt.Sprintf(" at %s:%d", s.CallFrames[0].URL, s.CallFrames[0].LineNumber+1)
}

// thrown says what an exception is and where it comes from.
func thrown(d *runtime.ExceptionDetails) string {
	text := d.Text
	if d.Exception != nil {
		text += " " + d.Exception.Description + string(d.Exception.Value)
	}
	return fmt.Sprintf("%s at %s:%d", text, d.URL, d.LineNumber+1)
}
