package storage_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
)

// TestS3 runs against a real bucket, whose parameters are in TRUSTMIRROR_TEST_S3 as
// JSON. It writes below a prefix of its own.
func TestS3(t *testing.T) {
	text := os.Getenv("TRUSTMIRROR_TEST_S3")
	if text == "" {
		t.Skip(`SKIPPED: a real bucket. Set TRUSTMIRROR_TEST_S3, as in {"bucket": "images", "region": "us-east-1"}; make e2e does`)
	}
	storagetest.Run(t, func(t *testing.T) storagedriver.StorageDriver {
		var params map[string]any
		if err := json.Unmarshal([]byte(text), &params); err != nil {
			t.Fatal(err)
		}
		params["rootdirectory"] = "/test-" + rand.Text()
		return newDriver(t, "s3", params)
	})
}

// s3At is the driver for a bucket at an address, with a key of no worth.
func s3At(t *testing.T, address string) map[string]any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(rand.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"bucket": "images", "region": "us-east-1", "regionendpoint": "http://" + address, "forcepathstyle": true,
		"accesskey": rand.Text(), storage.SecretKeyFile: file,
	}
}

// A bucket that can't be reached, or says no, is an error of few words, and not the
// absence of what was asked for.
func TestS3Errors(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	denies := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::111122223333:user/x may not</Message></Error>"))
	}))
	defer denies.Close()
	for name, test := range map[string]struct {
		address, want string
		is            error
	}{
		"closed": {closed, "connection refused", syscall.ECONNREFUSED},
		"denied": {denies.Listener.Addr().String(), "s3: AccessDenied", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := storage.New(newDriver(t, "s3", s3At(t, test.address)))
			d := digest.FromString("x")
			_, opening := s.OpenContent(t.Context(), d)
			_, admissions := s.Admissions(t.Context(), "docker.io/nicolas/webdis", d)
			_, trust := s.Trust().Get(t.Context(), "gun", "root")
			_, listing := s.Trust().List(t.Context(), "gun")
			_, opened := storage.Open(t.Context(), "s3", s3At(t, test.address))
			for what, err := range map[string]error{
				"open": opening, "admissions": admissions, "trust": trust, "list": listing, "start": opened,
				"walk": s.EachRecord(t.Context(), func(storage.Admission, bool) error { return nil }),
				"put":  s.Put(t.Context(), d, 1, strings.NewReader("x")), "writable": s.Writable(t.Context()), "sweep": s.Sweep(t.Context()),
			} {
				switch {
				case err == nil, errors.Is(err, storage.ErrNotFound):
					t.Errorf("%s: %v", what, err)
				case !strings.Contains(err.Error(), test.want), strings.ContainsAny(err.Error(), "\n"), strings.Contains(err.Error(), "arn:"):
					t.Errorf("%s: %q, want %q on one line", what, err, test.want)
				case test.is != nil && !errors.Is(err, test.is):
					t.Errorf("%s: %v isn't %v", what, err, test.is)
				}
			}
		})
	}
}

// What the driver can't be set up with is told before anything is asked.
func TestS3Parameters(t *testing.T) {
	for want, change := range map[string]func(map[string]any){
		`no parameter "skipverify"`: func(p map[string]any) { p["skipverify"] = true },
		`no parameter "secretkey"`:  func(p map[string]any) { p["secretkey"] = "x" },
		"no such file":              func(p map[string]any) { p[storage.SecretKeyFile] = filepath.Join(t.TempDir(), "none") },
		"no bucket":                 func(p map[string]any) { delete(p, "bucket") },
		"invalid region":            func(p map[string]any) { delete(p, "regionendpoint"); p["region"] = "moon-1" },
	} {
		params := s3At(t, "127.0.0.1:1")
		change(params)
		if _, err := storage.NewDriver(t.Context(), "s3", params); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A URL that clients are sent to is for one object, for a while, and for the host that
// they know; without redirect there is none.
func TestS3RedirectURL(t *testing.T) {
	for name, test := range map[string]struct {
		redirect bool
		endpoint string
		want     string
	}{
		"off":       {want: ""},
		"mirror's":  {redirect: true, want: "http://127.0.0.1:1/images/content/a"},
		"clients'":  {redirect: true, endpoint: "https://s3.example", want: "https://s3.example/images/content/a"},
		"only said": {endpoint: "https://s3.example", want: ""},
	} {
		params := s3At(t, "127.0.0.1:1")
		params[storage.RedirectParameter] = test.redirect
		if test.endpoint != "" {
			params["redirectendpoint"] = test.endpoint
		}
		got, err := newDriver(t, "s3", params).RedirectURL(httptest.NewRequest(http.MethodGet, "/", nil), "/content/a")
		if err != nil {
			t.Fatal(err)
		}
		to, query, _ := strings.Cut(got, "?")
		if to != test.want {
			t.Errorf("%s: %s, want %s", name, to, test.want)
		}
		if expires := fmt.Sprintf("X-Amz-Expires=%d&", int(storage.RedirectFor.Seconds())); test.want != "" && !strings.Contains(query, expires) {
			t.Errorf("%s: %s, want %s", name, query, expires)
		}
	}
}
