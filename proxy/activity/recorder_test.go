package activity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// refused is the refusal of a tag.
func refused(repository, tag string, reason verify.Reason) verify.Decision {
	ref := verify.Ref{Registry: "docker.io", Repository: repository, Tag: tag}
	return verify.Decision{
		At: time.Now(), Image: "docker.io/" + repository, Ref: ref,
		Refusal: &verify.Refusal{Ref: ref, Reason: reason, Detail: "nobody signed it"},
	}
}

func logged(t *testing.T, path string) []line {
	t.Helper()
	var all []line
	for _, raw := range lines(t, path) {
		var l line
		if err := json.Unmarshal(raw, &l); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		all = append(all, l)
	}
	return all
}

func mustClose(t *testing.T, r *Recorder) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// Whatever files are renamed meanwhile, every line of many writers is there once,
// whole, or counted as lost.
func TestConcurrentDecisions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := New(Config{File: path, MaxSize: 20_000, Keep: 100})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 500
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := range each {
				r.Decided(t.Context(), refused("a/b", fmt.Sprintf("t%d-%d", w, i), verify.UnsignedTag))
				if i == each/2 {
					r.Refusals(Filter{Limit: 3})
				}
			}
		})
	}
	wait.Wait()
	mustClose(t, r)
	seen := map[string]int{}
	var dropped uint64
	for _, l := range logged(t, path) {
		if dropped += l.Dropped; l.Dropped == 0 {
			seen[l.Ref]++
		}
	}
	for ref, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", ref, n)
		}
	}
	if dropped != r.Dropped() || len(seen)+int(dropped) != writers*each {
		t.Errorf("%d lines, the log says that %d were lost, Dropped %d; want %d together", len(seen), dropped, r.Dropped(), writers*each)
	}
	if older, err := filepath.Glob(path + ".*"); err != nil || len(older) < 5 {
		t.Errorf("older files %v, error %v", older, err)
	}
}

// A storm of one refusal is two lines; others are not lost in it.
func TestStorm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := New(Config{File: path})
	if err != nil {
		t.Fatal(err)
	}
	r.Decided(t.Context(), refused("a/other", "before", verify.UnsignedTag))
	for range 20_000 {
		r.Decided(t.Context(), refused("a/storm", "x", verify.UnsignedTag))
	}
	r.Decided(t.Context(), refused("a/storm", "x", verify.RolesDisagree))
	mustClose(t, r)
	var got []string
	for _, l := range logged(t, path) {
		got = append(got, fmt.Sprint(l.Ref, " ", l.Reason, " ", l.Repeated))
	}
	want := []string{
		"docker.io/a/other:before unsigned_tag 0", "docker.io/a/storm:x unsigned_tag 0", "docker.io/a/storm:x roles_disagree 0",
		"docker.io/a/storm:x unsigned_tag 19999",
	}
	if !slices.Equal(got, want) || r.Dropped() != 0 {
		t.Errorf("lines %q, want %q; %d dropped", got, want, r.Dropped())
	}
	all := r.Refusals(Filter{})
	if len(all) != 3 || all[1].Repeated != 19999 || all[2].Ref.Tag != "before" {
		t.Errorf("refusals %+v", all)
	}
}

// A window ends: the same refusal is written again.
func TestWindowEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := newRecorder(Config{File: path})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.Decided(t.Context(), refused("a/b", "x", verify.UnsignedTag))
	}
	r.turn()
	r.turn()
	r.Decided(t.Context(), refused("a/b", "x", verify.UnsignedTag))
	go r.run()
	mustClose(t, r)
	var repeated []uint64
	for _, l := range logged(t, path) {
		repeated = append(repeated, l.Repeated)
	}
	if !slices.Equal(repeated, []uint64{2, 0, 0}) { // nobody wrote before the window ended
		t.Errorf("repeated %v", repeated)
	}
	if n := len(r.Refusals(Filter{})); n != 2 {
		t.Errorf("%d refusals are remembered, want one a window", n)
	}
}

