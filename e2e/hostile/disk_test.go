package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// disk is a small file system on which a mirror's storage is.
type disk struct {
	t    *testing.T
	path string
}

// newDisk mounts the disk before the mirror is started.
func newDisk(t *testing.T, m *mirror, options string) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a disk that is full or read-only, since mounting one needs root: sudo make e2e")
	}
	d := &disk{t: t, path: m.data("")}
	check(t, os.Mkdir(d.path, 0o755))
	if err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, options); err != nil {
		t.Skipf("SKIPPED: a disk that is full or read-only, since none can be mounted here: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(d.path, syscall.MNT_DETACH)) })
	return d
}

func (d *disk) remount(flags uintptr) {
	d.t.Helper()
	check(d.t, syscall.Mount("tmpfs", d.path, "tmpfs", syscall.MS_REMOUNT|flags, ""))
}

// fillBytes leaves nothing but so many bytes free. free gives them back.
func (d *disk) fillBytes(left int64) (free func()) {
	d.t.Helper()
	name := filepath.Join(d.path, "filler")
	file, err := os.Create(name)
	check(d.t, err)
	for err == nil {
		_, err = file.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
	info, err := file.Stat()
	check(d.t, err)
	check(d.t, file.Truncate(info.Size()-left))
	check(d.t, file.Close())
	return func() { check(d.t, os.Remove(name)) }
}

// fillNames leaves no room for another file.
func (d *disk) fillNames() (free func()) {
	d.t.Helper()
	folder := filepath.Join(d.path, "fillers")
	err := os.Mkdir(folder, 0o755)
	for i := 0; err == nil; i++ {
		err = os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), nil, 0o600)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
	return func() { check(d.t, os.RemoveAll(folder)) }
}

// noStorage asserts that something can't be had because storage fails, and how.
func (m *mirror) noStorage(t *testing.T, name, tag string, want lab.Release, why string) {
	t.Helper()
	err := m.pull(t.Context(), name, tag, want)
	var refused *refusal
	if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable || refused.reason != "storage_unavailable" ||
		refused.retryAfter == "" || !strings.Contains(refused.message, why) {
		t.Errorf("%s:%s: %v, which should be 503, storage_unavailable, %q", name, tag, err, why)
	}
}

// nothingPartial asserts that all that is stored is right, and that no write was
// left unfinished.
func (m *mirror) nothingPartial(t *testing.T) {
	t.Helper()
	if _, corrupt := scan(t, m); len(corrupt) > 0 {
		t.Errorf("stored, but hashing to something else: %v", corrupt)
	}
	if left := staged(t, m); len(left) > 0 {
		t.Errorf("writes were left unfinished: %q", left)
	}
}

// saysReady waits until /readyz answers with a status, and a text that has a part.
func (m *mirror) saysReady(t *testing.T, status int, part string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("/readyz to say %d, %q", status, part), func() bool {
		response, err := m.client.Get(m.AdminURL + "/readyz")
		check(t, err)
		defer response.Body.Close()
		var body bytes.Buffer
		_, err = body.ReadFrom(response.Body)
		check(t, err)
		return response.StatusCode == status && strings.Contains(body.String(), part)
	})
}

// stock is a site with a release that is stored already, and two that aren't.
type stock struct {
	*site
	small, big lab.Published
}

func newStock(t *testing.T, name string) *stock {
	t.Helper()
	big := large(t, 4)
	s := &stock{site: newSite(t, name), small: release(t, "small "+name), big: lab.Published{Hub: big, ECR: big}}
	s.push(t, "small", s.small)
	s.push(t, "big", s.big)
	s.publish(t)
	return s
}

// served asserts that a release is served by both names.
func (s *stock) served(t *testing.T, m *mirror, tag string, want lab.Published) {
	t.Helper()
	check(t, m.pull(t.Context(), s.signed(), tag, want.Hub))
	check(t, m.pull(t.Context(), s.copied(), tag, want.ECR))
}

// either pulls a release, which either is served or has to wait for room: nothing else
// may happen.
func (m *mirror) either(t *testing.T, name, tag string, want lab.Release) {
	t.Helper()
	err := m.pull(t.Context(), name, tag, want)
	var refused *refusal
	if err != nil && (!errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable || refused.reason != "storage_unavailable") {
		t.Errorf("%s:%s: %v, which should be 503, storage_unavailable, if anything", name, tag, err)
	}
}

