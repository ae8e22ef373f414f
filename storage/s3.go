package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	s3 "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
)

const s3Driver = "s3"

// SecretKeyFile is the s3 driver's parameter for the file that holds the secret key,
// instead of the key itself.
const SecretKeyFile = "secretkey_file"

// How long an operation on a bucket may take before it counts as failed, so that
// nobody waits for minutes for one that is away. The SDK tries three times more
// within that.
const (
	s3Patience     = 10 * time.Second // one or a few small requests
	s3PartPatience = 30 * time.Second // sending or receiving a part of an object, up to 10 MiB
	s3MovePatience = 2 * time.Minute  // a copy within the bucket

	s3Small = 256 << 10 // bytes of a small request
)

// errS3Slow is why an operation on a bucket was given up.
var errS3Slow = errors.New("no answer in time")

// RedirectParameter is the s3 driver's parameter that has clients sent to the bucket for
// layers: true or false, the default.
const RedirectParameter = "redirect"

// RedirectFor is for how long the URLs are valid that clients are sent to. It is the
// driver's.
const RedirectFor = 20 * time.Minute

// s3Parameters are those of distribution's s3 driver that are passed on, and
// SecretKeyFile and RedirectParameter.
func s3Parameters() []string {
	return []string{
		"bucket", "region", "regionendpoint", "rootdirectory", "accesskey", SecretKeyFile,
		"secure", "forcepathstyle", "encrypt", "keyid", "storageclass", RedirectParameter, "redirectendpoint",
	}
}

// s3FromParameters makes the driver. It asks nobody anything.
func s3FromParameters(ctx context.Context, params map[string]any) (storagedriver.StorageDriver, error) {
	for name := range params {
		if !slices.Contains(s3Parameters(), name) {
			return nil, fmt.Errorf("the s3 storage driver has no parameter %q; use %s", name, strings.Join(s3Parameters(), ", "))
		}
	}
	params = maps.Clone(params)
	if file, ok := params[SecretKeyFile].(string); ok {
		secret, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the s3 storage driver's secret key: %w", err)
		}
		params["secretkey"] = strings.TrimSpace(string(secret))
		delete(params, SecretKeyFile)
	}
	redirect, _ := params[RedirectParameter].(bool)
	delete(params, RedirectParameter)
	d, err := s3.FromParameters(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("the s3 storage driver can't be set up: %w", err)
	}
	return &bucket{StorageDriver: d, redirect: redirect}, nil
}

// bucket is distribution's s3 driver, except that no operation takes long and that
// errors are one line. Objects appear whole or not at all, as S3 has it. Move is a
// copy and a removal: who dies between the two leaves the source.
type bucket struct {
	storagedriver.StorageDriver
	redirect bool
}

func (b *bucket) Direct() bool { return true }

func (b *bucket) Redirects() bool { return b.redirect }

func (b *bucket) RedirectURL(r *http.Request, path string) (string, error) {
	if !b.redirect {
		return "", nil
	}
	url, err := b.StorageDriver.RedirectURL(r, path)
	return url, s3Error(r.Context(), err)
}

func (b *bucket) GetContent(ctx context.Context, path string) (content []byte, err error) {
	err = bounded(ctx, s3Patience, func(ctx context.Context) error {
		r, err := b.StorageDriver.Reader(ctx, path, 0)
		if err != nil {
			return err
		}
		content, err = readSmall(path, 0, maxSmall, r)
		return err
	})
	return content, err
}

func (b *bucket) PutContent(ctx context.Context, path string, content []byte) error {
	patience := s3Patience
	if len(content) > s3Small {
		patience = s3PartPatience
	}
	return bounded(ctx, patience, func(ctx context.Context) error { return b.StorageDriver.PutContent(ctx, path, content) })
}

func (b *bucket) Stat(ctx context.Context, path string) (info storagedriver.FileInfo, err error) {
	err = bounded(ctx, s3Patience, func(ctx context.Context) error {
		info, err = b.StorageDriver.Stat(ctx, path)
		return err
	})
	return info, err
}

func (b *bucket) List(ctx context.Context, path string) (paths []string, err error) {
	err = bounded(ctx, s3Patience, func(ctx context.Context) error {
		paths, err = b.StorageDriver.List(ctx, path)
		return err
	})
	return paths, err
}

func (b *bucket) Move(ctx context.Context, source, dest string) error {
	return bounded(ctx, s3MovePatience, func(ctx context.Context) error { return b.StorageDriver.Move(ctx, source, dest) })
}

