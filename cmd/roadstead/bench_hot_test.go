//go:build linux

package main_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"roadstead/storage/s3test"
)

// BenchmarkHot measures what a node serves whose content is in a bucket: from its copies, beside a
// node whose content is in a directory, and without them, beside a client that gets the same object
// from the same server of S3 by itself. The ways take turns, so that what else the machine does meets
// both; a ratio above 1 is in our favour.
func BenchmarkHot(b *testing.B) {
	s := s3test.Versitygw(b)
	bucket := s.Bucket(b)
	hot := b.TempDir()
	relay := startRelay(b, strings.TrimPrefix(s.Endpoint, "http://"))
	store := bucketStorage(b, s, "http://"+relay.addr, bucket)
	store["hot"] = map[string]any{"directory": hot, "size": "4GiB"}
	inBucket := startWharf(b, nodeConfig{storage: store})
	inDirectory := startWharf(b, nodeConfig{})
	direct, err := minio.New(relay.addr, &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region})
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int64{1 << 20, 200 << 20} {
		bytes, d := randomBytes(b, uint64(size), int(size))
		for _, w := range []*wharf{inBucket, inDirectory} {
			if err := w.as(w.robot).pushBlob("production/bench", d, content{bytes: bytes, size: size}); err != nil {
				b.Fatal(err)
			}
		}
		get := func(w *wharf) func() error {
			request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\n\r\n", blobPath("production/bench", d), w.addr,
				base64.StdEncoding.EncodeToString([]byte(w.robot.name+":"+w.robot.secret)))
			return func() error { return readOnce(w.addr, request) }
		}
		key := "our/registry/docker/registry/v2/blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
		// As the client beside it gets the object: with the same copies in this process.
		plainly := func() error {
			res, err := inBucket.as(inBucket.robot).open(http.MethodGet, blobPath("production/bench", d))
			if err != nil {
				return err
			}
			defer res.Body.Close()
			n, err := io.Copy(io.Discard, res.Body)
			if err == nil && n != size {
				err = fmt.Errorf("%s, %d bytes of %d", res.Status, n, size)
			}
			return err
		}
		byItself := func() error {
			o, err := direct.GetObject(context.Background(), bucket, key, minio.GetObjectOptions{})
			if err != nil {
				return err
			}
			defer o.Close()
			n, err := io.Copy(io.Discard, o)
			if err == nil && n != size {
				err = fmt.Errorf("%d bytes of %d", n, size)
			}
			return err
		}
		name := fmt.Sprintf("%d MiB", size>>20)
		b.Run(name+" from a copy, against a directory", func(b *testing.B) {
			beside(b, size, 100, func() {}, get(inBucket), get(inDirectory))
		})
		cool := func() {
			settle() // nobody waits for the bytes of another
			files, _ := filepath.Glob(filepath.Join(hot, "sha256", "*", d.Encoded()))
			for _, file := range files {
				os.Remove(file)
			}
		}
		b.Run(name+" cold, against minio-go", func(b *testing.B) { beside(b, size, 20, cool, plainly, byItself) })
		relay.rate.Store(100e6)
		b.Run(name+" cold, against minio-go, S3 at 100 MB/s", func(b *testing.B) { beside(b, size, 20, cool, plainly, byItself) })
		relay.rate.Store(0)
	}
}

// beside measures two ways in turn, and compares the medians.
func beside(b *testing.B, size int64, most int, before func(), ours, theirs func() error) {
	b.Helper()
	var mine, other []time.Duration
	rounds := max(b.N, min(most, int((2<<30)/size))) + 1
	for i := range 2 * rounds {
		way, all := ours, &mine
		if i%2 == 1 {
			way, all = theirs, &other
		}
		before()
		began := time.Now()
		if err := way(); err != nil {
			b.Fatal(err)
		}
		if i > 1 { // the first of each warms up
			*all = append(*all, time.Since(began))
		}
	}
	median := func(all []time.Duration) float64 { slices.Sort(all); return all[len(all)/2].Seconds() }
	m, o := median(mine), median(other)
	b.ReportMetric(0, "ns/op") // of both ways together, which means nothing
	b.ReportMetric(float64(size)/1e6/m, "MB/s")
	b.ReportMetric(float64(size)/1e6/o, "MB/s/other")
	b.ReportMetric(o/m, "ours/other")
}

// relay passes connections on, as fast as it is told.
type relay struct {
	addr string
	rate atomic.Int64 // bytes a second of each connection; zero: no limit
}

func startRelay(b *testing.B, to string) *relay {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	r := &relay{addr: l.Addr().String()}
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				here.Close()
				continue
			}
			go func() { io.Copy(there, here); there.Close() }()
			go func() { r.pass(here, there); here.Close() }()
		}
	}()
	return r
}

// pass has the kernel move a piece at a time, and waits when that was too fast.
func (r *relay) pass(to io.Writer, from io.Reader) {
	for {
		began := time.Now()
		n, err := io.CopyN(to, from, 128<<10)
		if err != nil {
			return
		}
		if rate := r.rate.Load(); rate > 0 {
			time.Sleep(time.Duration(n)*time.Second/time.Duration(rate) - time.Since(began))
		}
	}
}
