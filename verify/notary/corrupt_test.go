package notary_test

import (
	"context"
	"hash/crc32"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// The two who look at a corruption.
const (
	fresh  = "fresh"  // has never seen the repository
	stored = "stored" // has accepted an earlier publication, or, for older files, the good one
)

// yields says what may come out of a corruption that is accepted.
type yields int

const (
	good      yields = iota // exactly what is signed
	fewer                   // nothing but what is signed, though not all of it
	statement               // what the holder of the role's own keys says instead, in good form
)

// exception lets corruptions be accepted. Role, where and what are regular
// expressions that have to match in full.
type exception struct {
	role, where, what string
	how               notarytest.How // empty: any
	who               string         // empty: both
	yields            yields
	why               string

	used *atomic.Bool
}

func (e *exception) covers(c notarytest.Corruption, who string) bool {
	full := func(pattern, s string) bool { return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(s) }
	return full(e.role, c.Role) && full(e.where, c.Where) && full(e.what, c.What) &&
		(e.how == "" || e.how == c.How) && (e.who == "" || e.who == who)
}

// exceptions is the whole list of corruptions that are no harm.
func exceptions() []exception {
	const delegation = "targets/(alice|releases)"
	return []exception{
		{role: ".*", what: "followed by white space", how: notarytest.Vouched,
			why: "white space around a document says nothing"},
		{role: "timestamp", what: "followed by white space", how: notarytest.Bare,
			why: "as above: nothing vouches for a timestamp"},
		{role: ".*", where: `signatures\.\d`, what: "listed twice",
			why: "a signature counts once, however often it is listed"},
		{role: "root|targets", where: `signed\.(roles\.\w+|delegations\.roles\.\d)\.keyids\.\d`, what: "listed twice", how: notarytest.Signed,
			why: "a key counts once, however often it is listed"},
		{role: "root|targets", where: `signed\.(delegations\.)?keys\.\*\.keyval\.private`, what: "removed", how: notarytest.Signed,
			why: "nothing says the same as null"},
		{role: "root", where: `signed\.consistent_snapshot`, what: "removed|became true", how: notarytest.Signed,
			why: "files are asked for by hash in any case"},
		{role: "snapshot|timestamp", where: `signed\.meta\..*\.hashes\.sha512`, what: "removed|renamed to another case", how: notarytest.Signed,
			why: "the SHA-256 is there, and is checked"},
		{role: "snapshot|targets.*", what: "older", how: notarytest.Bare, who: stored,
			why: "the file that is vouched for is held already, and isn't asked for"},
		{role: ".*", what: "older", how: notarytest.Vouched, who: fresh,
			why: "it was right once, and who sees the repository for the first time can't know that there is something newer"},
		{role: "timestamp", what: "older", how: notarytest.Bare, who: fresh,
			why: "as above: nothing vouches for a timestamp"},
		{role: delegation, what: "that of " + delegation, how: notarytest.Vouched,
			why: "both are signed by the same key, and no file says which delegation it is of"},
		{role: "snapshot", where: "signed.meta." + delegation, what: "removed", how: notarytest.Signed, who: fresh, yields: fewer,
			why: "the service can hide what it has, from who hasn't seen it; nobody is led to something that isn't signed"},
		{role: delegation, where: `signed\.delegations(\.keys|\.roles)?`, what: "removed|became (null|{})", how: notarytest.Signed,
			why: "a delegation's own delegations never vouch"},

		{role: ".*", where: `signed\.expires`, what: `became "3.*"`, how: notarytest.Signed, yields: statement,
			why: "another date"},
		{role: "timestamp|snapshot|targets.*", where: `signed\.version`, what: "became 20", how: notarytest.Signed, yields: statement,
			why: "a later version"},
		{role: "root", where: `signed\.version`, what: "became 20", how: notarytest.Signed, who: fresh, yields: statement,
			why: "a later version; who knows an earlier one wants to see those between"},
		{role: "targets.*", where: `signed\.targets(\.0\.[12](\.19)?)?`, what: `removed|became (null|{})`, how: notarytest.Signed, yields: fewer,
			why: "fewer tags, or none"},
		{role: "targets", where: `signed\.delegations(\.roles(\.\d)?)?`, what: `removed|became (null|{}|\[\])`, how: notarytest.Signed, yields: fewer,
			why: "fewer delegations, or none"},
		{role: "targets", where: `signed\.delegations\.roles\.\d\.paths(\.0)?`, what: `removed|became (null|\[\]|"x")|listed twice`, how: notarytest.Signed, yields: fewer,
			why: "fewer tags that a delegation may sign, or none"},
		{role: "targets.*", where: `signed\.targets\..*\.hashes\.sha256`, what: `became ".{44}"`, how: notarytest.Signed, yields: statement,
			why: "another digest"},
		{role: "targets.*", where: `signed\.targets\..*\.length`, what: `removed|became \d+`, how: notarytest.Signed, yields: statement,
			why: "another size; without one, the digest alone has to do"},
	}
}

func TestCorruptionsAreRefused(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // much is made, and little kept
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Targets.Keys = append(r.Targets.Keys, notarytest.NewKey(t, "ed25519"))
		r.Targets.Threshold = 2
		alice := r.Delegate("alice", notarytest.NewKey(t, "ed25519"))
		alice.Sign("0.2", digestB, 1)
		alice.Expires = alice.Expires.AddDate(0, 0, 1)
		r.Delegate("releases", alice.Keys...).Sign("0.2", digestB, 1)
	})
	publish := func() (notarytest.Files, *notarytest.Store) {
		refresh(t, w.source())
		return w.service.Files(gun), w.store.Clone()
	}
	older, storeOfOlder := publish()
	w.Publish(append(allRoles, "targets/releases")...)
	files, storeOfGood := publish()
	w.Publish(append(allRoles, "targets/releases")...)
	newer, _ := publish()
	stranger := newWorld(t, withAlice, func(r *notarytest.Repository) { r.Delegate("releases").Sign("0.2", digestB, 1) })

	j := &jury{tb: t, pins: w.pins, older: storeOfOlder, good: storeOfGood, exceptions: exceptions()}
	for i := range j.exceptions {
		j.exceptions[i].used = new(atomic.Bool)
	}
	j.targets = j.read(files)
	all := w.Corrupt(notarytest.Material{Good: files, Older: older, Newer: newer, Stranger: stranger.service.Files(gun)})
	t.Run("all", func(t *testing.T) {
		const parts = 8
		for part := range parts {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				seats := j.sit(t)
				for i := part; i < len(all); i += parts {
					if c := all[i]; c.Where != "" && c.Where != "signatures" && c.Where != "signed.version" && c.What != "removed" { // most of them, and much alike
						seats[crc32.ChecksumIEEE([]byte(c.String()))%2].judge(t, c)
						continue
					}
					for _, s := range seats {
						s.judge(t, all[i])
					}
				}
			})
		}
	})
	t.Logf("%d corruptions", len(all))
	if len(all) < 2000 {
		t.Errorf("only %d corruptions were made", len(all))
	}
	for _, e := range j.exceptions {
		if !e.used.Load() {
			t.Errorf("nothing is excepted any more by %q, %q, %q (%s)", e.role, e.where, e.what, e.why)
		}
	}
}

