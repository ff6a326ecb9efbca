package s3

import (
	"flag"
	"os"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"

	"roadstead/storage/s3test"
)

// config is that of a fresh bucket of a server.
func config(t testing.TB, s *s3test.Server) Config {
	t.Helper()
	return Config{Endpoint: s.Endpoint, Region: s.Region, Bucket: s.Bucket(t), AccessKey: s.AccessKey, SecretKey: s.SecretKey}
}

func newDriver(t testing.TB, c Config) *Driver {
	t.Helper()
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDistributionsSuite is what every storage driver has to pass, on one server with a bucket of its
// own and on the other below a prefix; ROADSTEAD_LARGE=1 has both run on both, and the one test that
// sends 5 GiB to and fro, which proves little here and takes minutes.
func TestDistributionsSuite(t *testing.T) {
	large := os.Getenv("ROADSTEAD_LARGE") != ""
	if !large && !testing.Short() {
		// No other test runs beside this one, so nobody else is misled.
		if err := flag.Set("test.short", "true"); err != nil {
			t.Fatal(err)
		}
		defer flag.Set("test.short", "false")
	}
	t.Run("servers", func(t *testing.T) {
		for _, run := range []struct {
			name, prefix string
			start        func(testing.TB) *s3test.Server
			large        bool
		}{
			{"versitygw", "", s3test.Versitygw, false}, {"minio below a prefix", "some/where", s3test.MinIO, false},
			{"minio", "", s3test.MinIO, true}, {"versitygw below a prefix", "some/where", s3test.Versitygw, true},
		} {
			if run.large && !large {
				continue
			}
			t.Run(run.name, func(t *testing.T) {
				// One after the other: the suite writes into bytes that all of its runs share.
				c := config(t, run.start(t))
				c.Prefix = run.prefix
				testsuites.Driver(t, func() (storagedriver.StorageDriver, error) { return New(t.Context(), c) }, false)
			})
		}
	})
}
