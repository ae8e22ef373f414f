package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
)

// roomy is a store on a small disk that evicts when it's full.
type roomy struct {
	t *testing.T
	*storage.Store
	disk  *storagetest.Small
	plan  storage.Eviction
	clock time.Time

	mu   sync.Mutex // guards told
	told []storage.Evicted
}

// newRoomy makes a disk with room for so many bytes, which tells how many it has
// left, or doesn't.
func newRoomy(t *testing.T, bytes int64, tells bool) *roomy {
	r := &roomy{t: t, clock: time.Now(), disk: storagetest.NewSmall(newDriver(t, "inmemory", nil), bytes)}
	r.plan = storage.Eviction{Clock: func() time.Time { return r.clock }, Told: func(e storage.Evicted) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, e)
	}}
	if tells {
		r.plan.Free = r.disk.Free
	}
	r.Store = storage.New(r.disk)
	r.EvictBy(r.plan)
	return r
}

func (r *roomy) put(name string, size int) (digest.Digest, error) {
	r.clock = r.clock.Add(time.Second)
	c := strings.Repeat(name, size)[:size]
	d := digest.FromString(c)
	return d, r.Put(r.t.Context(), d, int64(size), strings.NewReader(c))
}

func (r *roomy) mustPut(name string, size int) digest.Digest {
	r.t.Helper()
	d, err := r.put(name, size)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// has asserts what is stored.
func (r *roomy) has(want ...digest.Digest) {
	r.t.Helper()
	stock, err := r.Stock(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range want {
		if _, ok := stock.Objects[d]; !ok {
			r.t.Errorf("%s isn't stored", d)
		}
	}
	if len(stock.Objects) != len(want) || stock.Unfinished.Files > 0 {
		r.t.Errorf("%d objects are stored, want %d; %d unfinished writes", len(stock.Objects), len(want), stock.Unfinished.Files)
	}
}

// TestAttack33_RoomIsMade fills the disk with old content: what was used least
// recently makes room for what comes, but for what is being read.
func TestAttack33_RoomIsMade(t *testing.T) {
	for _, tells := range []bool{true, false} {
		t.Run(fmt.Sprintf("tells=%t", tells), func(t *testing.T) {
			r := newRoomy(t, 100_000, tells)
			first, second := r.mustPut("first ", 40_000), r.mustPut("second ", 30_000)
			open, err := r.OpenContent(t.Context(), first)
			if err != nil {
				t.Fatal(err)
			}
			third := r.mustPut("third ", 60_000) // instead of the second
			r.has(first, third)
			if raw, err := io.ReadAll(open); err != nil || digest.FromBytes(raw) != first {
				t.Errorf("what is being read: %d bytes, %v", len(raw), err)
			}
			if err := open.Close(); err != nil {
				t.Fatal(err)
			}
			if len(r.told) == 0 || !r.told[0].DiskFull || r.told[0].Objects != 1 || r.told[0].Bytes != 30_000 {
				t.Errorf("told %+v", r.told)
			}

			// Records of a pull find room, too.
			r.disk.Take(1 << 40)
			a := storage.Admission{Repository: "r", Digest: second, Kind: storage.KindLayer, Signed: second, Proof: storage.ProofListed}
			if err := errors.Join(r.Admit(t.Context(), a), r.Trust().Put(t.Context(), "gun", "root", []byte("root"))); err != nil {
				t.Error(err)
			}
			if got, err := r.Admissions(t.Context(), "r", second); err != nil || len(got) != 1 {
				t.Errorf("admissions %v, %v", got, err)
			}
		})
	}
}

// TestAttack33_NoRoom asks for more than can be had: nothing is evicted in vain where
// that is known, and nothing is left in part.
func TestAttack33_NoRoom(t *testing.T) {
	r := newRoomy(t, 100_000, true)
	first, second := r.mustPut("first ", 20_000), r.mustPut("second ", 20_000)
	r.disk.Take(50_000) // by somebody else
	if _, err := r.put("large ", 60_000); !errors.Is(err, syscall.ENOSPC) || !storage.IsFull(err) {
		t.Errorf("error %v", err)
	}
	r.has(first, second)

	// It is known, but all is being read.
	for _, d := range []digest.Digest{first, second} {
		c, err := r.OpenContent(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := r.put("other ", 30_000); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	r.has(first, second)
	if len(r.told) > 0 {
		t.Errorf("told %+v", r.told)
	}
	r.disk.Take(-50_000)
	r.has(first, second, r.mustPut("other ", 30_000))
}

// TestAttack33_RoomForMany stores more at once than the disk has room for: what is
// stored is right, and nothing waits for ever.
func TestAttack33_RoomForMany(t *testing.T) {
	r := newRoomy(t, 100_000, true)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			c := strings.Repeat(fmt.Sprintf("%08d", i), 3000)
			d := digest.FromString(c)
			if err := r.Put(t.Context(), d, int64(len(c)), strings.NewReader(c)); err != nil && !storage.IsFull(err) {
				t.Error(err)
			}
			raw, err := r.ReadDocument(t.Context(), d, 1<<20)
			if err == nil && string(raw) != c || err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%d bytes, %v", len(raw), err)
			}
		})
	}
	wg.Wait()
	if free, err := r.disk.Free(); free < 0 || err != nil {
		t.Errorf("%d bytes are left, %v", free, err)
	}
	r.mustPut("last ", 90_000)
	stock, err := r.Stock(t.Context())
	if err != nil || stock.Unfinished.Files > 0 {
		t.Errorf("unfinished writes: %+v, %v", stock.Unfinished, err)
	}
}