// jury judges corruptions. It is immutable.
type jury struct {
	tb          testing.TB
	pins        notary.Pins
	older, good *notarytest.Store
	targets     []verify.Target
	exceptions  []exception
}

// seat is one Source, which looks at one corruption after the other: what is
// refused leaves no trace.
type seat struct {
	*jury
	who     string
	start   *notarytest.Store // what it begins with; nil: nothing
	older   bool              // it judges older files only, or all others
	store   *notarytest.Store
	service *notarytest.Service
	source  *notary.Source
}

// sit seats those who judge each corruption.
func (j *jury) sit(t *testing.T) []*seat {
	t.Helper()
	seats := []*seat{{who: fresh}, {who: stored, start: j.older}, {who: stored, start: j.good, older: true}}
	for _, s := range seats {
		s.jury = j
		s.begin(t)
	}
	return seats
}

// begin forgets everything but what the seat begins with.
func (s *seat) begin(t testing.TB) {
	t.Helper()
	s.store, s.service = notarytest.NewStore(), notarytest.NewService()
	if s.start != nil {
		s.store = s.start.Clone()
	}
	var err error
	s.source, err = notary.New(notary.Config{GUN: gun, Pins: s.pins, Fetcher: s.service, Store: s.store, Clock: new(notarytest.Clock).Now})
	if err != nil {
		t.Fatal(err)
	}
}

