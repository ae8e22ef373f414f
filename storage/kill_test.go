package storage_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// writerFolder makes the test binary a process that writes to that folder until
// it's killed, and prints what each finished write stored.
const writerFolder = "STORAGE_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerFolder); dir != "" {
		fmt.Fprintln(os.Stderr, writeForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeForever(dir string) error {
	s, err := openFolder(dir)
	for err == nil {
		content := strings.Repeat(rand.Text(), 10_000)
		d := digest.FromString(content)
		err = s.Put(context.Background(), d, int64(len(content)), strings.NewReader(content))
		if err == nil {
			err = s.Admit(context.Background(), storage.Admission{Repository: "r", Digest: d, Signed: d, Size: int64(len(content))})
		}
		if err == nil {
			fmt.Println(d)
		}
	}
	return err
}

// TestAttack32_Kill kills a writer at whatever it is doing after some writes.
// What it reported is there afterwards, and nothing else is there in part.
func TestAttack32_Kill(t *testing.T) {
	dir := t.TempDir()
	var reported []digest.Digest
	for i := range 12 {
		reported = append(reported, killWriter(t, dir, 1+i%4)...)
		s, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range reported {
			if _, err := s.ReadDocument(t.Context(), d, 1<<20); err != nil {
				t.Fatal(err)
			}
			if a, err := s.Admissions(t.Context(), "r", d); err != nil || len(a) != 1 {
				t.Fatalf("admissions of %s: %v, %v", d, a, err)
			}
		}
	}
	checkAll(t, dir)
}

// killWriter starts a writer, kills it after some reports and returns them.
func killWriter(t *testing.T, dir string, reports int) []digest.Digest {
	t.Helper()
	writer := exec.CommandContext(t.Context(), os.Args[0])
	writer.Env = append(os.Environ(), writerFolder+"="+dir)
	writer.Stderr = os.Stderr
	out, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	var reported []digest.Digest
	for lines := bufio.NewScanner(out); lines.Scan(); {
		reported = append(reported, digest.Digest(lines.Text()))
		if len(reported) == reports { // later reports were on their way already
			if err := writer.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = writer.Wait() // killed
	if len(reported) < reports {
		t.Fatalf("the writer stopped by itself after %d writes", len(reported))
	}
	return reported
}

// checkAll hashes every object in a folder.
func checkAll(t *testing.T, dir string) {
	t.Helper()
	root := filepath.Join(dir, "content")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		digester := digest.SHA256.Digester()
		if _, err := io.Copy(digester.Hash(), f); err != nil {
			return err
		}
		if digester.Digest().Encoded() != entry.Name() {
			t.Errorf("%s is visible in part", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func openFolder(dir string) (*storage.Store, error) {
	return storage.Open(context.Background(), "filesystem", map[string]any{"rootdirectory": dir})
}
