package verify

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

const (
	// maxForms is how many documents of a copy may come to stand for one signed
	// thing within formsMemory: an index for a signed digest, a manifest for a
	// signed config. Any number can be made up that say the same, with other white
	// space, and each would leave records that stay. Publishers push one, or a few.
	maxForms    = 16
	formsMemory = 24 * time.Hour
	// maxFormed bounds for how many signed things documents are remembered.
	maxFormed = 65536
)

// forms remembers which documents of copies came to stand for what.
type forms struct {
	mu    sync.Mutex // guards the maps
	known *lru.Cache[string, map[digest.Digest]time.Time]
}

func newForms() (*forms, error) {
	known, err := lru.New[string, map[digest.Digest]time.Time](maxFormed)
	return &forms{known: known}, err
}

// take remembers the documents among what is to be admitted, or refuses them with
// NotAdmitted if there were too many others. What they name is expected.
func (f *forms) take(admissions, expectations []storage.Admission, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range admissions {
		if a.Proof != storage.ProofSameConfig {
			continue
		}
		key := a.Repository + " " + a.Signed.String()
		for _, c := range expectations { // of a manifest
			if c.Kind == storage.KindConfig && c.Parent == a.Digest {
				key += " " + c.Digest.String()
			}
		}
		if !f.takeOne(key, a.Digest, now) {
			return Refuse(NotAdmitted, "%s has given out %d other documents for what is signed as %s within a day, all of which say the same; wait, or find out why it does",
				a.Repository, maxForms, a.Signed)
		}
	}
	return nil
}

func (f *forms) takeOne(key string, d digest.Digest, now time.Time) bool {
	stood, _ := f.known.Get(key)
	if stood == nil {
		stood = make(map[digest.Digest]time.Time)
		f.known.Add(key, stood)
	}
	for other, at := range stood {
		if age := now.Sub(at); age < 0 || age >= formsMemory { // clocks jump
			delete(stood, other)
		}
	}
	if _, again := stood[d]; !again && len(stood) >= maxForms {
		return false
	}
	stood[d] = now
	return true
}
