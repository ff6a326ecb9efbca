package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A violation is a rule of axe-core's that a page breaks, and where.
type violation struct {
	ID    string   `json:"id"`
	Help  string   `json:"help"`
	Where []string `json:"where"` // selectors, with what is wrong there
}

// violated runs every rule of WCAG and of good practice, and the size of targets, which axe leaves
// out unless it is asked.
const violated = `axe.run(document, {resultTypes: ["violations"], rules: {"target-size": {enabled: true}}}).then(r =>
	r.violations.map(v => ({id: v.id, help: v.help, where: v.nodes.map(n => n.target.flat().join(" ") + "\n" + n.failureSummary)})))`

// violations runs axe-core on the page as it is now. It runs in a world of its own, which sees the
// same document but neither the page's scripts nor its content security policy: nothing has to be
// switched off for it.
func (b *browser) violations() []violation {
	b.t.Helper()
	source, err := os.ReadFile(need(b.t, "axe.min.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	return act(b, "run axe", func(ctx context.Context, target *chromedp.Target) ([]violation, error) {
		frames, err := cdp.Call(ctx, target, page.GetFrameTree, cdp.Empty{})
		if err != nil {
			return nil, err
		}
		world, err := cdp.Call(ctx, target, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{
			FrameID: frames.FrameTree.Frame.ID, WorldName: "axe",
		})
		if err != nil {
			return nil, err
		}
		yes := true
		var found []violation
		for _, script := range []string{string(source) + "\n;0", violated} {
			result, err := cdp.Call(ctx, target, runtime.Evaluate, runtime.EvaluateParams{
				Expression: script, ContextID: world.ExecutionContextID, AwaitPromise: &yes, ReturnByValue: &yes,
			})
			if err != nil {
				return nil, err
			}
			if result.ExceptionDetails != nil {
				return nil, errors.New(thrown(result.ExceptionDetails))
			}
			if script != violated {
				continue
			}
			if err := json.Unmarshal(result.Result.Value, &found); err != nil {
				return nil, fmt.Errorf("read %s: %w", result.Result.Value, err)
			}
		}
		return found, nil
	})
}

// axe fails the test for each rule that the page breaks.
func (b *browser) axe() {
	b.t.Helper()
	for _, v := range b.violations() {
		b.t.Errorf("%v: axe: %s: %s\n%s", b, v.ID, v.Help, strings.Join(v.Where, "\n"))
	}
}

// tooWide is by how many pixels a page can be scrolled sideways, which axe does not look at.
func (b *browser) tooWide() int {
	b.t.Helper()
	return act(b, "measure the page", chromedp.Evaluate[int]("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
}

// inspect looks at a page in every way: a picture to be looked at by people, axe, and its width.
func (b *browser) inspect(name string) {
	b.t.Helper()
	b.screenshot(name)
	b.axe()
	if over := b.tooWide(); over > 0 {
		b.t.Errorf("%v: %s is %d pixels too wide", b, name, over)
	}
}
