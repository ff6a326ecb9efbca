package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"roadstead/registry"
)

const benchRepo = "/v2/docker.io/library/busybox"

// The small requests that a registry gets most, over loopback: server/ counts allocations of
// one process with one connection, process/ the processor time of a server that is asked over
// 64 of them. Both write their log to a file.
func BenchmarkManifestHeadByTag(b *testing.B) { small(b, "HEAD", benchRepo+"/manifests/1.35") }
func BenchmarkManifestGetByTag(b *testing.B)  { small(b, "GET", benchRepo+"/manifests/1.35") }
func BenchmarkManifestGetByDigest(b *testing.B) {
	small(b, "GET", benchRepo+"/manifests/"+string(digestOf(childManifest)))
}
func BenchmarkBlob4KiB(b *testing.B) { small(b, "GET", benchRepo+"/blobs/"+string(childSmall)) }

func small(b *testing.B, method, path string) {
	request := []byte(method + " " + path + " HTTP/1.1\r\nHost: x\r\nUser-Agent: containerd/v2.0.4\r\nAccept: " + registry.MediaTypeOCIManifest + ", */*\r\n\r\n")
	b.Run("server", func(b *testing.B) {
		dir := b.TempDir()
		stock(b, dir)
		log, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer log.Close()
		run := start(b, New(Config{
			Registry: warehouse{dir: dir, manifest: registry.Manifest{
				Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digestOf(childManifest), Size: int64(len(childManifest))},
				Bytes:      childManifest,
			}},
			Log: slog.New(slog.NewJSONHandler(log, nil)),
		}))
		ask := dial(b, run.addr)
		ask(request)
		b.ReportAllocs()
		for b.Loop() {
			ask(request)
		}
	})
	b.Run("process", func(b *testing.B) {
		c := startChild(b, 0)
		const conns = 64
		var asks []func([]byte)
		for range conns {
			asks = append(asks, dial(b, c.addr))
			asks[len(asks)-1](request)
		}
		b.ResetTimer()
		before := c.cpu(b)
		var wg sync.WaitGroup
		for i, ask := range asks {
			wg.Go(func() {
				for range (b.N + i) / conns {
					ask(request)
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64((c.cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	})
}

// dial opens a connection and returns what sends a request over it and reads the answer,
// which must be a success, without allocating.
func dial(b testing.TB, addr string) func(request []byte) {
	b.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close() })
	r := bufio.NewReaderSize(nc, 16<<10)
	length := []byte("Content-Length: ")
	return func(request []byte) {
		if _, err := nc.Write(request); err != nil {
			b.Error(err)
			return
		}
		body := 0
		for n := 0; ; n++ {
			line, err := r.ReadSlice('\n')
			if err != nil || n == 0 && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
				b.Errorf("%q, %v", line, err)
				return
			}
			if len(line) == 2 {
				break
			}
			if digits, ok := bytes.CutPrefix(line, length); ok {
				body = 0
				for _, c := range digits[:len(digits)-2] {
					body = body*10 + int(c-'0')
				}
			}
		}
		if request[0] == 'G' {
			if _, err := r.Discard(body); err != nil {
				b.Error(err)
			}
		}
	}
}

// Eight clients take 200 MB each, as a file and as a reader that is none.
func BenchmarkLayer(b *testing.B) {
	for _, content := range []struct {
		name   string
		digest registry.Digest
	}{{"file", childLarge}, {"reader", childHidden}} {
		b.Run(content.name, func(b *testing.B) {
			c := startChild(b, 0)
			get := func() {
				resp, err := http.Get("http://" + c.addr + benchRepo + "/blobs/" + string(content.digest))
				if err != nil {
					b.Error(err)
					return
				}
				defer resp.Body.Close()
				if n, err := io.Copy(io.Discard, resp.Body); n != childLargeSize || err != nil {
					b.Errorf("%d bytes, %v", n, err)
				}
			}
			get() // the file is in the page cache from now on
			const clients = 8
			b.ResetTimer()
			before := c.cpu(b)
			for range b.N {
				var wg sync.WaitGroup
				for range clients {
					wg.Go(get)
				}
				wg.Wait()
			}
			gigabytes := float64(b.N) * clients * childLargeSize / 1e9
			b.ReportMetric((c.cpu(b)-before).Seconds()/gigabytes, "cpu-s/GB")
			b.ReportMetric(gigabytes*1000/b.Elapsed().Seconds(), "MB/s")
		})
	}
}

// A stream whose client does not read costs at most 40 KiB when the kernel sends a file, as it
// does for all that is cached or in flight, and its buffer more otherwise.
func TestStalledStreamMemory(t *testing.T) {
	if raced() {
		t.Skip("the race detector takes more memory than what is measured")
	}
	for d, most := range map[registry.Digest]float64{childLarge: 40, childHidden: 40 + bufferSize>>10} {
		c := startChild(t, 0)
		ask := dial(t, c.addr)
		for range 200 {
			ask([]byte("GET " + benchRepo + "/blobs/" + string(childSmall) + " HTTP/1.1\r\nHost: x\r\n\r\n"))
		}
		before := c.resident(t)
		const streams = 600
		first := make([]byte, 12)
		for range streams {
			nc, err := net.Dial("tcp", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if err := nc.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(nc, "GET %s/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", benchRepo, d)
			if _, err := io.ReadFull(nc, first); err != nil || string(first) != "HTTP/1.1 200" {
				t.Fatalf("%q, %v", first, err)
			}
		}
		time.Sleep(500 * time.Millisecond) // the last ones fill their buffers
		each := (c.resident(t) - before) / streams
		if each > most {
			t.Errorf("%.1f KiB per stream of %s, want at most %.0f", each, d.Algorithm(), most)
		}
	}
}
