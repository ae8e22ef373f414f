package notary

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// The names of roles. A delegation's is "targets/<name>".
const (
	roleRoot      = "root"
	roleTargets   = "targets"
	roleSnapshot  = "snapshot"
	roleTimestamp = "timestamp"

	// roleReleases is the delegation that Docker's clients look at first; it
	// stands for the publisher, not for one signer.
	roleReleases = "targets/releases"
)

// maxRoleName is how long a delegation's name can be; the service can't store
// longer ones.
const maxRoleName = 255

// authority is who may sign for a role; newAuthority makes it.
type authority struct {
	role      string
	keyIDs    []string // as listed
	keys      []*Key
	threshold int      // at least 1
	excluded  []string // why listed keys don't count, for the message
}

// verify checks that a threshold of distinct keys signed (T2). It returns the
// keys that did. Signatures by others say nothing. The error is a Refusal with
// SignatureInvalid.
func (a *authority) verify(message []byte, signatures []signature) ([]*Key, error) {
	var signers []*Key
	notes := slices.Clone(a.excluded)
	for _, s := range signatures {
		i := slices.IndexFunc(a.keys, func(k *Key) bool { return k.id == s.KeyID })
		if i < 0 || slices.ContainsFunc(signers, a.keys[i].equal) {
			continue
		}
		if err := a.keys[i].verify(s.Method, message, s.Signature); err != nil {
			notes = append(notes, fmt.Sprintf("key %s: %v", s.KeyID, err))
			continue
		}
		signers = append(signers, a.keys[i])
	}
	if len(signers) >= a.threshold {
		return signers, nil
	}
	if len(notes) == 0 {
		notes = append(notes, "nothing is signed by "+strings.Join(a.keyIDs, ", "))
	}
	return nil, verify.Refuse(verify.SignatureInvalid, "%s is validly signed by %d of its keys, and needs %d (%s)",
		a.role, len(signers), a.threshold, strings.Join(notes[:min(len(notes), maxNotes)], "; "))
}

// maxNotes bounds how many reasons a message about signatures gives.
const maxNotes = 4

// equal tells whether two keys are one, whatever certificates they come in.
func (k *Key) equal(other *Key) bool { return string(k.pkix) == string(other.pkix) }

// isChild tells whether a name is that of a direct delegation of parent, as the
// reference implementation writes them.
func isChild(name, parent string) bool {
	child, ok := strings.CutPrefix(name, parent+"/")
	return ok && len(name) <= maxRoleName && isSignerName(child)
}

// isSignerName tells whether a name can be the last part of a delegation's.
func isSignerName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	})
}

// signerName is a delegation's name as `docker trust inspect` shows it.
func signerName(role string) string { return strings.TrimPrefix(role, roleTargets+"/") }
