package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// verifyBackup reads all of a backup and compares it with what was written. It changes nothing: the catalog
// is not opened, which was whole when its sum was taken.
func verifyBackup(ctx context.Context, dir string, std streams) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("verify the backup: %w", err)
	}
	defer root.Close()
	v := verifying{ctx: ctx, root: root, buf: make([]byte, 1<<20)}
	record, sums, err := v.read()
	if err != nil {
		return fmt.Errorf("verify %s: %w", dir, err)
	}
	v.progress = newProgress(std, "verifying", 0, bytesText)
	known, err := v.files(sums)
	if err == nil {
		err = v.others(known)
	}
	v.progress.End()
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("verify %s: %w", dir, err)
	case v.wrong > 0:
		return fmt.Errorf("%d files of %s are not what they were: what is damaged in it cannot be restored from it. Take another backup, and delete these files, or the next backup takes them over from here", v.wrong, dir)
	}
	fmt.Fprintf(std.out, "%s is whole: the catalog of %s and %d pieces of content (%s), in %d files\n",
		dir, record.At.Format("2006-01-02 15:04:05 UTC"), record.Contents, bytesText(record.ContentBytes), len(known))
	return nil
}

type verifying struct {
	ctx      context.Context
	root     *os.Root
	progress *progress
	buf      []byte
	wrong    int
}

// read reads what the backup says of itself.
func (v *verifying) read() (record backupRecord, sums []byte, err error) {
	about, err := v.root.ReadFile(backupAbout)
	if errors.Is(err, fs.ErrNotExist) {
		return record, nil, fmt.Errorf("there is no %s in it: name one of the folders that \"roadstead backup\" has made", backupAbout)
	}
	if err == nil {
		err = json.Unmarshal(about, &record)
	}
	if err != nil {
		return record, nil, fmt.Errorf("%s: %w", backupAbout, err)
	}
	if record.Format != backupFormat {
		return record, nil, fmt.Errorf("it has format %d, and this program knows %d: use the one that has made it (%s)", record.Format, backupFormat, record.Version)
	}
	if sums, err = v.root.ReadFile(backupSums); err != nil {
		return record, nil, err
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(sums)); got != record.Sums {
		return record, nil, fmt.Errorf("%s is not what it was: use another backup", backupSums)
	}
	return record, sums, nil
}

// files compares each file with its sum, and returns their names.
func (v *verifying) files(sums []byte) (map[string]bool, error) {
	known := map[string]bool{backupAbout: true, backupSums: true}
	lines := bufio.NewScanner(bytes.NewReader(sums))
	for lines.Scan() {
		want, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			return nil, fmt.Errorf("%s: %q is no line of it", backupSums, lines.Text())
		}
		known[name] = true
		got, err := v.sum(name)
		switch {
		case v.ctx.Err() != nil:
			return nil, context.Cause(v.ctx)
		case err != nil:
			v.wrong++
			v.progress.Found("%v", err)
		case got != want:
			v.wrong++
			v.progress.Found("%s: damaged", name)
		}
	}
	return known, lines.Err()
}

func (v *verifying) sum(name string) (string, error) {
	f, err := v.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	for v.ctx.Err() == nil {
		n, err := f.Read(v.buf)
		sum.Write(v.buf[:n])
		v.progress.Add(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}

// others finds what nobody has written there as a part of the backup.
func (v *verifying) others(known map[string]bool) error {
	return fs.WalkDir(v.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !known[name] {
			v.wrong++
			v.progress.Found("%s: it is no part of the backup", name)
		}
		return err
	})
}
