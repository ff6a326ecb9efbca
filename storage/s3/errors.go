package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"
)

// failed makes an error of this driver. ctx is that of the call.
func (d *Driver) failed(ctx context.Context, doing, path string, err error) error {
	if noSuchKey(err) {
		return storagedriver.PathNotFoundError{Path: path, DriverName: name}
	}
	if none, ok := errors.AsType[storagedriver.PathNotFoundError](err); ok {
		return none
	}
	return storagedriver.Error{DriverName: name, Detail: fmt.Errorf("%s %s: %w", doing, path, d.explain(d.explainStall(ctx, err)))}
}

// explainStall says of a call that we have ended why: its caller must not take it for his own
// doing.
func (d *Driver) explainStall(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, context.Canceled) && (errors.Is(cause, errStalled) || errors.Is(cause, errMoment)) {
		return fmt.Errorf("%w: %s", cause, d.endpoint)
	}
	return err
}

// noSuchKey says whether the server has said in words of its own that there is no such key. A 404
// without a body is no such word: it is also what is said of a bucket that is gone, and by things
// in between.
func noSuchKey(err error) bool {
	r, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && r.StatusCode == http.StatusNotFound && r.Code == minio.NoSuchKey && r.XMLName.Local == "Error"
}

// absent says whether an answer to HEAD, which has no body, may mean that there is no such key.
func absent(err error) bool {
	r, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && r.StatusCode == http.StatusNotFound
}

func code(err error) string {
	r, _ := errors.AsType[minio.ErrorResponse](err)
	return r.Code
}

func status(err error) int {
	r, _ := errors.AsType[minio.ErrorResponse](err)
	return r.StatusCode
}

// refusedCondition says whether an object was there already when it was to be made.
func refusedCondition(err error) bool {
	// 409 is what Amazon says of two that are made at the same time.
	return status(err) == http.StatusPreconditionFailed || code(err) == "ConditionalRequestConflict"
}

// broken says whether the connection ended while something was sent. A server that refuses a condition
// need not read what it is for, and its answer may be overtaken by that end. Who finds it first, the
// one who sends or the one who waits for the answer and closes on the other, decides what it is called.
func broken(err error) bool {
	for _, end := range []error{syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// explain says what to do about what the server has said.
func (d *Driver) explain(err error) error {
	r, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return err
	}
	advice := ""
	switch r.Code {
	case minio.NoSuchBucket, "InvalidBucketName":
		advice = fmt.Sprintf("there is no bucket %q at %s: make it, or correct its name", d.bucket, d.endpoint)
	case "InvalidAccessKeyId", "XAdminUserNotFound":
		advice = "the server does not know the access key: correct it, or give it the key"
	case "SignatureDoesNotMatch":
		advice = "the secret key is not that of the access key, or the region is not the server's: correct them"
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken":
		advice = "the temporary credentials have expired: renew them"
	case "RequestTimeTooSkewed", "RequestExpired":
		advice = "the clock of this machine and that of the server differ by more than the server allows: set them by NTP"
	case "AuthorizationHeaderMalformed", minio.InvalidRegion, "PermanentRedirect", "IncorrectEndpoint", "IllegalLocationConstraintException":
		advice = fmt.Sprintf("the bucket is not in region %q: correct the region", d.region)
		if r.Region != "" && r.Region != d.region {
			advice = fmt.Sprintf("the bucket is not in region %q: set the region to %q", d.region, r.Region)
		}
	case minio.AccessDenied, "AllAccessDisabled":
		advice = fmt.Sprintf("the credentials may not do this: allow s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads on bucket %q", d.bucket)
	case "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLarge.Quota":
		return fmt.Errorf("%w: %s (%s)", syscall.ENOSPC, r.Error(), r.Code)
	}
	if r.StatusCode == http.StatusInsufficientStorage {
		return fmt.Errorf("%w: %s (%s)", syscall.ENOSPC, r.Error(), r.Code)
	}
	if advice == "" {
		return fmt.Errorf("%w (%s, status %d)", err, r.Code, r.StatusCode)
	}
	return fmt.Errorf("%s: %w (%s)", advice, err, r.Code)
}