// Many different refusals are bounded, too, and none blocks.
func TestFullQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := newRecorder(Config{File: path}) // nobody writes yet
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxWindow + queued {
		r.Decided(t.Context(), refused("a/b", fmt.Sprint(i), verify.UnsignedTag))
	}
	if len(r.current) != maxWindow || len(r.ring) != remembered || r.Dropped() != maxWindow {
		t.Errorf("%d compared, %d remembered, %d dropped", len(r.current), len(r.ring), r.Dropped())
	}
	go r.run()
	mustClose(t, r)
	all := logged(t, path)
	if len(all) != 1+queued || all[0].Verdict != "dropped" || all[0].Dropped != maxWindow {
		t.Errorf("%d lines, the first %+v", len(all), all[0])
	}
	r.Decided(t.Context(), refused("a/b", "late", verify.UnsignedTag)) // as a pull that is cut off does
	if r.Dropped() != maxWindow+1 {
		t.Errorf("%d dropped after Close", r.Dropped())
	}
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var told bytes.Buffer
	now := time.Now()
	r, err := newRecorder(Config{File: path, Log: slog.New(slog.NewJSONHandler(&told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.now = func() time.Time { return now }
	tag := 0
	decide := func() {
		tag++
		r.Decided(t.Context(), refused("a/b", fmt.Sprint(tag), verify.UnsignedTag))
		r.write((<-r.queue).line())
	}
	decide()
	r.file.write = func(o *os.File, line []byte) (int, error) {
		n, err := o.Write(line[:len(line)/2])
		return n, errors.Join(err, syscall.ENOSPC)
	}
	for range 100 {
		decide()
		now = now.Add(time.Second)
	}
	if n := strings.Count(told.String(), "no space left on device"); n != 2 {
		t.Errorf("told %d times in a hundred seconds: %s", n, &told)
	}
	r.file.write = (*os.File).Write
	decide()
	decide()
	all := logged(t, path)
	if len(all) != 4 || all[1].Verdict != "dropped" || all[1].Dropped != 100 || all[2].Ref != "docker.io/a/b:102" || r.Dropped() != 100 {
		t.Errorf("lines %+v, %d dropped", all, r.Dropped())
	}
}

func TestFilter(t *testing.T) {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, r)
	for i := range remembered + 10 {
		d := refused([]string{"a/b", "a/c"}[i%2], fmt.Sprint(i), []verify.Reason{verify.UnsignedTag, verify.RolesDisagree, verify.Superseded}[i%3])
		r.Decided(t.Context(), d)
	}
	for _, test := range []struct {
		filter Filter
		n      int
		first  string // tag
	}{
		{Filter{}, remembered, "10009"},
		{Filter{Limit: 2}, 2, "10009"},
		{Filter{Reason: verify.RolesDisagree}, 3334, "10009"},
		{Filter{Image: "docker.io/a/b"}, 5000, "10008"},
		{Filter{Image: "docker.io/a/b", Reason: verify.UnsignedTag, Limit: 1}, 1, "10008"},
		{Filter{Image: "docker.io/a/c", Reason: verify.UnsignedTag}, 1666, "10005"},
		{Filter{Reason: verify.Annotation}, 0, ""},
	} {
		got := r.Refusals(test.filter)
		if len(got) != test.n || test.n > 0 && got[0].Ref.Tag != test.first {
			t.Errorf("%+v: %d refusals, want %d; the first %+v", test.filter, len(got), test.n, got[:min(1, len(got))])
		}
		if !slices.IsSortedFunc(got, func(a, b Refusal) int { return b.At.Compare(a.At) }) {
			t.Errorf("%+v: not newest first", test.filter)
		}
	}
}

// Nothing that is hostile makes a line long, or two lines of one.
func TestHostileValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r, err := New(Config{File: path})
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Repeat("\x00\n\"<script>\xff\u2028", 10_000)
	d := refused("a/b", "x", verify.NoPolicy)
	d.Refusal.Detail = bad
	r.Decided(t.Context(), d)
	a := verify.Decision{At: time.Now(), Ref: d.Ref, Admission: &storage.Admission{Tag: bad, Kind: storage.KindLayer}}
	r.Decided(t.Context(), a)
	mustClose(t, r)
	for _, raw := range lines(t, path) {
		if len(raw) > 16<<10 {
			t.Errorf("%d bytes: %.200s", len(raw), raw)
		}
	}
	if all := logged(t, path); len(all) != 2 || len(all[0].Sentence) > 4*maxSentence || all[1].Tag == "" {
		t.Errorf("%d lines", len(all))
	}
}

func TestWithoutFile(t *testing.T) {
	var out bytes.Buffer
	r, err := New(Config{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, r)
	d := digest.FromString("a layer")
	for range 2 {
		r.Decided(t.Context(), refused("a/b", "x", verify.UnsignedTag))
	}
	r.Decided(t.Context(), verify.Decision{
		At: time.Now(), Ref: verify.Ref{Registry: "docker.io", Repository: "a/b", Digest: d},
		Admission: &storage.Admission{Digest: d, Kind: storage.KindLayer, Proof: storage.ProofListed},
	})
	for text, n := range map[string]int{
		`msg=decision verdict=refused ref=docker.io/a/b:x reason=unsigned_tag detail="nobody signed it"`: 2,
		"msg=decision verdict=admitted ref=docker.io/a/b@" + d.String() + " kind=layer":                  1,
	} {
		if strings.Count(out.String(), text) != n {
			t.Errorf("not %d times %q in %s", n, text, &out)
		}
	}
	if all := r.Refusals(Filter{}); len(all) != 1 || all[0].Repeated != 1 {
		t.Errorf("refusals %+v", all)
	}
}

func BenchmarkDecided(b *testing.B) {
	for name, tags := range map[string]int{"same": 1, "different": 50_000} {
		b.Run(name, func(b *testing.B) {
			r, err := New(Config{File: filepath.Join(b.TempDir(), "log")})
			if err != nil {
				b.Fatal(err)
			}
			decisions := make([]verify.Decision, tags)
			for i := range decisions {
				decisions[i] = refused("nicolas/webdis", fmt.Sprint(i), verify.UnsignedTag)
			}
			ctx := context.Background()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Decided(ctx, decisions[i%tags])
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkRefusals(b *testing.B) {
	r, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for i := range remembered {
		r.Decided(b.Context(), refused([]string{"nicolas/webdis", "nicolas/other"}[i%2], fmt.Sprint(i), []verify.Reason{verify.UnsignedTag, verify.Superseded}[i%100/99]))
	}
	for name, filter := range map[string]Filter{
		"all": {}, "first50": {Limit: 50}, "rare": {Reason: verify.Superseded, Image: "docker.io/nicolas/other"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Refusals(filter)
			}
		})
	}
}

func BenchmarkPull(b *testing.B) {
	r, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		p := &proxy.Pull{}
		for pb.Next() {
			r.Begin(p)
			r.End(p)
		}
	})
}

func TestPulls(t *testing.T) {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, r)
	now := time.Now()
	newer := &proxy.Pull{Asked: proxy.Asked{At: now, Kind: "blob", Client: "192.0.2.1"}}
	older := &proxy.Pull{Asked: proxy.Asked{At: now.Add(-time.Hour), Kind: "manifest"}}
	r.Begin(newer)
	r.Begin(older)
	if pulls := r.Pulls(); len(pulls) != 2 || !pulls[0].Began.Equal(older.At) || pulls[1].Client != "192.0.2.1" || pulls[1].Kind != "blob" {
		t.Errorf("pulls %+v", pulls)
	}
	r.End(older)
	r.End(newer)
	if pulls := r.Pulls(); len(pulls) != 0 {
		t.Errorf("pulls %+v are left", pulls)
	}
}