func (b *bucket) Delete(ctx context.Context, path string) error {
	return bounded(ctx, s3Patience, func(ctx context.Context) error { return b.StorageDriver.Delete(ctx, path) })
}

// Walk takes as long as it takes, but for the time until a page comes.
func (b *bucket) Walk(ctx context.Context, path string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	w := newWatch(ctx)
	defer w.cancel(nil)
	timer := time.AfterFunc(s3PartPatience, func() { w.cancel(errS3Slow) })
	defer timer.Stop()
	var failed error // f's, which isn't the bucket's
	err := b.StorageDriver.Walk(w.ctx, path, func(info storagedriver.FileInfo) error {
		timer.Stop()
		defer timer.Reset(s3PartPatience)
		failed = f(info)
		return failed
	}, options...)
	if failed != nil {
		return err
	}
	return s3Error(w.ctx, err)
}

// bounded runs an operation for at most a while. Its error is s3Error's.
func bounded(ctx context.Context, patience time.Duration, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errS3Slow)
	defer cancel()
	return s3Error(ctx, run(ctx))
}

// Reader's connection lives until Close. Each Read is bounded, however long the
// caller takes between two.
func (b *bucket) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	w := newWatch(ctx)
	var r io.ReadCloser
	err := w.bound(s3Patience, func() (err error) {
		r, err = b.StorageDriver.Reader(w.ctx, path, offset)
		return err
	})
	if err != nil {
		w.cancel(nil)
		return nil, err
	}
	return &bucketReader{watch: w, r: r}, nil
}

// Writer sends parts of 10 MiB; nothing is to be seen before Commit.
func (b *bucket) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	w := newWatch(ctx)
	var to storagedriver.FileWriter
	err := w.bound(s3Patience, func() (err error) {
		to, err = b.StorageDriver.Writer(w.ctx, path, appending)
		return err
	})
	if err != nil {
		w.cancel(nil)
		return nil, err
	}
	return &bucketWriter{watch: w, FileWriter: to}, nil
}

// watch ends the context of something long-lived when one step of it takes too long.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func newWatch(ctx context.Context) watch {
	ctx, cancel := context.WithCancelCause(ctx)
	return watch{ctx, cancel}
}

func (w watch) bound(patience time.Duration, step func() error) error {
	timer := time.AfterFunc(patience, func() { w.cancel(errS3Slow) })
	defer timer.Stop()
	return s3Error(w.ctx, step())
}

type bucketReader struct {
	watch
	r io.ReadCloser
}

func (r *bucketReader) Read(p []byte) (n int, err error) {
	err = r.bound(s3PartPatience, func() error {
		n, err = r.r.Read(p)
		return err
	})
	return n, err
}

func (r *bucketReader) Close() error {
	r.cancel(nil)
	return r.r.Close()
}

type bucketWriter struct {
	watch
	storagedriver.FileWriter
}

func (w *bucketWriter) Write(p []byte) (n int, err error) {
	err = w.bound(s3PartPatience, func() error {
		n, err = w.FileWriter.Write(p)
		return err
	})
	return n, err
}

func (w *bucketWriter) Commit(ctx context.Context) error {
	return w.bound(s3PartPatience, func() error { return w.FileWriter.Commit(ctx) })
}

// Cancel also keeps Close from sending what is left.
func (w *bucketWriter) Cancel(ctx context.Context) error {
	defer w.cancel(nil)
	return bounded(ctx, s3Patience, w.FileWriter.Cancel)
}

func (w *bucketWriter) Close() error {
	defer w.cancel(nil)
	return w.bound(s3PartPatience, w.FileWriter.Close)
}

// s3Error makes an SDK's error of several lines one of few words, without what
// concerns no client (accounts, request IDs), and says of what was given up that
// it was.
func s3Error(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("s3: %w", cause)
	}
	var wrapped storagedriver.Error
	detail := err // a writer's isn't wrapped
	driver := errors.As(err, &wrapped)
	if driver {
		detail = wrapped.Detail
	}
	var said interface { // the SDK's, without importing it: it is deprecated, and the driver's affair
		error
		Code() string
		OrigErr() error
	}
	switch {
	case errors.As(detail, &said):
	case driver:
		return fmt.Errorf("s3: %w", detail)
	default: // an absent path, or what reading a body says
		return err
	}
	var network *url.Error
	if errors.As(said.OrigErr(), &network) { // there was no answer
		return fmt.Errorf("s3: %w", network.Err)
	}
	return fmt.Errorf("s3: %s", said.Code())
}
