package status

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// Image is a signed repository: who vouches for it, and what is signed.
type Image struct {
	Name   string   `json:"name"` // "docker.io/nicolas/webdis"
	Copies []string `json:"copies"`
	Trust  Trust    `json:"trust"`
	Tags   []Tag    `json:"tags"`
	// Error says why nothing of the image can be pulled now; empty if it can.
	Error       string        `json:"error,omitempty"`
	ErrorReason verify.Reason `json:"error_reason,omitempty"`
}

// Trust is the trust source that an image rests on.
type Trust struct {
	Source string     `json:"source"`         // "notary", "archive" or "digests"
	From   string     `json:"from,omitempty"` // the service's URL, or a file; empty: the configuration itself
	GUN    string     `json:"gun,omitempty"`
	AsOf   *time.Time `json:"as_of,omitempty"` // of an archive: the moment it is judged as of
	Keys   []Key      `json:"keys"`            // that are pinned
	// Asked is when a live service was last asked, Refreshed when it last answered
	// with something to rely on.
	Asked        *time.Time `json:"asked,omitempty"`
	Refreshed    *time.Time `json:"refreshed,omitempty"`
	RefreshError string     `json:"refresh_error,omitempty"` // how asking ended last; empty: well
	Expires      []Expiry   `json:"expires"`                 // the first to expire first; empty: nothing does
}

// Key is a pinned key.
type Key struct {
	Role string `json:"role"` // "root", "repository" or "signer <name>"
	ID   string `json:"id"`
}

// Expiry tells when something expires that an image's trust rests on.
type Expiry struct {
	Role    string    `json:"role"` // "timestamp", "targets/alice", "root certificate"
	Version int64     `json:"version,omitempty"`
	At      time.Time `json:"at"`
	Left    int64     `json:"left_seconds"` // negative once it has expired
	Warning bool      `json:"warning"`      // it is time to do something
}

// Tag is a signed tag.
type Tag struct {
	Tag     string        `json:"tag"`
	Digest  digest.Digest `json:"digest"`
	Signers []string      `json:"signers"`
}

// Refusal is something that was asked for and refused.
type Refusal struct {
	At         time.Time     `json:"at"`
	Name       string        `json:"name"`                 // as the client wrote the repository
	Reference  string        `json:"reference"`            // tag or digest, as the client wrote it
	Image      string        `json:"image,omitempty"`      // the signed repository; empty where no rule covers it
	Repository string        `json:"repository,omitempty"` // that it was looked for in, with its registry; empty where none is configured
	Client     string        `json:"client"`
	UserAgent  string        `json:"user_agent"`
	Reason     verify.Reason `json:"reason"`
	Sentence   string        `json:"sentence"`
	TraceID    string        `json:"trace_id,omitempty"`
	Repeated   uint64        `json:"repeated"` // how often the same came again within seconds
	Advice     string        `json:"advice"`   // filled in by this package
}

// Pull is a pull under way.
type Pull struct {
	Began     time.Time `json:"began"`
	Object    string    `json:"object"` // "docker.io/nicolas/webdis@sha256:…"
	Kind      string    `json:"kind"`   // "manifest" or "blob"
	Client    string    `json:"client"`
	UserAgent string    `json:"user_agent"`
	TraceID   string    `json:"trace_id,omitempty"`
	Sent      int64     `json:"sent"` // bytes
	Size      int64     `json:"size"` // bytes; 0 while it is still being fetched and verified
}

// Usage is what storage holds.
type Usage struct {
	Objects int       `json:"objects"`
	Bytes   int64     `json:"bytes"`
	At      time.Time `json:"at"`       // when it was counted
	MaxSize int64     `json:"max_size"` // storage.max_size in bytes; 0: there is no limit
	// LastEviction is when something was last evicted since the mirror started.
	LastEviction *time.Time `json:"last_eviction,omitempty"`
	// Repositories have what was admitted in each and is stored; what they share
	// counts in each of them.
	Repositories []RepositoryUsage `json:"repositories"`
}

// RepositoryUsage is what storage holds of one repository.
type RepositoryUsage struct {
	Name    string `json:"name"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`
}
