// Package storage keeps what was verified: content by digest, the admissions
// that say why it may be served, facts about it, and the trust sources' state.
// It works on any of distribution's storage drivers and decides nothing: that
// something is stored never means that it may be served.
//
// # Layout
//
//	content/<algorithm>/<2 hex>/<hex>                      manifests, configs and layers
//	admissions/<repository>/<algorithm>/<2 hex>/<hex>/<edge>  one record for each edge
//	expectations/…                                         the same, for what nobody has checked yet
//	tags/<repository>/<tag>/<signed>                       which document is a copy's tag
//	trust/<gun>/<name>                                     state of a trust source
//	staging/<random>                                       writes under way
//	quarantine/<time>-<digest>                             the latest corrupt objects, for inspection, until the disk is full
//	scrub/place                                            which part of content was scrubbed last
//	eviction/running, eviction/ended                       when each object was last used
//
// Names of others' choosing (repositories, tags, GUNs) are encoded by one
// injective function, so that none can leave its folder or meet another's.
// Records carry a checksum over their path and their bytes: a flipped bit or a
// file put elsewhere makes a record unreadable, never a different record.
//
// # Durability
//
// What a write stores is visible whole or not at all. Once it has returned nil,
// it survives kill -9 and, on the filesystem driver, power loss: the file is
// synced before it is moved into place, then its folder, and the parent of each
// folder made for it. A write that finds its content already there returns nil
// on the word of the write that put it there. The order of writes is the
// caller's: content first, then the admission that leads to it.
//
// In a bucket the same holds as far as the service keeps what it has answered for:
// an object appears in its place whole, in one request or as its upload is completed,
// which it is once its bytes were hashed. A process that dies leaves an upload that
// was begun at worst, which is invisible and which only a lifecycle rule of the bucket
// removes. No operation waits for a bucket for minutes.
//
// A process that dies leaves files in staging. They are never read, and Sweep
// removes those that nobody has written to for an hour; several processes may
// therefore share one store.
//
// # Eviction
//
// Where EvictBy says so, content goes that was used least recently; records and trust
// state never do. So an admission may lead to what isn't stored, as it may after
// damage, and whoever needs that stores it again. How lately each object was used is
// written down each minute and at the end. After a crash the rest is found by looking,
// folder by folder. Nothing but the choice of what goes rests on it.
//
// # Memory
//
// A store that was told to Remember keeps the documents that it hashed lately, and
// admissions and bound tags for a few seconds, all within bounds. What it writes
// itself it sees at once, what other processes write or remove a few seconds later;
// an admission or a tag that they add, at once, since absence is never remembered.
//
// # Links
//
// The filesystem driver never leaves its root folder. Anything in a stored
// file's place that isn't a regular file (a link, a pipe, a folder) counts as
// absent, and the next write replaces it. Files under names that no driver accepts
// are left alone.
package storage
