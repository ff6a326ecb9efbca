package s3

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// Config says where a bucket is and how to talk to its server.
type Config struct {
	// Endpoint is "https://host[:port]" or, where nobody else listens, "http://…". Empty means
	// https://s3.amazonaws.com, from which follows that of the region. Bodies above 1 MiB are not
	// signed: with https nothing can change them, without it only TCP's checksums say that nothing
	// has.
	Endpoint string

	// Region is what requests are signed for. Empty means to ask the server, once.
	Region string

	Bucket string // must be there already

	// Prefix is put before every key, so that one bucket can serve several. Empty means none.
	Prefix string

	// AccessKey and SecretKey are used if the first is set. SecretFile is instead of SecretKey: a
	// file with nothing else in it, read again when it changes. SessionToken belongs to temporary
	// keys and is mostly empty.
	AccessKey, SecretKey, SecretFile, SessionToken string

	// CredentialsFile is a file as the AWS command line keeps it, used if AccessKey is empty, and
	// read again when it changes. Profile is the part of it; empty means AWS_PROFILE or "default".
	//
	// Without either the environment is asked (AWS_ACCESS_KEY_ID …), then the AWS files of this
	// user, then the IAM role of this machine, container or Kubernetes service account.
	CredentialsFile, Profile string

	Style Style // how a URL names the bucket

	// CAFile has the certificates that the server's may be signed by, in PEM. Empty means the
	// system's.
	CAFile string

	// Encryption has the server encrypt what it stores. KMSKey is the key's id, for KMS only; empty
	// means the bucket's own.
	Encryption Encryption
	KMSKey     string

	// Part is how long the parts of an upload are, in bytes, and up to where a file is one request.
	// Zero means 16 MiB. S3 wants at least 5 MiB, and has ten thousand of them at most: parts of
	// what would be more are longer.
	Part int64

	// Parallel is how many parts of a file are under way at once. Zero means 4.
	Parallel int

	// Retries is how many times a request is repeated that could not be answered. Zero means 3,
	// negative none.
	Retries int

	// Stall is how long a request may make no progress. It is repeated once then; a second time
	// ends the call, and the next ones are given a tenth of it until the server answers again. Zero
	// means 10 s. Putting parts together may take ten times as long, because
	// some servers copy them.
	Stall time.Duration

	// Hasty is for those who have somebody waiting, whom they can serve from elsewhere or tell to come
	// again. While the server gives no answer, one call in a second asks it and the others end at once;
	// and a read waits half of Stall for its answer to begin. Others wait, and try again.
	Hasty bool
}

// Style is how a URL names a bucket.
type Style string

// The styles there are.
const (
	Auto        Style = ""        // VirtualHost at Amazon and Google, Path elsewhere
	Path        Style = "path"    // https://host/bucket/key
	VirtualHost Style = "virtual" // https://bucket.host/key
)

// Encryption is who keeps the key of what is stored.
type Encryption string

// The encryptions there are.
const (
	BucketDefault Encryption = ""       // whatever the bucket is configured to do
	SSES3         Encryption = "sse-s3" // a key of the server's
	SSEKMS        Encryption = "sse-kms"
)

const (
	// minPart is what S3 takes as the shortest part that is not the last.
	minPart = 5 << 20
	// maxParts is how many parts S3 takes.
	maxParts = 10_000
)

func (c Config) part() int64 {
	if c.Part == 0 {
		// Long enough that a layer of 64 MiB is six requests, short enough that four in flight fill
		// a connection and one that breaks costs little.
		return 16 << 20
	}
	return c.Part
}

func (c Config) parallel() int {
	if c.Parallel == 0 {
		return 4
	}
	return c.Parallel
}

func (c Config) retries() int {
	switch {
	case c.Retries == 0:
		return 3
	case c.Retries < 0:
		return 0
	}
	return c.Retries
}

func (c Config) stall() time.Duration {
	if c.Stall == 0 {
		return 10 * time.Second
	}
	return c.Stall
}

func (c Config) endpoint() (*url.URL, error) {
	if c.Endpoint == "" {
		return &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		// It is not quoted: it may hold a password.
		return nil, errors.New(`the endpoint is not "https://host" or "https://host:port" and nothing else`)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func (c Config) check() error {
	switch {
	case c.Bucket == "":
		return errors.New("no bucket is named")
	case c.AccessKey == "" && (c.SecretKey != "" || c.SecretFile != "" || c.SessionToken != ""):
		return errors.New("there is a secret key and no access key that it belongs to")
	case c.AccessKey != "" && c.SecretKey == "" && c.SecretFile == "":
		return errors.New("there is an access key without its secret key")
	case c.SecretKey != "" && c.SecretFile != "":
		return errors.New("the secret key and a file with it are both given: leave one out")
	case c.AccessKey != "" && c.CredentialsFile != "":
		return errors.New("an access key and a file of credentials are both given: leave one out")
	case c.Style != Auto && c.Style != Path && c.Style != VirtualHost:
		return fmt.Errorf("style %q is neither %q nor %q", c.Style, Path, VirtualHost)
	case c.part() < minPart || c.part() > 5<<30:
		return fmt.Errorf("parts of %d bytes are not between 5 MiB and 5 GiB, as S3 wants them", c.Part)
	case c.Parallel < 0:
		return fmt.Errorf("%d parts cannot be under way at once", c.Parallel)
	case c.Prefix != "" && checkPath("/"+strings.Trim(c.Prefix, "/")) != nil:
		return fmt.Errorf("prefix %q is not made of letters, digits, '.', '_', '-' and '/'", c.Prefix)
	}
	return nil
}

func (c Config) encryption() (encrypt.ServerSide, error) {
	switch c.Encryption {
	case BucketDefault, SSES3:
		if c.KMSKey != "" {
			return nil, fmt.Errorf("a KMS key is used with encryption %q only", SSEKMS)
		}
		if c.Encryption == BucketDefault {
			return nil, nil
		}
		return encrypt.NewSSE(), nil
	case SSEKMS:
		return encrypt.NewSSEKMS(c.KMSKey, nil)
	}
	return nil, fmt.Errorf("encryption %q is neither %q nor %q", c.Encryption, SSES3, SSEKMS)
}

func (c Config) lookup() minio.BucketLookupType {
	switch c.Style {
	case Path:
		return minio.BucketLookupPath
	case VirtualHost:
		return minio.BucketLookupDNS
	}
	return minio.BucketLookupAuto
}
