package fuzz

import (
	"os"
	"path/filepath"
	"testing"
)

// vectors reads real documents, which lie beside the project and not in it.
func vectors(f *testing.F, patterns ...string) [][]byte {
	f.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "vectors")
	if _, err := os.Stat(dir); err != nil {
		f.Logf("SKIPPED: real documents as seeds, since %s isn't there", dir)
		return nil
	}
	var all [][]byte
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) == 0 {
			f.Fatalf("no file %s in %s: %v", pattern, dir, err)
		}
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, raw)
		}
	}
	return all
}
