package upstream

import "time"

// Kind is what a request was for.
type Kind string

// The kinds of requests.
const (
	KindPing     Kind = "ping"     // GET /v2/, once per server, to learn how to authenticate
	KindToken    Kind = "token"    // to a token realm
	KindManifest Kind = "manifest" // a manifest or an index
	KindBlob     Kind = "blob"     // a blob or the rest of one
	KindMetadata Kind = "metadata" // of a trust service
)

// Event is one request that is over. Retries, resumptions and the steps of a
// redirect are requests of their own.
type Event struct {
	Registry   string // the registry's canonical name, or a trust service's host
	Repository string // or GUN; empty for a ping
	Kind       Kind
	Status     int           // 0: no answer came
	Bytes      int64         // of the body that were read
	Duration   time.Duration // from the request to the end or the closing of the body
	Err        error         // why it failed, if it did; not for a status that says so
	Again      bool          // it was sent because one before it had failed
	RestUntil  time.Time     // until when the server asked, with this answer, to be left alone; else zero
}
