package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"
)

// onCatalog are the settings of commands that look into the catalog of a data directory, or write
// to it, beside a server or without one. What they change a server has seen two seconds later.
type onCatalog struct {
	onDirectory
}

// with calls fn with the open directory. What it does ends when the process is interrupted.
func (s onCatalog) with(fn func(ctx context.Context, cfg Config, data *Data) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := s.load()
	if err != nil {
		return err
	}
	dir := cfg.Storage.Directory
	if !hasCatalog(cfg.Storage) {
		return fmt.Errorf("there is no catalog in %s: name the data directory with --data or storage.directory, or run \"roadstead serve\" once, which makes one", dir)
	}
	data, err := shareData(ctx, cfg.Storage)
	if err != nil {
		return err
	}
	return errors.Join(fn(ctx, cfg, data), data.Close(), giveAway(dir))
}

// actor is who does what a command does, in the audit log. No user can be called so.
const actor = "(command)"

// aligned writes a table, its columns below each other.
func aligned(w io.Writer, fn func(row func(format string, args ...any))) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fn(func(format string, args ...any) { fmt.Fprintf(table, format+"\n", args...) })
	return table.Flush()
}

// timeText writes a moment as people compare it, and nothing for none.
func timeText(t time.Time, none string) string {
	if t.IsZero() {
		return none
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// either is one of two words.
func either(yes bool, one, other string) string {
	if yes {
		return one
	}
	return other
}

// sizeFlag is a flag that is a size as in the configuration.
type sizeFlag int64

// UnmarshalText reads "10GiB".
func (s *sizeFlag) UnmarshalText(text []byte) error {
	n, instead := parseSize(string(text))
	if instead != "" {
		return fmt.Errorf("%q is not a size; %s", text, instead)
	}
	*s = sizeFlag(n)
	return nil
}

// durationFlag is a flag that is a duration as in the configuration.
type durationFlag time.Duration

// UnmarshalText reads "30d".
func (d *durationFlag) UnmarshalText(text []byte) error {
	got, ok := parseDuration(string(text))
	if !ok || got < 0 {
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as 30s, 5m, 2h or 7d", text)
	}
	*d = durationFlag(got)
	return nil
}

// secretFrom reads a secret from a file, or, when there is none, from in up to its end.
func secretFrom(path string, in io.Reader) (Secret, error) {
	const most = 1 << 20
	b, err := []byte(nil), error(nil)
	if path != "" {
		b, err = readSmall(path)
	} else {
		b, err = io.ReadAll(io.LimitReader(in, most+1))
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("read the secret: %w", err)
	case len(b) > most:
		return "", fmt.Errorf("the secret is larger than %s", bytesText(most))
	}
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return "", fmt.Errorf("%s is empty: there is no secret in it", cmp.Or(path, "stdin"))
	}
	return Secret(b), nil
}

// stdin is where secrets come from that no file has.
var stdin io.Reader = os.Stdin