// TestAttack33_OldMakesRoom pulls more than the disk has room for: all is served, old
// content goes, and what is pulled again is fetched again.
func TestAttack33_OldMakesRoom(t *testing.T) {
	s := newStock(t, "old")
	var releases []lab.Published
	for i := range 6 {
		r := release(t, fmt.Sprintf("old %d", i))
		big := large(t, 2+i%2) // two kinds of 2 and 3 MiB
		s.push(t, fmt.Sprintf("r%d", i), r)
		if i < 2 {
			s.push(t, fmt.Sprintf("b%d", i), lab.Published{Hub: big, ECR: big})
		}
		releases = append(releases, r)
	}
	s.publish(t)
	m := newMirror(t, newLab(t), s.site)
	newDisk(t, m, "size=6m")
	check(t, m.Start(t.Context()))
	for round := range 3 {
		for i, r := range releases {
			s.served(t, m, fmt.Sprintf("r%d", i), r)
			big := large(t, 2+i%2)
			s.served(t, m, fmt.Sprintf("b%d", i%2), lab.Published{Hub: big, ECR: big})
		}
		s.served(t, m, "big", s.big)
		m.nothingPartial(t)
		if round == 1 { // what was used when survives it
			m.Process.Stop()
			check(t, m.Start(t.Context()))
		}
	}
	m.saysReady(t, http.StatusOK, "")
	if log := m.log(t, 0); !strings.Contains(log, "the disk is full; what was used least recently was evicted") {
		t.Error("the log doesn't say that the disk is full")
	}
	m.bounded(t)
}

// TestAttack33_DiskFull fills the disk with others' files: with bytes, with names, and
// so that a layer fits in half. What can't be stored is refused for a while and never
// stored in part; once there is room everything is served, without a restart.
func TestAttack33_DiskFull(t *testing.T) {
	for name, fill := range map[string]func(d *disk) (free func()){
		"no bytes":       func(d *disk) func() { return d.fillBytes(0) },
		"no names":       func(d *disk) func() { return d.fillNames() },
		"half a layer's": func(d *disk) func() { return d.fillBytes(2 << 20) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStock(t, "full")
			m := newMirror(t, newLab(t), s.site)
			d := newDisk(t, m, "size=8m,nr_inodes=600")
			check(t, m.Start(t.Context()))
			s.served(t, m, tag, s.release)
			before := m.footprint(t)

			free := fill(d)
			for range 20 {
				m.noStorage(t, s.signed(), "big", s.big.Hub, "no space left on device")
				m.noStorage(t, s.copied(), "big", s.big.ECR, "no space left on device")
			}
			// What takes as little room may find some where content was evicted.
			for range 5 {
				m.either(t, s.signed(), "small", s.small.Hub)
				m.either(t, s.copied(), "small", s.small.ECR)
				m.either(t, s.signed(), tag, s.release.Hub)
				m.either(t, s.copied(), tag, s.release.ECR)
			}
			if strings.HasPrefix(name, "half") { // nothing had to go
				s.served(t, m, tag, s.release)
			}
			m.nothingPartial(t)

			free()
			s.served(t, m, "small", s.small)
			s.served(t, m, "big", s.big)
			m.saysReady(t, http.StatusOK, "")
			m.nothingPartial(t)
			m.settles(t, before)
			m.bounded(t)
		})
	}
}

// TestAttack33_ReadOnly makes the disk read-only while the mirror runs.
func TestAttack33_ReadOnly(t *testing.T) {
	s := newStock(t, "readonly")
	m := newMirror(t, newLab(t), s.site)
	d := newDisk(t, m, "size=8m")
	check(t, m.Start(t.Context()))
	s.served(t, m, tag, s.release)
	before := m.footprint(t)

	d.remount(syscall.MS_RDONLY)
	for range 20 {
		s.served(t, m, tag, s.release)
		m.noStorage(t, s.signed(), "small", s.small.Hub, "read-only file system")
		m.noStorage(t, s.copied(), "small", s.small.ECR, "read-only file system")
	}
	m.saysReady(t, http.StatusServiceUnavailable, "storage can't be written: ")

	d.remount(0)
	s.served(t, m, "small", s.small)
	s.served(t, m, "big", s.big)
	m.saysReady(t, http.StatusOK, "")
	m.nothingPartial(t)
	m.settles(t, before)
}
