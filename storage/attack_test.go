package storage

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A pipe or a link where a folder of records would be is none: nobody waits for who
// never writes into it, and nothing is read from elsewhere.
func TestAttack64_PipeInAFoldersPlace(t *testing.T) {
	elsewhere := t.TempDir()
	for name, plant := range map[string]func(path string) error{
		"pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link": func(path string) error { return os.Symlink(elsewhere, path) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, dir := newTestFilesystem(t)
			a := Admission{
				Repository: "docker.io/nicolas/webdis", Digest: digest.FromString("a"), Kind: KindLayer, Signed: digest.FromString("s"), Proof: ProofListed,
			}
			if err := s.Admit(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			path, err := edgesPath(admissionFolder, a.Repository, a.Digest)
			if err != nil {
				t.Fatal(err)
			}
			full := filepath.Join(dir, path)
			if err := os.RemoveAll(full); err != nil {
				t.Fatal(err)
			}
			if err := plant(full); err != nil {
				t.Fatal(err)
			}
			read := make(chan error, 1)
			go func() {
				found, err := s.Admissions(t.Context(), a.Repository, a.Digest)
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
				read <- err
			}()
			select {
			case err := <-read:
				t.Logf("%v", err)
			case <-time.After(10 * time.Second):
				t.Error("who looks for records waits for ever")
				if w, err := os.OpenFile(full, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil { // lets it go
					w.Close()
				}
				<-read
			}
		})
	}
}