// TestEvictionFaults fails operations while an object is stored and others have to
// go, before and after they took effect, once and for good: nothing is left in part,
// and after a restart all is well.
func TestEvictionFaults(t *testing.T) {
	operations := 1
	for at := 1; at <= operations; at++ {
		full := storagedriver.Error{DriverName: "faulty", Detail: fmt.Errorf("write: %w", syscall.ENOSPC)}
		for _, fault := range []storagetest.Fault{{At: at, After: true}, {At: at, Stay: true}, {At: at, Err: full}} {
			driver := newDriver(t, "inmemory", nil)
			for i := range 4 {
				if _, err := putNumber(t, storage.New(driver), i); err != nil {
					t.Fatal(err)
				}
			}
			evictBelow(t, driver, 4000) // writes down what there is
			faulty := storagetest.NewFaulty(driver)
			faulty.Set(fault)
			told, err := evictBelow(t, faulty, 2500)
			if at == 1 {
				operations = max(operations, faulty.Operations())
			}
			for _, e := range told {
				err = errors.Join(err, e.Err)
			}
			if err != nil && !errors.Is(err, storagetest.ErrInjected) && !storage.IsFull(err) {
				t.Errorf("%+v: %v", fault, err)
			}

			told, err = evictBelow(t, driver, 2500)
			stock, stockErr := storage.New(driver).Stock(t.Context())
			if err := errors.Join(err, stockErr); err != nil {
				t.Fatal(err)
			}
			raw, err := storage.New(driver).ReadDocument(t.Context(), numbered(4), 1000)
			if err != nil || len(raw) != 1000 || len(stock.Objects) > 2 {
				t.Errorf("%+v: at last there are %d objects, and what was stored last has %d bytes, %v; told %+v", fault, len(stock.Objects), len(raw), err, told)
			}
		}
	}
	if operations < 12 {
		t.Errorf("only %d operations", operations)
	}
}

func number(i int) string { return strings.Repeat(fmt.Sprintf("%08d", i), 125) }

func numbered(i int) digest.Digest { return digest.FromString(number(i)) }

func putNumber(t *testing.T, s *storage.Store, i int) (digest.Digest, error) {
	return numbered(i), s.Put(t.Context(), numbered(i), 1000, strings.NewReader(number(i)))
}

// evictBelow stores an object an hour from when the others were, and evicts.
func evictBelow(t *testing.T, driver storagedriver.StorageDriver, limit int64) (told []storage.Evicted, _ error) {
	t.Helper()
	s := storage.New(driver)
	s.EvictBy(storage.Eviction{
		MaxSize: limit, Told: func(e storage.Evicted) { told = append(told, e) },
		Clock: func() time.Time { return time.Now().Add(time.Duration(5000-limit) * time.Second) },
	})
	var err error
	if limit < 4000 {
		_, err = putNumber(t, s, 4)
	}
	s.EvictOnce(t.Context())
	return told, err
}

