package hostile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// rounds is how often the process is killed; TRUSTMIRROR_KILL_ROUNDS says
// otherwise.
const rounds = 20

// data is a folder in the mirror's storage.
func (m *mirror) data(folder string) string {
	return filepath.Join(filepath.Dir(m.ConfigFile), "data", folder)
}

// scan lists the content that the mirror has, by name, and what of it doesn't
// hash to its name.
func scan(t *testing.T, m *mirror) (found map[digest.Digest]string, corrupt []digest.Digest) {
	t.Helper()
	found = map[digest.Digest]string{}
	root := m.data("content")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == root {
			return nil // nothing yet
		}
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := digest.NewDigestFromEncoded(digest.SHA256, entry.Name())
		found[name] = path
		if digest.FromBytes(content) != name {
			corrupt = append(corrupt, name)
		}
		return nil
	})
	check(t, err)
	return found, corrupt
}

// staged lists the files of writes that didn't end.
func staged(t *testing.T, m *mirror) []string {
	t.Helper()
	entries, err := os.ReadDir(m.data("staging"))
	if !errors.Is(err, fs.ErrNotExist) {
		check(t, err)
	}
	var paths []string
	for _, entry := range entries {
		paths = append(paths, filepath.Join(m.data("staging"), entry.Name()))
	}
	return paths
}

// killing is what the rounds have in common.
type killing struct {
	t        *testing.T
	site     *site
	mirror   *mirror
	tags     []string
	releases map[string]lab.Published

	requests, refetched, corrupt, damaged int

	longest time.Duration // that a cold pull of both names took
}

// TestAttack32_KilledAnytime kills the process with SIGKILL at random moments of
// cold pulls under load. After each restart all that is stored hashes right, all
// can be pulled, and nothing that was stored is fetched again, unless it is
// damaged, which is found.
func TestAttack32_KilledAnytime(t *testing.T) {
	n := rounds
	if s := os.Getenv("TRUSTMIRROR_KILL_ROUNDS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		check(t, err)
	}
	s := newSite(t, "killed")
	k := &killing{t: t, site: s, mirror: newMirror(t, newLab(t), s), releases: map[string]lab.Published{tag: s.release}, tags: []string{tag}, longest: 200 * time.Millisecond}
	for i := range n {
		k.round(i)
	}
	k.sweeps()
	t.Logf("rounds %d, requests %d, refetches %d, corruptions %d, damaged files found and fetched again %d",
		n, k.requests, k.refetched, k.corrupt, k.damaged)
}

// round publishes a release, kills the process while it is pulled, and looks at
// what is left.
func (k *killing) round(i int) {
	t, m := k.t, k.mirror
	t.Helper()
	name := fmt.Sprint("r", i)
	k.releases[name] = release(t, name)
	k.tags = append(k.tags, name)
	k.site.push(t, name, k.releases[name])
	k.site.publish(t)

	check(t, m.Start(t.Context()))
	k.killAmid(name)
	k.countRequests(nil)
	committed := k.stored()

	check(t, m.Start(t.Context()))
	before := time.Now()
	k.pullBoth(name)
	k.longest = max(k.longest, time.Since(before))
	k.countRequests(committed)
	k.damage()
	check(t, m.Process.Kill())
	m.client.CloseIdleConnections()
}

// stored lists the content that the mirror has. All of it has to be right.
func (k *killing) stored() map[digest.Digest]string {
	k.t.Helper()
	found, corrupt := scan(k.t, k.mirror)
	k.corrupt += len(corrupt)
	if len(corrupt) > 0 {
		k.t.Errorf("stored, but hashing to something else: %v", corrupt)
	}
	return found
}

// killAmid pulls a new release and an old one, by both names and several times at
// once, and kills the process at some moment of that.
func (k *killing) killAmid(name string) {
	ctx, cancel := context.WithCancel(k.t.Context())
	defer cancel()
	var clients sync.WaitGroup
	old := k.tags[rand.IntN(len(k.tags))]
	for _, pulled := range []string{name, name, old} {
		for repository, want := range k.names(pulled) {
			clients.Go(func() {
				for ctx.Err() == nil {
					if err := k.mirror.pull(ctx, repository, pulled, want); errors.Is(err, errOtherBytes) {
						k.t.Error(err)
					}
				}
			})
		}
	}
	time.Sleep(rand.N(k.longest)) // the moment is the point
	if err := k.mirror.Process.Kill(); err != nil {
		k.t.Error(err)
	}
	cancel()
	clients.Wait()
	k.mirror.client.CloseIdleConnections()
}

