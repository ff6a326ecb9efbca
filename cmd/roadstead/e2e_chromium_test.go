package main_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/remote"
)

// chromium starts the program and connects to its first page, every event of which hear gets.
func chromium(t testing.TB, o browserOptions, hear func(any)) context.Context {
	t.Helper()
	program := need(t, "chromium")
	home, err := os.MkdirTemp("", "roadstead-chromium")
	if err != nil {
		t.Fatal(err)
	}
	var p *process
	t.Cleanup(func() {
		// Its network process may outlive it, and writes its profile anew when that has been removed.
		if p != nil {
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // none of the group may be left
		}
		eventually(t, 10*time.Second, "an end of "+home, func() bool { return os.RemoveAll(home) == nil })
	})
	profile := filepath.Join(home, "profile")
	args := []string{
		"--headless", "--remote-debugging-port=0", "--user-data-dir=" + profile,
		"--no-first-run", "--no-default-browser-check", "--password-store=basic", "--force-color-profile=srgb",
		"--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-breakpad",
		"--log-level=3", // only what it ends of: it misses a desktop's services, at length
		// It would look for updates, lists and suggestions at its maker's.
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
		"--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // Chromium refuses to be root in a sandbox
	}
	if o.trusts != "" {
		args = append(args, "--ignore-certificate-errors-spki-list="+publicKey(t, o.trusts))
	}
	p = start(t, home, "chromium", program, append(args, "about:blank")...)
	var url string
	eventually(t, patience, "a Chromium that can be talked to", func() bool {
		if p.ended(0) {
			t.Fatalf("chromium ended: %v", p.err)
		}
		port, err := os.ReadFile(filepath.Join(profile, "DevToolsActivePort"))
		number, path, whole := strings.Cut(string(port), "\n")
		url = "ws://127.0.0.1:" + number + path
		return err == nil && whole && path != ""
	})
	ctx, cancel := remote.NewAllocator(context.Background(), url, remote.NoModifyURL)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(hear), chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(cancel)
	return ctx
}

// publicKey is the hash of a certificate's, as Chromium names those that it is to trust.
func publicKey(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s has no PEM", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// emulate makes the browser the one that its options say.
func (b *browser) emulate() {
	b.t.Helper()
	language, scheme := cmp.Or(b.language, "en"), "light"
	languages := language
	if base, _, regional := strings.Cut(language, "-"); regional {
		languages += "," + base
	}
	if b.dark {
		scheme = "dark"
	}
	viewport := chromedp.EmulateViewport(1280, 900)
	if b.phone {
		viewport = chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	}
	// The page lives as long as the context of what is run first, so this one has no timeout.
	agent, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("navigator.userAgent"))
	if err == nil {
		err = chromedp.Do(b.ctx, viewport, devtools(emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{
			UserAgent: agent, AcceptLanguage: languages,
		}), devtools(emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{
			Locale: strings.ReplaceAll(language, "-", "_"),
		}), devtools(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			// Nothing is looked at half-way between two states.
			{Name: "prefers-reduced-motion", Value: "reduce"},
		}}))
	}
	if err != nil {
		b.t.Fatalf("begin with %v: %v", b, err)
	}
}
