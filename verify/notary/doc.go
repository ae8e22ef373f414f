// Package notary verifies what publishers sign with Docker Content Trust
// (Notary v1). It does no I/O of its own: metadata arrives through a Fetcher and
// is kept in a Store.
//
// # The format
//
// The metadata of a repository (its GUN, "docker.io/nicolas/webdis") are JSON
// files in the manner of The Update Framework 0.9, each
//
//	{"signed": {…}, "signatures": [{"keyid": …, "method": …, "sig": base64}]}
//
// A signature is over the canonical JSON of the value of "signed" (see
// [Canonical]). Inside are "_type", "version", "expires", and
//
//   - root: "keys", by ID, and "roles", which name the keys and the threshold of
//     root, targets, snapshot and timestamp. Root keys are X.509 certificates
//     whose common name is the GUN.
//   - timestamp: "meta", with length and hashes of the snapshot.
//   - snapshot: "meta", with length and hashes of root, targets and delegations.
//   - targets: "targets", with length and hashes of the manifest of each tag, and
//     "delegations", which name further roles (targets/releases, targets/alice),
//     their keys, thresholds and the prefixes of tags that they may sign.
//   - targets/…: delegations, like targets.
//
// A key is {"keytype": …, "keyval": {"private": null, "public": base64}}; its ID
// is the SHA-256 of the canonical JSON of exactly that.
//
// # The rules
//
// The rules are T1 to T6 of the design. They differ from the reference client's
// in being stricter: trust begins with pinned keys, never with what is seen
// first; all of a repository is refused where one published role of it is
// invalid or expired; only direct delegations vouch.
//
// Read the way of an update in this order: source.go (questions), refresh.go
// (when to ask the service), update.go (root), assemble.go (timestamp →
// snapshot → targets → delegations), vouch.go (which digest a tag has),
// history.go and commit.go (what was seen before). Of archives: archive.go (the
// form), archive_export.go (how one is made), archive_verify.go,
// archive_source.go (how one vouches).
package notary
