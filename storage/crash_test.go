package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a writer that is there to be killed.
const childEnv = "ROADSTEAD_STORAGE_CHILD"

// job is what such a writer does, in JSON.
type job struct {
	Root string
	Seed uint64

	// Stop is the number of the call to the file system that the script does not come to make,
	// because the process ends; 0 means to write at random without end.
	Stop int

	// Mount is a file system that loses power at that call too. With Alive the process does not
	// end, and may be told that all is well by a file system that has given up.
	Mount string
	Alive bool

	// Lock is a directory to hold the lock of, and nothing else.
	Lock string

	// Lie names the syncs that do nothing, to prove that somebody would notice.
	Lie []string
}

func runChild(text string) {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	if j.Lock != "" {
		holdLock(j.Lock)
	}
	s, err := New(Config{Root: j.Root, Floor: -1})
	if err != nil {
		fmt.Printf("error\t%v\n", err)
		os.Exit(1)
	}
	// One write a line: what the other end has read was promised before the process ended.
	say := journal(func(line string) { os.Stdout.WriteString(line) })
	if err := s.Sweep(context.Background()); err != nil {
		say(fmt.Sprintf("error\t%v\n", err))
	}
	s.disk.seam = j.seam()
	say("ready\n")
	if j.Stop == 0 {
		if err := resumeAll(s, say); err != nil {
			say(fmt.Sprintf("error\t%v\n", err))
		}
		writeAtRandom(s, j.Seed, say)
	}
	if failed, err := script(s, say, false); err != nil || failed != nil {
		say(fmt.Sprintf("error\t%v %v\n", failed, err))
	}
	say("end\n")
}

// holdLock lives until it is killed.
func holdLock(dir string) {
	l, err := Lock(dir)
	if err != nil {
		panic(err)
	}
	defer l.Close()
	os.Stdout.WriteString("ready\n")
	time.Sleep(time.Hour)
}

func (j job) seam() func(op, name string, do func() error) error {
	calls := 0
	if j.Stop == 0 && j.Lie == nil {
		return nil
	}
	return func(op, name string, do func() error) error {
		if slices.Contains(j.Lie, op) {
			return nil
		}
		if j.Stop == 0 {
			return do()
		}
		if calls++; calls != j.Stop {
			return do()
		}
		if j.Mount != "" {
			if err := cutPower(j.Mount); err != nil {
				panic(err)
			}
		}
		if j.Alive {
			return do()
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// cutPower has a mounted ext4 or xfs forget what is not on its device.
func cutPower(mount string) error {
	f, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer f.Close()
	const (
		shutdown   = 0x8004587d // _IOR('X', 125, __u32), of both
		noLogFlush = 2
	)
	return unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush)
}

// writeAtRandom never ends but by an error. Each of its goroutines has a repository of its own,
// so that what it promises of a name comes in order; content is partly shared.
func writeAtRandom(s *Store, seed uint64, say journal) {
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			w := writer{s: s, say: say, rng: rand.New(rand.NewPCG(seed, g)), repo: fmt.Sprintf("p/w%d/%d", seed, g), seed: seed<<16 | g<<8}
			for {
				if err := w.step(); err != nil {
					say(fmt.Sprintf("error\t%v\n", err))
					return
				}
			}
		})
	}
	wg.Wait()
	os.Exit(1)
}

type writer struct {
	s    *Store
	say  journal
	rng  *rand.Rand
	repo string
	seed uint64
	mine []digest.Digest
	open []string // ids of uploads that are suspended
}

func (w *writer) step() error {
	ctx := context.Background()
	switch n := w.rng.IntN(24); {
	case n >= 20:
		return w.upload()
	case n < 8:
		return w.commit()
	case n < 10:
		return w.put()
	case n < 11: // begun and given up
		d, err := write(w.s, w.content(0), -1)
		if err != nil {
			return err
		}
		return d.Close()
	}
	if len(w.mine) == 0 {
		return nil
	}
	d := w.mine[w.rng.IntN(len(w.mine))]
	tag := fmt.Sprintf("t%d", w.rng.IntN(3))
	switch n := w.rng.IntN(11); n {
	case 9: // of what may have moved
		other := w.mine[w.rng.IntN(len(w.mine))]
		w.say("try\ttag " + w.repo + " " + tag + "\t\n")
		return w.s.UntagFrom(ctx, w.repo, tag, other)
	case 10:
		return w.manifest(tag)
	case 0:
		w.mine = slices.DeleteFunc(w.mine, func(x digest.Digest) bool { return x == d })
		w.say("try\tcontent " + d.String() + "\t\n")
		return w.s.Remove(ctx, d) // it may be back after a power cut, and stays so then
	case 1:
		return w.say.attempt("content "+d.String(), "", func() error { return w.s.Quarantine(ctx, d) })
	case 2:
		return w.say.attempt("tag "+w.repo+" "+tag, "", func() error { return w.s.Untag(ctx, w.repo, tag) })
	case 3:
		w.say("try\tmanifest " + w.repo + " " + d.String() + "\t\n")
		return w.say.attempt("layer "+w.repo+" "+d.String(), "", func() error { return w.s.Unlink(ctx, w.repo, d) })
	case 4, 5:
		return w.say.attempt("layer "+w.repo+" "+d.String(), d.String(), func() error { return w.s.LinkBlob(ctx, w.repo, d) })
	case 6:
		return w.say.attempt("manifest "+w.repo+" "+d.String(), d.String(), func() error { return w.s.LinkManifest(ctx, w.repo, d) })
	default:
		return w.say.attempt("tag "+w.repo+" "+tag, d.String(), func() error { return w.s.Tag(ctx, w.repo, tag, d) })
	}
}