// names are both names of a release.
func (k *killing) names(tag string) map[string]lab.Release {
	return map[string]lab.Release{k.site.signed(): k.releases[tag].Hub, k.site.copied(): k.releases[tag].ECR}
}

func (k *killing) pullBoth(tag string) {
	k.t.Helper()
	for repository, want := range k.names(tag) {
		check(k.t, k.mirror.pull(k.t.Context(), repository, tag, want))
	}
}

// countRequests counts what the registries were asked for, and what of that was
// stored already. A tag of the copy may be asked for again.
func (k *killing) countRequests(committed map[digest.Digest]string) (asked []digest.Digest) {
	k.t.Helper()
	for _, registry := range []*server{k.site.hub, k.site.copy} {
		for path, n := range registry.counts() {
			k.requests += n
			d, err := digest.Parse(path[strings.LastIndex(path, "/")+1:])
			if err != nil {
				continue
			}
			asked = append(asked, d)
			if _, ok := committed[d]; ok {
				k.refetched++
				k.t.Errorf("%s was fetched again", path)
			}
		}
	}
	return asked
}

// damage spoils a stored file of a release, and pulls the release: it is found, and
// fetched again; a document when it isn't in memory any more. A flipped bit in a layer is left to
// whoever pulls it: layers aren't hashed each time they are read.
func (k *killing) damage() {
	t := k.t
	t.Helper()
	name := k.tags[rand.IntN(len(k.tags))]
	k.pullBoth(name)
	k.countRequests(nil)
	content := k.stored()
	names := k.names(name)
	repository := slices.Sorted(maps.Keys(names))[rand.IntN(2)]
	victim, isLayer := anyObject(names[repository])
	file := content[victim.Digest()]
	raw, err := os.ReadFile(file)
	check(t, err)
	kind := rand.IntN(3)
	switch {
	case kind == 0 && !isLayer:
		raw[rand.IntN(len(raw))] ^= 1 << rand.IntN(8)
	case kind == 1:
		raw = append(raw, 0)
	default:
		raw = raw[:rand.IntN(len(raw))]
	}
	check(t, os.WriteFile(file, raw, 0o640))
	if !isLayer {
		k.mirror.forgets(t)
	}
	check(t, k.mirror.pull(t.Context(), repository, name, names[repository]))
	if asked := k.countRequests(nil); !slices.Contains(asked, victim.Digest()) || len(asked) > 2 { // of both registries, at most
		t.Errorf("after %s was damaged, %v were fetched", victim.Digest(), asked)
	}
	k.stored()
	k.damaged++
}

// anyObject picks a document, a config or a layer of a release.
func anyObject(r lab.Release) (object lab.Blob, isLayer bool) {
	image := r.Images[rand.IntN(len(r.Images))]
	all := append([]lab.Blob{r.Top(), image.Manifest, image.Config}, image.Layers...)
	i := rand.IntN(len(all))
	return all[i], i > 2
}

// sweeps asserts that what the killed processes left in staging goes, once it is
// old enough to be nobody's.
func (k *killing) sweeps() {
	t := k.t
	t.Helper()
	left := staged(t, k.mirror)
	t.Logf("%d unfinished files were left behind by those killed", len(left))
	old := time.Now().Add(-2 * time.Hour)
	for _, path := range left {
		check(t, os.Chtimes(path, old, old))
	}
	check(t, k.mirror.Start(t.Context()))
	if left := staged(t, k.mirror); len(left) > 0 {
		t.Errorf("unfinished files are still there: %q", left)
	}
	k.pullBoth(tag)
	before := k.mirror.footprint(t)
	for _, tag := range k.tags {
		k.pullBoth(tag)
	}
	k.countRequests(k.stored())
	k.mirror.settles(t, before)
}
