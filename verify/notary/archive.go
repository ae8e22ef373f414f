package notary

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
)

// Archive is a repository's signed metadata in one file, to be verified later
// and offline. It vouches for nothing by itself: an [ArchiveSource] verifies it
// under pinned keys, as of the moment that it names.
//
// An archive is a tar file that holds, in this order,
//
//	archive.json            what follows, for whom and until when it was valid
//	root/1.json …           the versions of root, without a gap, the newest last
//	timestamp.json
//	snapshot.json
//	targets.json
//	targets/alice.json …    the delegations that have published, by name
//
// The files are the very bytes that the trust service gave out. There is exactly
// one archive of given files: every other byte follows from archive.json, and
// what isn't written so is refused. Make one with Export or ReadArchive.
type Archive struct {
	manifest archiveManifest
	raw      []byte
	contents map[string][]byte // by name
}

// archiveManifest is archive.json.
type archiveManifest struct {
	Format string         `json:"format"` // archiveFormat
	GUN    string         `json:"gun"`
	Moment time.Time      `json:"moment"` // UTC, whole seconds
	Source string         `json:"source"` // where the files came from, for people
	Files  []archiveEntry `json:"files"`  // in order
}

// archiveEntry lists a file of an archive.
type archiveEntry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // hexadecimal
}

const (
	archiveFormat   = "trustmirror trust archive, version 1"
	archiveManName  = "archive.json"
	archiveRoots    = "root/"
	archiveSuffix   = ".json"
	maxManifest     = 1 << 20
	maxSource       = 1024
	maxArchiveFiles = maxRootSteps + 3 + maxDelegations
)

// MaxArchive is how many bytes an archive may have.
const MaxArchive = 128 << 20

// GUN is the repository that the metadata are of, as the archive says.
func (a *Archive) GUN() string { return a.manifest.GUN }

// Moment is the latest moment at which all of the metadata were valid, as the
// archive says. An ArchiveSource finds out whether that is so.
func (a *Archive) Moment() time.Time { return a.manifest.Moment }

// Source says where the metadata came from, in the exporter's words.
func (a *Archive) Source() string { return a.manifest.Source }

// Bytes is the archive as a file; it must not be modified.
func (a *Archive) Bytes() []byte { return a.raw }

// SHA256 is the digest of the file, in hexadecimal: what an operator pins.
func (a *Archive) SHA256() string { return sha256Hex(a.raw) }

// Roots are the oldest and the newest version of root in the archive.
func (a *Archive) Roots() (oldest, newest int64) {
	for _, e := range a.manifest.Files {
		if version, ok := rootVersion(e.Name); ok {
			if oldest == 0 {
				oldest = version
			}
			newest = version
		}
	}
	return oldest, newest
}

// rootName is the name of a version of root in an archive.
func rootName(version int64) string {
	return archiveRoots + strconv.FormatInt(version, 10) + archiveSuffix
}

func rootVersion(name string) (int64, bool) {
	number, _ := strings.CutPrefix(name, archiveRoots)
	number, _ = strings.CutSuffix(number, archiveSuffix)
	version, err := strconv.ParseInt(number, 10, 64)
	return version, err == nil && version > 0 && name == rootName(version)
}

// roleFile is the name of the file of any other role in an archive.
func roleFile(role string) string { return role + archiveSuffix }

// newArchive puts files, which are in order, into an archive.
func newArchive(gun, source string, moment time.Time, names []string, contents map[string][]byte) (*Archive, error) {
	m := archiveManifest{Format: archiveFormat, GUN: gun, Moment: moment, Source: source}
	for _, name := range names {
		raw := contents[name]
		m.Files = append(m.Files, archiveEntry{Name: name, Size: int64(len(raw)), SHA256: sha256Hex(raw)})
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	raw, err := m.encode(contents)
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxArchive {
		return nil, fmt.Errorf("the archive of %s would have %d bytes; at most %d are read again", gun, len(raw), MaxArchive)
	}
	return &Archive{manifest: m, raw: raw, contents: contents}, nil
}

// encode writes the archive whose manifest m is.
func (m *archiveManifest) encode(contents map[string][]byte) ([]byte, error) {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archiveManName, err)
	}
	var b tarBuilder
	b.modified = m.Moment
	b.add(archiveManName, append(raw, '\n'))
	for _, e := range m.Files {
		b.add(e.Name, contents[e.Name])
	}
	return b.end(), nil
}

// ReadArchive reads an archive, whose bytes it keeps. It verifies no signature.
// Errors are Refusals: Malformed; DigestMismatch where a file isn't the one that
// archive.json lists.
func ReadArchive(raw []byte) (*Archive, error) {
	if len(raw) > MaxArchive {
		return nil, verify.Refuse(verify.Malformed, "the archive has %d bytes; at most %d are read", len(raw), MaxArchive)
	}
	a := &Archive{raw: raw, contents: make(map[string][]byte)}
	rest, err := a.readManifest()
	if err != nil {
		return nil, err
	}
	for _, e := range a.manifest.Files {
		if rest, err = a.readFile(e, rest); err != nil {
			return nil, err
		}
	}
	again, err := a.manifest.encode(a.contents)
	switch {
	case err != nil:
		return nil, verify.Refuse(verify.Malformed, "%w", err)
	case len(raw) > len(again):
		return nil, verify.Refuse(verify.Malformed, "the archive holds more than %s lists: %d bytes instead of %d", archiveManName, len(raw), len(again))
	case !bytes.Equal(raw, again):
		return nil, verify.Refuse(verify.Malformed, "the archive is not written as trustmirror writes archives: something between its files was changed")
	}
	return a, nil
}