// manifest puts small content with a link and a tag.
func (w *writer) manifest(tag string) error {
	b := w.content(0)
	d := sum(digest.SHA256, b)
	w.mine = append(w.mine, d)
	of := map[string]string{"content " + d.String(): "whole", "manifest " + w.repo + " " + d.String(): d.String(), "tag " + w.repo + " " + tag: d.String()}
	return w.say.attemptAll(of, func() error { return w.s.PutManifest(context.Background(), w.repo, d, b, tag) })
}

// upload begins one, goes on with one, ends one or gives one up.
func (w *writer) upload() error {
	if len(w.open) < 3 {
		n := 1000 + w.rng.IntN(3<<w.rng.IntN(21))
		id := fmt.Sprintf("u%d-%d", w.rng.Uint32(), n)
		w.open = append(w.open, id)
		return grow(w.s, id, w.rng.IntN(n), true, w.say)
	}
	i := w.rng.IntN(len(w.open))
	id := w.open[i]
	switch n := w.rng.IntN(8); {
	case n < 4:
		return grow(w.s, id, w.rng.IntN(len(uploaded(id))), false, w.say)
	case n < 5:
		w.open = slices.Delete(w.open, i, i+1)
		w.say("try\tupload " + id + "\t\n")
		return w.s.RemoveUpload(id)
	}
	w.open = slices.Delete(w.open, i, i+1)
	d := sum(digest.SHA256, uploaded(id))
	w.mine = append(w.mine, d)
	return w.say.attempt("content "+d.String(), "whole", func() error {
		if err := grow(w.s, id, len(uploaded(id)), false, w.say); err != nil {
			return err
		}
		w.say("try\tupload " + id + "\t\n")
		return finish(w.s, id, d)
	})
}

// uploaded is what the upload of an id is of, which so need be told to nobody.
func uploaded(id string) []byte {
	var seed uint64
	var n int
	if _, err := fmt.Sscanf(id, "u%d-%d", &seed, &n); err != nil {
		panic(id)
	}
	return some(seed, n)
}

// grow has an upload be n bytes long, if it is shorter.
func grow(s *Store, id string, n int, anew bool, say journal) error {
	return say.attempt("upload "+id, strconv.Itoa(n), func() error {
		if anew {
			return begin(s, id, []byte(id), uploaded(id)[:n])
		}
		d, note, err := s.OpenUpload(context.Background(), id, digest.SHA256)
		if err != nil {
			return err
		}
		if string(note) != id {
			return fmt.Errorf("upload %s has the note %q", id, note)
		}
		if at := d.Len(); at < int64(n) {
			if _, err := d.Write(uploaded(id)[at:n]); err != nil {
				return errors.Join(err, d.Close())
			}
		}
		return d.Suspend()
	})
}

// resumeAll ends what uploads an earlier writer has left: those that are as far as they are what
// was written are complete in the end, and the others go.
func resumeAll(s *Store, say journal) error {
	var all []string
	if err := s.Uploads(context.Background(), func(id string, _ int64, _ time.Time) error { all = append(all, id); return nil }); err != nil {
		return err
	}
	for _, id := range all {
		b := uploaded(id)
		d, _, err := s.OpenUpload(context.Background(), id, digest.SHA256)
		if errors.Is(err, ErrNotFound) || err == nil && d.Verify(sum(digest.SHA256, b[:d.Len()]), -1) != nil {
			say("try\tupload " + id + "\t\n")
			if err := s.RemoveUpload(id); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		want := sum(digest.SHA256, b)
		err = say.attempt("content "+want.String(), "whole", func() error {
			say("try\tupload " + id + "\t\n")
			_, err := d.Write(b[d.Len():])
			return errors.Join(err, d.Verify(want, -1), d.Commit(context.Background()), d.Close())
		})
		if err != nil {
			return err
		}
		say("resumed\n")
	}
	return nil
}

func (w *writer) content(seed uint64) []byte {
	size := 16 + w.rng.IntN(1<<(4+w.rng.IntN(13))) // long enough to be nobody else's
	if w.rng.IntN(20) == 0 {
		size = 1<<20 + w.rng.IntN(2<<20)
	}
	if seed == 0 {
		seed = w.rng.Uint64()
	}
	return some(seed, size)
}

func (w *writer) commit() error {
	var b []byte
	if w.rng.IntN(5) == 0 {
		b = some(uint64(w.rng.IntN(10)), 20_000) // everybody's
	} else {
		b = w.content(0)
		w.mine = append(w.mine, sum(digest.SHA256, b))
	}
	return w.say.attempt("content "+sum(digest.SHA256, b).String(), "whole", func() error { return commit(w.s, b) })
}

func (w *writer) put() error {
	b := w.content(0)
	d := sum(digest.SHA512, b)
	w.mine = append(w.mine, d)
	return w.say.attempt("content "+d.String(), "whole", func() error { return w.s.Put(context.Background(), d, b) })
}

// child is a running writer.
type child struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	said dones
	done chan error // gets the pipe's end, after which out is complete
	up   chan struct{}
}

