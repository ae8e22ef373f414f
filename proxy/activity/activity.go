// Package activity knows what the mirror is doing and what it has decided: it
// writes the decision log, and remembers the latest refusals and which pulls are
// under way for whoever shows them.
//
// # Decision log
//
// One JSON object a line (line.go) for each admission and each refusal. Nobody
// waits for it: lines go through a queue to one goroutine, which writes each with
// one system call (file.go). Lines that find the queue full, or that the disk
// doesn't take, are lost; the next line that is written says how many were.
//
// Refusals that are the same (what was asked for, reason, client's address) are
// written once in ten seconds, and then once more with how often they came again.
// So a client that asks without end neither fills the disk nor hides what else
// was refused. One that asks for something else each time is bounded by the size
// and the number of the files, and by the mirror's rate limit.
package activity

import (
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// Refusal is a refusal as it happened. What the client chose is cut to a few
// hundred bytes.
type Refusal struct {
	At              time.Time
	Ref             verify.Ref // zero when the request named no configured registry
	Kind            string     // what was asked for: "manifest", "blob" or "tags"
	Name, Reference string     // repository and tag or digest as the request's path names them
	Image           string     // the signed repository, "docker.io/nicolas/webdis"; "" if no image covers it
	Client          string     // address without port
	UserAgent       string
	Reason          verify.Reason
	Sentence        string // for people
	TraceID         string // "" where requests aren't traced
	Repeated        uint64 // how often the same came again, within some ten seconds
}

// Pull is a manifest or a blob on its way to a client.
type Pull struct {
	Began      time.Time
	Ref        verify.Ref
	Kind       string // "manifest" or "blob"
	Client     string // address without port
	UserAgent  string
	TraceID    string // "" where requests aren't traced
	Sent, Size int64  // bytes; Size is 0 while it is still being fetched and verified
}

// Filter chooses among refusals.
type Filter struct {
	Reason verify.Reason // "": any
	Image  string        // the signed repository; "": any
	Limit  int           // at most so many; 0: all that are remembered
}
