package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// startUpload answers POST …/blobs/uploads/ (OCI distribution specification 1.1, "Pushing
// Blobs"): a mount, a whole blob, or the beginning of one.
func (s *Server) startUpload(ctx context.Context, res *response, r *http.Request) error {
	query, alg := r.URL.RawQuery, digest.SHA256
	if name, given := param(query, "digest-algorithm"); given {
		if alg = digest.Algorithm(name); alg != digest.SHA256 && alg != digest.SHA512 {
			return invalid(registry.DigestInvalid, "digests are sha256 or sha512 here, not "+strconv.QuoteToASCII(registry.Clip(name)))
		}
	}
	if text, given := param(query, "mount"); given {
		d, err := digestParam(text)
		if err != nil {
			return err
		}
		mounted, err := s.mount(ctx, res, r, d)
		if err != nil {
			return err
		}
		if mounted {
			s.counters.mounts.Add(1)
			res.blobCreated(d)
			return nil
		}
		alg = d.Algorithm()
	}
	if text, given := param(query, "digest"); given {
		d, err := digestParam(text)
		if err != nil {
			return err
		}
		return s.wholeBlob(ctx, res, r, d)
	}
	u, err := s.config.Uploader.StartUpload(ctx, res.repo, res.owner(), alg)
	if err != nil {
		return err
	}
	res.push.upload = u
	res.progress()
	res.empty(http.StatusAccepted)
	return nil
}

// mount makes a blob of another repository one of this, unless there is none that the caller
// may read: then it is uploaded instead, and nothing says why (FAULTS B9).
//
// Whoever has got here is known and may push, so credentials that could help are those of the
// same account: a token that was asked for the one repository only. A client that names where to
// mount from is told to ask for a token for both, as at distribution; one that does not could not
// know for which, and there it is the account that counts.
func (s *Server) mount(ctx context.Context, res *response, r *http.Request, d registry.Digest) (bool, error) {
	pull := func(repo registry.Repo) error {
		return s.config.Access.Authorize(res.principal, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: repo})
	}
	may := func(repo registry.Repo) bool {
		err := pull(repo)
		return err == nil || errors.Is(err, registry.Unauthorized)
	}
	if from, given := param(r.URL.RawQuery, "from"); given {
		if registry.CheckName(from) != nil {
			return false, nil
		}
		source, err := s.resolve(r.Host, "", from)
		if err != nil {
			return false, nil
		}
		if err := pull(source); errors.Is(err, registry.Unauthorized) {
			return false, &challenge{s.config.Access.Challenge(r, s.scopes(res, r, &route{action: registry.Push})...)}
		} else if err != nil {
			return false, nil
		}
		may = func(repo registry.Repo) bool { return repo == source }
	}
	err := s.config.Writer.Mount(ctx, res.repo, d, may)
	if registry.Unknown(err) {
		return false, nil
	}
	return err == nil, err
}

// wholeBlob takes a blob in by one request. What it cannot keep is thrown away: the client has
// no name for it.
func (s *Server) wholeBlob(ctx context.Context, res *response, r *http.Request, d registry.Digest) error {
	u, err := s.config.Uploader.StartUpload(ctx, res.repo, res.owner(), d.Algorithm())
	if err != nil {
		return err
	}
	if err = s.append(ctx, res, r, u); err == nil {
		err = u.Commit(ctx, d)
	}
	if err != nil {
		// The client may be gone; its bytes are to go all the same. If they do not, they go
		// when uploads expire.
		_ = u.Cancel(context.WithoutCancel(ctx))
		return err
	}
	s.counters.uploads.Add(1)
	res.blobCreated(d)
	return nil
}

// appendUpload answers PATCH of an upload.
func (s *Server) appendUpload(ctx context.Context, res *response, r *http.Request) error {
	u, err := s.findUpload(ctx, res)
	if err != nil {
		return err
	}
	if err := s.append(ctx, res, r, u); err != nil {
		return err
	}
	res.progress()
	res.empty(http.StatusAccepted)
	return nil
}

// commitUpload answers PUT of an upload, which may have the last piece of it, or all.
func (s *Server) commitUpload(ctx context.Context, res *response, r *http.Request) error {
	text, given := param(r.URL.RawQuery, "digest")
	if !given {
		return invalid(registry.DigestInvalid, "the digest is missing: end an upload with PUT …?digest=sha256:…")
	}
	d, err := digestParam(text)
	if err != nil {
		return err
	}
	u, err := s.findUpload(ctx, res)
	if err != nil {
		return err
	}
	if r.ContentLength != 0 {
		if err := s.append(ctx, res, r, u); err != nil {
			return err
		}
	}
	if err := u.Commit(ctx, d); err != nil {
		return err
	}
	s.counters.uploads.Add(1)
	res.blobCreated(d)
	return nil
}

