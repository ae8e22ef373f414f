// Package doctor tells whether what a node has configured lets a container
// client walk round a mirror that refuses.
//
// It reads the files of containerd, Docker, podman, CRI-O, k3s, RKE2 and BuildKit
// the way that those programs do, traps included, asks the mirrors that they name
// for something that must be refused, and judges each client and registry:
//
//   - closed: requests go to the mirror only, and the mirror was seen to refuse.
//   - open: something else is asked, at the latest after a refusal.
//   - unknown: it can't be told, or nothing can be pulled at all.
//
// Nothing is closed by default. What isn't understood, can't be read or wasn't
// asked is unknown or open, and where versions of a client differ and the version
// isn't known, the worst of them counts.
//
// Each way in which a configuration fails has a Trap, and each trap has fixtures
// in testdata/traps, which are also what the real clients are tested with; see the
// README there.
package doctor
