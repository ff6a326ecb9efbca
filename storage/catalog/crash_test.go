package catalog

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	crashEnv    = "CATALOG_CRASH_FILE"
	crashImages = 3 // in each update
)

// TestCrashChild is the process that TestKill kills.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashEnv)
	if path == "" {
		t.Skip("runs as a child of TestKill")
	}
	db, err := Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	usage, err := db.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := int(usage.Count) / 2 / crashImages; ; n++ {
		update(t, db, func(tx *Tx) error {
			for i := n * crashImages; i < (n+1)*crashImages; i++ {
				layer := fmt.Sprint("layer ", i)
				if err := tx.AddBlob(busybox, dg(layer), 10); err != nil {
					return err
				}
				if err := (manifest{name: fmt.Sprint("image ", i), layers: []string{layer}}).add(tx, busybox); err != nil {
					return err
				}
			}
			return nil
		})
		fmt.Println("acknowledged", n+1)
	}
}

// TestKill ends a writer by kill -9 again and again. What it had acknowledged is there, whole,
// and the next process starts on it as if nothing had happened.
func TestKill(t *testing.T) {
	path := t.TempDir() + "/catalog.db"
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged := 0
	for range 12 {
		child := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
		child.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// A random number of updates, and a random moment of the next.
		updates, moment := 1+random.IntN(40), time.Duration(random.IntN(3000))*time.Microsecond
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			count, ok := strings.CutPrefix(lines.Text(), "acknowledged ")
			if !ok {
				continue
			}
			if acknowledged, err = strconv.Atoi(count); err != nil {
				t.Fatal(err)
			}
			if updates--; updates == 0 {
				time.AfterFunc(moment, func() { child.Process.Kill() })
			}
		}
		child.Process.Kill()
		child.Wait()

		db := openAt(t, path)
		usage, err := db.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if least := int64(2 * crashImages * acknowledged); usage.Count < least || usage.Count%(2*crashImages) != 0 {
			t.Errorf("Usage = %+v after a kill, want at least %d pieces and whole updates only", usage, least)
		}
		for i := range acknowledged * crashImages {
			if got := found(t, db, busybox, fmt.Sprint("image ", i)); !got.Linked || !got.Stored {
				t.Fatalf("image %d is %+v after a kill, want it there", i, got)
			}
		}
		recount(t, db)
		whole(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acknowledged == 0 {
		t.Error("no update was ever acknowledged")
	}
}