// dones counts what was acknowledged.
type dones struct{ n atomic.Int64 }

func (d *dones) Write(p []byte) (int, error) {
	d.n.Add(int64(bytes.Count(p, []byte("done\t"))))
	return len(p), nil
}

func start(t testing.TB, j job) *child {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0]), done: make(chan error, 1), up: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		first := make([]byte, 1)
		if _, err := io.ReadFull(out, first); err != nil {
			close(c.up)
			c.done <- err
			return
		}
		c.out.Write(first)
		close(c.up)
		_, err := io.Copy(io.MultiWriter(&c.out, &c.said), out)
		c.done <- err
	}()
	<-c.up
	return c
}

// kill ends the writer as if it had never known, and returns what it said.
func (c *child) kill(t testing.TB) string {
	t.Helper()
	c.cmd.Process.Kill()
	return c.wait(t)
}

// wait waits for the writer to end in whatever way.
func (c *child) wait(t testing.TB) string {
	t.Helper()
	if err := <-c.done; err != nil {
		t.Errorf("read from the writer: %v", err)
	}
	c.cmd.Wait()
	return c.out.String()
}

// rounds is how often to do something, unless the environment asks for more.
func rounds(t testing.TB, env string, n int) int {
	t.Helper()
	if text := os.Getenv(env); text != "" {
		more, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", env, err)
		}
		return more
	}
	if testing.Short() {
		return max(n/10, 1)
	}
	return n
}

// TestKill kills a writer again and again (FAULTS P1). ROADSTEAD_KILLS asks for more.
func TestKill(t *testing.T) {
	const perDirectory = 10
	kills := rounds(t, "ROADSTEAD_KILLS", 60)
	promises, leftovers, acknowledged, resumed := 0, 0, 0, 0
	for done := 0; done < kills; {
		root := fastDir(t)
		l := ledger{}
		for range min(perDirectory, kills-done) {
			c := start(t, job{Root: root, Seed: uint64(done)})
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			text := c.kill(t)
			done++
			if i := strings.Index(text, "error\t"); i >= 0 {
				t.Fatalf("the writer says %s", text[i:])
			}
			l.read(text)
			acknowledged += strings.Count(text, "done\t")
			resumed += strings.Count(text, "resumed\n")
			left, err := filepath.Glob(filepath.Join(root, "drafts", "draft-*"))
			if err != nil {
				t.Fatal(err)
			}
			leftovers += len(left)
		}
		have := mustLook(t, root)
		broken, n := l.broken(have)
		promises += n
		for _, b := range append(broken, have.wrong...) {
			t.Error(b)
		}
		s := openStore(t, root)
		if err := s.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		expire(t, s)
		emptyDrafts(t, s)
		if n := len(contents(t, s)); n != len(have.content) {
			t.Errorf("the store walks %d contents of %d", n, len(have.content))
		}
		os.RemoveAll(root)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d kills, %d acknowledged, %d promises kept, %d uploads gone on with, %d drafts left to sweep", kills, acknowledged, promises, resumed, leftovers)
	if resumed == 0 && kills >= 10 {
		t.Error("no kill has left an upload to go on with")
	}
	if promises < kills {
		t.Errorf("%d promises in %d kills prove nothing", promises, kills)
	}
	if leftovers == 0 && kills >= 10 {
		t.Error("no kill has met a draft: they come at the wrong time")
	}
}

// TestKillAtEveryCall ends the process before each single call to the file system, which is
// after the one before it.
func TestKillAtEveryCall(t *testing.T) {
	t.Parallel()
	dir := fastDir(t)
	for n := 1; ; n += every(17) {
		root := filepath.Join(dir, fmt.Sprint(n))
		plant(t, filesystemDriver(root), scriptDamaged, nil)
		text := start(t, job{Root: root, Stop: n}).wait(t)
		ended := strings.HasSuffix(text, "end\n")
		if strings.Contains(text, "error\t") || !strings.HasPrefix(text, "ready\n") {
			t.Fatalf("call %d: the writer says %s", n, text)
		}
		if !checkPromises(t, text, mustLook(t, root)) {
			t.Fatalf("at call %d", n)
		}
		s := openStore(t, root)
		if err := s.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		expire(t, s)
		emptyDrafts(t, s)
		if _, _, err := runScript(s, false, &counter{}); err != nil {
			t.Fatalf("call %d: afterwards: %v", n, err)
		}
		s.Close()
		os.RemoveAll(root)
		if ended {
			t.Logf("%d calls", n)
			return
		}
	}
}
