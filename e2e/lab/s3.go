package lab

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Bucket is a bucket of an S3 gateway over a folder, with a key of its own.
type Bucket struct {
	Name          string
	URL           string // of the gateway
	AccessKey     string
	SecretKeyFile string
	Dir           string // where the gateway has the bucket's objects, as files named by their keys

	lab     *Lab
	program string
	secret  string
	process *Process
}

// NewBucket makes a bucket. The gateway is versitygw, in the folder programs; it runs
// until Stop, and again after Start.
func (l *Lab) NewBucket(ctx context.Context, programs string) (*Bucket, error) {
	dir, err := l.folder("s3")
	if err != nil {
		return nil, err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	b := &Bucket{
		Name: "images", URL: "http://" + address, AccessKey: rand.Text(), SecretKeyFile: filepath.Join(dir, "secret-key"),
		Dir: filepath.Join(dir, "buckets", "images"), lab: l, program: filepath.Join(programs, "versitygw"), secret: rand.Text(),
	}
	if err := os.WriteFile(b.SecretKeyFile, []byte(b.secret+"\n"), 0o600); err != nil {
		return nil, err
	}
	for _, folder := range []string{b.Dir, filepath.Join(dir, "meta")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	return b, b.Start(ctx)
}

// Start runs the gateway until it answers.
func (b *Bucket) Start(ctx context.Context) error {
	top := filepath.Dir(b.Dir)
	cmd := exec.Command(b.program, "--quiet", "--port", b.URL[len("http://"):], "posix", "--sidecar", filepath.Join(filepath.Dir(top), "meta"), top)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+b.AccessKey, "ROOT_SECRET_ACCESS_KEY="+b.secret)
	var err error
	if b.process, err = b.lab.Start("versitygw", cmd); err != nil {
		return err
	}
	return b.process.WaitUntil(ctx, answers(http.DefaultClient, b.URL))
}

// Stop ends the gateway; its objects stay.
func (b *Bucket) Stop() { b.process.Stop() }

// Kill ends the gateway in the midst of what it does.
func (b *Bucket) Kill() error { return b.process.Kill() }

// Env lets the AWS SDK find the key.
func (b *Bucket) Env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + b.AccessKey, "AWS_SECRET_ACCESS_KEY=" + b.secret}
}

// Signal sends the gateway a signal: SIGSTOP has it stand still, SIGCONT go on.
func (b *Bucket) Signal(signal syscall.Signal) error { return b.process.cmd.Process.Signal(signal) }