// readManifest reads archive.json, and returns what comes after it.
func (a *Archive) readManifest() (rest []byte, err error) {
	size, ok := tarSize(a.raw)
	if !ok || size > maxManifest || tarBlock+tarPadded(size) > int64(len(a.raw)) {
		return nil, verify.Refuse(verify.Malformed, "this is no archive of trust metadata: it doesn't begin with %s", archiveManName)
	}
	raw := a.raw[tarBlock:][:size]
	if err := strictjson.Unmarshal(raw, &a.manifest, strictjson.KnownFields()); err != nil {
		return nil, verify.Refuse(verify.Malformed, "%s is not strict JSON of the expected form: %w", archiveManName, err)
	}
	if err := a.manifest.check(); err != nil {
		return nil, verify.Refuse(verify.Malformed, "%w", err)
	}
	return a.raw[tarBlock+tarPadded(size):], nil
}

// readFile reads a file from where its header begins, and returns what comes
// after it. Headers and padding are compared later, all at once.
func (a *Archive) readFile(e archiveEntry, raw []byte) (rest []byte, err error) {
	begin := tarHeaderSize(e.Name)
	end := begin + tarPadded(e.Size)
	if end > int64(len(raw)) {
		return nil, verify.Refuse(verify.Malformed, "the archive ends before the end of %s", e.Name)
	}
	content := raw[begin:][:e.Size:e.Size]
	if sum := sha256Hex(content); sum != e.SHA256 {
		return nil, verify.Refuse(verify.DigestMismatch, "%s in the archive is not the file that %s lists: its SHA-256 is %s, not %s",
			e.Name, archiveManName, sum, e.SHA256)
	}
	a.contents[e.Name] = content
	return raw[end:], nil
}

// check checks that a manifest is one that this version writes.
func (m *archiveManifest) check() error {
	switch {
	case m.Format != archiveFormat:
		return fmt.Errorf("the archive's format is %.64q; this version reads %q", m.Format, archiveFormat)
	case m.Moment.IsZero() || m.Moment.Location() != time.UTC || m.Moment.Nanosecond() != 0 || m.Moment.Year() > 9999:
		return fmt.Errorf("the archive's moment has to be a time in UTC, in whole seconds")
	case len(m.Source) > maxSource || strings.ContainsFunc(m.Source, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("the archive's source has to be a line of at most %d ASCII characters", maxSource)
	case len(m.Files) > maxArchiveFiles:
		return fmt.Errorf("the archive lists %d files; at most %d are read", len(m.Files), maxArchiveFiles)
	}
	if err := validateGUN(m.GUN); err != nil {
		return err
	}
	for _, e := range m.Files {
		if e.Size < 0 || e.Size > MaxArchive || !isSHA256(e.SHA256) {
			return fmt.Errorf("the archive lists %.300q without its size and SHA-256", e.Name)
		}
	}
	return m.checkOrder()
}

// checkOrder checks that the files are those that an archive has, each once and
// in its place.
func (m *archiveManifest) checkOrder() error {
	var names []string
	for _, e := range m.Files {
		names = append(names, e.Name)
	}
	expected := 0
	for last := int64(0); expected < len(names); expected++ {
		version, ok := rootVersion(names[expected])
		if !ok || last != 0 && version != last+1 {
			break
		}
		last = version
	}
	if expected == 0 {
		return fmt.Errorf("the archive lists no version of root")
	}
	for _, role := range []string{roleTimestamp, roleSnapshot, roleTargets} {
		if expected == len(names) || names[expected] != roleFile(role) {
			return fmt.Errorf("the archive has to list %s after %s", roleFile(role), names[expected-1])
		}
		expected++
	}
	delegations := names[expected:]
	for i, name := range delegations {
		role, ok := strings.CutSuffix(name, archiveSuffix)
		switch {
		case !ok || !isChild(role, roleTargets):
			return fmt.Errorf("the archive lists %.300q, which is no file of trust metadata", name)
		case i > 0 && name <= delegations[i-1]:
			return fmt.Errorf("the archive lists %s out of order", name)
		}
	}
	return nil
}

// archiveNames lists the files of an archive of the repository, in order.
func (r *repository) archiveNames(oldestRoot int64) []string {
	var names, delegations []string
	for version := oldestRoot; version <= r.root.version; version++ {
		names = append(names, rootName(version))
	}
	names = append(names, roleFile(roleTimestamp), roleFile(roleSnapshot), roleFile(roleTargets))
	for _, d := range r.targets.delegations {
		if d.targets != nil {
			delegations = append(delegations, roleFile(d.role))
		}
	}
	slices.Sort(delegations)
	return append(names, delegations...)
}