// uploadStatus answers GET and HEAD of an upload.
func (s *Server) uploadStatus(ctx context.Context, res *response, _ *http.Request) error {
	if _, err := s.findUpload(ctx, res); err != nil {
		return err
	}
	res.progress()
	res.empty(http.StatusNoContent)
	return nil
}

// cancelUpload answers DELETE of an upload.
func (s *Server) cancelUpload(ctx context.Context, res *response, _ *http.Request) error {
	u, err := s.findUpload(ctx, res)
	if err != nil {
		return err
	}
	if err := u.Cancel(ctx); err != nil {
		return err
	}
	res.empty(http.StatusNoContent)
	return nil
}

// findUpload finds the upload of the path.
func (s *Server) findUpload(ctx context.Context, res *response) (registry.Upload, error) {
	id := res.target.id
	if len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-'
	}) {
		return nil, registry.BlobUploadUnknown // an id is looked up by what may be a path (FAULTS B12)
	}
	u, err := s.config.Uploader.Upload(ctx, res.repo, res.owner(), id)
	if err != nil {
		return nil, err
	}
	res.push.upload = u
	return u, nil
}

// append appends the body of r to an upload. What has come of a body that breaks off stays.
func (s *Server) append(ctx context.Context, res *response, r *http.Request, u registry.Upload) error {
	b := res.take(r)
	defer b.leave(r)
	at := int64(-1)
	if value := r.Header.Get("Content-Range"); value != "" {
		sp, err := spanOf(value)
		if err != nil {
			return err
		}
		at = sp.first
		switch length := sp.last - sp.first + 1; {
		case r.ContentLength == 0 && length <= 1:
			// No range says "nothing", so clients send one that is one too long.
		case r.ContentLength >= 0 && r.ContentLength != length:
			return invalid(registry.SizeInvalid, "Content-Length and Content-Range do not agree")
		default:
			b.exact = length
		}
	}
	err := u.Append(ctx, at, b)
	if fault := b.fault(); fault != nil {
		return fault
	}
	if errors.Is(err, registry.RangeInvalid) {
		return &registry.Fault{Code: registry.RangeInvalid, Message: "the upload has " + strconv.FormatInt(u.Size(), 10) + " bytes: go on from there", Err: err}
	}
	return err
}

// span is the part of a blob that a body has: from its first to its last byte.
type span struct{ first, last int64 }

// spanOf reads the Content-Range of an upload, "0-99" (OCI distribution specification 1.1,
// "Pushing a blob in chunks"). Some clients write it as RFC 9110 has it, "bytes 0-99/1234", or
// as if it were a Range.
func spanOf(value string) (span, error) {
	bad := invalid(registry.BlobUploadInvalid, "the Content-Range is not <first byte>-<last byte>, such as 0-1023")
	plain := strings.TrimSpace(value)
	if len(plain) > 6 && strings.EqualFold(plain[:5], "bytes") && (plain[5] == ' ' || plain[5] == '=') {
		plain = plain[6:]
	}
	plain, _, _ = strings.Cut(plain, "/")
	first, last, ok := strings.Cut(plain, "-")
	if !ok || first == "" || last == "" || !digits(first) || !digits(last) {
		return span{}, bad
	}
	var sp span
	var err1, err2 error
	sp.first, err1 = strconv.ParseInt(first, 10, 64)
	sp.last, err2 = strconv.ParseInt(last, 10, 64)
	if err1 != nil || err2 != nil || sp.last < sp.first || sp.last-sp.first+1 < 0 {
		return span{}, bad
	}
	return sp, nil
}

// progress says in the header where an upload is and how far it has come. That it has nothing
// yet cannot be said: it looks as if it had one byte, which is what Docker's registry says.
func (res *response) progress() {
	id, header := res.push.upload.ID(), res.Header()
	header["Location"] = []string{"/v2/" + res.push.name + "/blobs/uploads/" + id}
	header["Docker-Upload-Uuid"] = []string{id}
	header["Range"] = []string{"0-" + strconv.FormatInt(max(res.push.upload.Size()-1, 0), 10)}
}

// blobCreated answers that the repository has a blob now.
func (res *response) blobCreated(d registry.Digest) {
	res.Header()["Docker-Content-Digest"] = []string{string(d)}
	res.created("/v2/" + res.push.name + "/blobs/" + string(d))
}
