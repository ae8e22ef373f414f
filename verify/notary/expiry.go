package notary

import (
	"cmp"
	"slices"
	"time"
)

// RootCertificate is the name under which Expiries list the end of the root's
// certificates, which is not a role's.
const RootCertificate = "root certificate"

// Expiry tells when something expires on which a repository rests.
type Expiry struct {
	Role string // "timestamp", "targets/alice", or RootCertificate
	At   time.Time
}

// expiries lists when each published role expires, and the certificates, the
// first to expire first.
func (r *repository) expiries() []Expiry {
	var all []Expiry
	for _, d := range r.documents() {
		all = append(all, Expiry{Role: d.role, At: d.expires})
	}
	var ends []time.Time
	for _, k := range r.root.signers {
		ends = append(ends, k.certificates[0].NotAfter)
	}
	slices.SortFunc(ends, func(a, b time.Time) int { return b.Compare(a) })
	// There are at least as many as the threshold: the root is signed.
	all = append(all, Expiry{Role: RootCertificate, At: ends[r.root.own.threshold-1]})
	slices.SortStableFunc(all, func(a, b Expiry) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Role, b.Role)) })
	return all
}