// read returns what a Source says is signed.
func (j *jury) read(files notarytest.Files) []verify.Target {
	j.tb.Helper()
	s := &seat{jury: j}
	s.begin(j.tb)
	s.service.Serve(gun, files)
	set, err := s.source.Targets(context.Background())
	if err != nil {
		j.tb.Fatal(err)
	}
	return set.All()
}

// judge asserts that a corruption is refused, and leaves what was good before as
// it was, unless it is excepted.
func (s *seat) judge(t *testing.T, c notarytest.Corruption) {
	t.Helper()
	if s.start != nil && s.older != (c.What == "older") {
		return
	}
	s.service.Serve(gun, c.Files(t))
	before := strings.Join(s.store.Names(gun), " ")
	err := s.source.Refresh(context.Background())
	set, setErr := s.source.Targets(context.Background())
	if err == nil {
		s.accepted(t, c, s.who, set, setErr)
		s.begin(t)
		return
	}
	if reason := verify.ReasonOf(err); reason == "" || reason == verify.StorageUnavailable {
		t.Errorf("%s, to a %s source: refused without a reason: %v", c, s.who, err)
	}
	if after := strings.Join(s.store.Names(gun), " "); after != before {
		t.Errorf("%s, to a %s source: it was refused, and something of it stored", c, s.who)
	}
	switch {
	case s.who == fresh && setErr == nil:
		t.Errorf("%s: a refresh refused it, and a question didn't", c)
	case s.who == stored && (setErr != nil || !slices.EqualFunc(set.All(), s.targets, alike)):
		t.Errorf("%s: after it was refused, what was known is no longer answered: %v", c, setErr)
	}
}

// accepted asserts that a corruption may be accepted, and what comes of it.
func (j *jury) accepted(t *testing.T, c notarytest.Corruption, who string, set *verify.TargetSet, err error) {
	t.Helper()
	i := slices.IndexFunc(j.exceptions, func(e exception) bool { return e.covers(c, who) })
	if i < 0 {
		t.Errorf("%s, to a %s source: accepted", c, who)
		return
	}
	j.exceptions[i].used.Store(true)
	if err != nil {
		t.Errorf("%s, to a %s source: accepted, but questions are answered with %v", c, who, err)
		return
	}
	switch j.exceptions[i].yields {
	case good:
		if !slices.EqualFunc(set.All(), j.targets, alike) {
			t.Errorf("%s, to a %s source: %v came of it", c, who, set.All())
		}
	case fewer:
		for _, target := range set.All() {
			signed := func(known verify.Target) bool { return known.Tag == target.Tag && known.Digest == target.Digest }
			if !slices.ContainsFunc(j.targets, signed) {
				t.Errorf("%s, to a %s source: %v came of it", c, who, target)
			}
		}
	case statement:
		if c.How != notarytest.Signed {
			t.Errorf("%s isn't signed, and states nothing", c)
		}
	}
}

func alike(a, b verify.Target) bool {
	return a.Tag == b.Tag && a.Digest == b.Digest && a.Size == b.Size && slices.Equal(a.Signers, b.Signers)
}
