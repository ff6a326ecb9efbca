package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"roadstead/storage/s3"
)

// S3 is the bucket that content lies in instead of in the directory, which then has the catalog,
// the keys and what is on its way in. Without a bucket's name there is none.
type S3 struct {
	s3.Config // but for its secrets

	SecretKey    Secret
	SessionToken Secret
	Redirect     redirect // of projects that say nothing of it
}

var s3Fields = []field[S3]{
	{"endpoint", func(v value, s *S3) {
		if text, ok := v.plainURL(); ok {
			s.Endpoint = text
		}
	}},
	{"region", func(v value, s *S3) { v.setText(&s.Region) }},
	{"bucket", func(v value, s *S3) { v.setText(&s.Bucket) }},
	{"prefix", func(v value, s *S3) { v.setText(&s.Prefix) }},
	{"access_key", func(v value, s *S3) { v.setText(&s.AccessKey) }},
	{"secret_key", func(v value, s *S3) { v.setSecret(&s.SecretKey) }},
	{"secret_key_file", func(v value, s *S3) { v.setPasswordFile(&s.SecretFile) }},
	{"session_token", func(v value, s *S3) { v.setSecret(&s.SessionToken) }},
	{"credentials_file", func(v value, s *S3) { v.setFile(&s.CredentialsFile) }},
	{"profile", func(v value, s *S3) { v.setText(&s.Profile) }},
	{"style", func(v value, s *S3) {
		if text, ok := v.oneOf("auto", string(s3.Path), string(s3.VirtualHost)); ok && text != "auto" {
			s.Style = s3.Style(text)
		}
	}},
	{"ca_file", func(v value, s *S3) { v.setFile(&s.CAFile) }},
	{"encryption", func(v value, s *S3) {
		if text, ok := v.oneOf(string(s3.SSES3), string(s3.SSEKMS)); ok {
			s.Encryption = s3.Encryption(text)
		}
	}},
	{"kms_key", func(v value, s *S3) { v.setText(&s.KMSKey) }},
	{"part_size", func(v value, s *S3) { v.setSize(&s.Part) }},
	{"parallel", func(v value, s *S3) { v.setCount(&s.Parallel) }},
	{"retries", func(v value, s *S3) {
		if v.setCount(&s.Retries); s.Retries == 0 {
			s.Retries = -1
		}
	}},
	{"stall", func(v value, s *S3) { v.setDuration(&s.Stall) }},
	{"redirect", func(v value, s *S3) { v.setRedirect(&s.Redirect) }},
}

func readS3(v value, s *Storage) {
	before := len(v.doc.faults)
	readMapping(v, s3Fields, &s.S3)
	if len(v.doc.faults) > before {
		return // of which what follows may be a consequence
	}
	if _, err := s3.Open(s.S3.config()); err != nil {
		v.fault(err.Error(), `write bucket: images, endpoint: "https://s3.example.com" unless it is Amazon's, and access_key with secret_key_file, or neither of the two`)
	}
}

func (s S3) config() s3.Config {
	c := s.Config
	c.SecretKey, c.SessionToken = string(s.SecretKey), string(s.SessionToken)
	return c
}

// String says where the bucket is, for people.
func (s S3) String() string {
	return fmt.Sprintf("bucket %s at %s", strings.TrimSuffix(s.Bucket+"/"+s.Prefix, "/"), cmp.Or(s.Endpoint, "Amazon"))
}

// bucket opens the bucket without asking it anything; nil where there is none.
func (s Storage) bucket() (*s3.Driver, error) {
	if s.S3.Bucket == "" {
		return nil, nil
	}
	return s3.Open(s.S3.config())
}

// Place is where the content is, for people.
func (s Storage) Place() string {
	if s.S3.Bucket == "" {
		return s.Directory
	}
	return s.S3.String()
}

// holds says whether there is content, and refuses places that somebody means well with.
func (s Storage) holds(ctx context.Context) (bool, error) {
	driver, err := s.bucket()
	if err != nil {
		return false, err
	}
	if driver == nil {
		return holdsContent(s.Directory), checkLayout(s.Directory)
	}
	if err := s.lonely(); err != nil {
		return false, err
	}
	if err := driver.Check(ctx); err != nil {
		return false, err
	}
	return driver.Exists(ctx, "/"+repositories)
}

// lonely refuses a directory with content of its own beside a bucket.
func (s Storage) lonely() error {
	if s.S3.Bucket != "" && holdsContent(s.Directory) {
		return fmt.Errorf("%s holds content of its own, which nobody would see while it is kept in %s: name another storage.directory, and move what is in %s with \"roadstead migrate %s\", which needs storage.catalog too",
			s.Directory, s.S3, s.Directory, s.Directory)
	}
	return nil
}

// hasty is for a server: those who wait for the bucket have clients waiting for them.
func (s Storage) hasty() Storage {
	s.S3.Hasty = true
	return s
}

// checkStorage looks at what parts of the storage's configuration say of each other.
func (f *file) checkStorage(v value) {
	f.checkHot(value{doc: v.doc, node: v.node, path: "/storage"})
	f.checkRedirects(v)
	if f.Storage.S3.Bucket != "" && f.Storage.MaxShare > 0 {
		v.doc.fault(v.doc.lines["/storage/max_size"], "max_size: a bucket is no filesystem that it could be a share of", "write a size, such as 2TiB, or remove the line")
	}
}

// tidyEvery is how often a node looks for the remains of uploads. What a crash leaves counts as
// abandoned after a day, so an hour more is no matter; the question is one request.
const tidyEvery = time.Hour

// tidyPatience is how long a start waits for the first time. It need not be then.
const tidyPatience = 2 * time.Second

// tidy has the bucket hold nothing for long that is no object: its owner pays for that, and no
// listing of keys shows it.
func (h *House) tidy(ctx context.Context) {
	every := time.NewTicker(tidyEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			h.tidyUp(ctx)
		}
	}
}

func (h *House) tidyUp(ctx context.Context) {
	if err := h.data.Store.Tidy(ctx); err != nil && !errors.Is(err, context.Canceled) {
		h.log.Warn("tidy the bucket", "err", err)
	}
}

// exportS3 writes a bucket without its secrets.
func exportS3(m *mapping, s S3) {
	m.text("endpoint", s.Endpoint)
	m.text("region", s.Region)
	m.text("bucket", s.Bucket)
	m.text("prefix", s.Prefix)
	if s.AccessKey != "" {
		comment := ""
		if s.SecretFile == "" {
			comment = "The secret key that belongs to this one is left out: name a file with it as secret_key_file."
		}
		m.add("access_key", textNode(s.AccessKey), comment)
	}
	m.text("secret_key_file", s.SecretFile)
	m.text("credentials_file", s.CredentialsFile)
	m.text("profile", s.Profile)
	m.text("style", string(s.Style))
	m.text("ca_file", s.CAFile)
	m.text("encryption", string(s.Encryption))
	m.text("kms_key", s.KMSKey)
	m.size("part_size", s.Part, 0)
	m.count("parallel", s.Parallel)
	if s.Retries < 0 {
		m.add("retries", textNode("0"), "")
	} else {
		m.count("retries", s.Retries)
	}
	m.duration("stall", s.Stall, 0)
	m.redirect(s.Redirect)
}
