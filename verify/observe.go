package verify

// Event is something that the Gate did, to be counted.
type Event struct {
	Kind     EventKind
	Cache    Cache // of Opened
	Document bool  // of Opened: a manifest or an index, not a blob
}

// EventKind says what happened.
type EventKind string

// What happens in a Gate.
const (
	Opened      EventKind = "opened"      // an object was opened for who asked
	Shared      EventKind = "shared"      // somebody waited for work that another had begun
	Quarantined EventKind = "quarantined" // storage held something damaged, which was set aside
)

// Cache says how an object was come by.
type Cache string

// How an object is come by.
const (
	CacheHit    Cache = "hit"    // it was admitted and stored before
	CacheShared Cache = "shared" // others were having it verified already
	CacheMiss   Cache = "miss"   // it was verified for who asked
)

// and returns what is to be said of an object that took two steps.
func (c Cache) and(other Cache) Cache {
	switch {
	case c == CacheMiss || other == CacheMiss:
		return CacheMiss
	case c == CacheShared || other == CacheShared:
		return CacheShared
	}
	return CacheHit
}
