package notary

import (
	"bytes"
	"time"
)

// Forgery is what an archive says and holds, to be changed.
type Forgery struct {
	Format, GUN, Source string
	Moment              time.Time
	Names               []string // in order
	Contents            map[string][]byte
	// List changes what archive.json says of a file after all was listed rightly.
	List func(name string, size *int64, sha256 *string)
}

// Forge writes an archive anew after a change, as right as it can be: whoever
// hands out a forged archive also writes a new archive.json.
func Forge(a *Archive, change func(*Forgery)) []byte {
	f := &Forgery{
		Format: a.manifest.Format, GUN: a.manifest.GUN, Source: a.manifest.Source, Moment: a.manifest.Moment,
		Contents: make(map[string][]byte),
	}
	for _, e := range a.manifest.Files {
		f.Names = append(f.Names, e.Name)
		f.Contents[e.Name] = bytes.Clone(a.contents[e.Name])
	}
	change(f)
	m := archiveManifest{Format: f.Format, GUN: f.GUN, Source: f.Source, Moment: f.Moment}
	for _, name := range f.Names {
		e := archiveEntry{Name: name, Size: int64(len(f.Contents[name])), SHA256: sha256Hex(f.Contents[name])}
		if f.List != nil {
			f.List(name, &e.Size, &e.SHA256)
		}
		m.Files = append(m.Files, e)
	}
	raw, err := m.encode(f.Contents)
	if err != nil {
		panic(err) // a time that a test made up
	}
	return raw
}

// ArchiveFile returns a file of an archive.
func ArchiveFile(a *Archive, name string) []byte { return bytes.Clone(a.contents[name]) }