// TestEvictAlways evicts in the background as soon as there is too much, takes up
// where it was after a restart, and ends when it's told to.
func TestEvictAlways(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	driver := newDriver(t, "filesystem", map[string]any{"rootdirectory": t.TempDir()})
	for round := range 2 {
		told := make(chan storage.Evicted, 10)
		now := time.Now().Add(time.Duration(round) * time.Hour)
		var clock atomic.Pointer[time.Time]
		clock.Store(&now)
		s := storage.New(driver)
		s.EvictBy(storage.Eviction{MaxSize: 2500, Told: func(e storage.Evicted) { told <- e }, Clock: func() time.Time { return *clock.Load() }})
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.EvictAlways(ctx); close(ended) }()
		for i := range 2 {
			if _, err := putNumber(t, s, 10*round+i); err != nil {
				t.Fatal(err)
			}
		}
		if round == 0 { // there is room
			end()
			<-ended
			continue
		}
		for gone := 0; gone < 2; { // those of the hour before
			e := <-told
			if gone += e.Objects; e.Err != nil || e.Objects == 0 || e.DiskFull {
				t.Fatalf("told %+v", e)
			}
		}
		end()
		<-ended
		for i := range 2 {
			if _, err := s.ReadDocument(t.Context(), numbered(10+i), 1000); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestAttack71_RoomThatComesLate evicts on a file system that tells only later of the
// room that it got: what is needed is evicted, and not everything.
func TestAttack71_RoomThatComesLate(t *testing.T) {
	r := newRoomy(t, 100_000, false)
	for i := range 9 {
		r.mustPut(fmt.Sprintf("number %d ", i), 10_000)
	}
	r.plan.Free = func() (int64, error) { return 10_000, nil } // whatever is evicted
	r.Store = storage.New(r.disk)
	r.EvictBy(r.plan)
	r.EvictOnce(t.Context()) // looks at what there is
	r.mustPut("large ", 25_000)
	if stock, err := r.Stock(t.Context()); err != nil || len(stock.Objects) != 8 {
		t.Errorf("%d objects are stored, want 8; %v", len(stock.Objects), err)
	}
}

// TestAttack72_DamagedMakesRoom has the disk full of what was damaged and set aside:
// it goes before anything else.
func TestAttack72_DamagedMakesRoom(t *testing.T) {
	for _, tells := range []bool{true, false} {
		t.Run(fmt.Sprintf("tells=%t", tells), func(t *testing.T) {
			r := newRoomy(t, 100_000, tells)
			for i := range 4 {
				if err := r.Quarantine(t.Context(), r.mustPut(fmt.Sprintf("damaged %d ", i), 15_000)); err != nil {
					t.Fatal(err)
				}
			}
			first := r.mustPut("first ", 20_000)
			second, err := r.put("second ", 50_000)
			if err != nil {
				t.Fatal(err)
			}
			r.has(first, second)
		})
	}
}

// fullAtCommit is a driver on a disk that takes what is written, and says only at its
// end that there is no room: as NFS does when a quota is used up.
type fullAtCommit struct {
	storagedriver.StorageDriver
	room int64
}

func (d *fullAtCommit) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	w, err := d.StorageDriver.Writer(ctx, path, appending)
	return &fullWriter{FileWriter: w, disk: d}, err
}

func (d *fullAtCommit) Delete(ctx context.Context, path string) error {
	if info, err := d.Stat(ctx, path); err == nil && strings.HasPrefix(path, "/content/") {
		d.room += info.Size()
	}
	return d.StorageDriver.Delete(ctx, path)
}

type fullWriter struct {
	storagedriver.FileWriter
	disk    *fullAtCommit
	written int64
}

func (w *fullWriter) Write(p []byte) (int, error) {
	n, err := w.FileWriter.Write(p)
	w.written += int64(n)
	return n, err
}

func (w *fullWriter) Commit(ctx context.Context) error {
	if w.written > w.disk.room {
		return storagedriver.Error{DriverName: "full", Detail: syscall.EDQUOT}
	}
	w.disk.room -= w.written
	return w.FileWriter.Commit(ctx)
}

// TestAttack73_FullAtCommit: what the disk took and then had no room for is lost, but
// who tries again finds room.
func TestAttack73_FullAtCommit(t *testing.T) {
	r := newRoomy(t, 0, false)
	r.Store = storage.New(&fullAtCommit{newDriver(t, "inmemory", nil), 100_000})
	r.EvictBy(r.plan)
	for i := range 10 {
		r.mustPut(fmt.Sprintf("old %d ", i), 10_000)
	}
	for tries := 1; ; tries++ {
		d, err := r.put("new ", 10_000)
		if err == nil {
			if _, err := r.ReadDocument(t.Context(), d, 10_000); err != nil {
				t.Error(err)
			}
			break
		}
		if !storage.IsFull(err) || tries == 3 {
			t.Fatalf("after %d tries: %v", tries, err)
		}
	}
	stock, err := r.Stock(t.Context())
	if err != nil || len(stock.Objects) != 10 || stock.Unfinished.Files > 0 {
		t.Errorf("%d objects, %+v unfinished, %v", len(stock.Objects), stock.Unfinished, err)
	}
}
