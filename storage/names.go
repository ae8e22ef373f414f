package storage

import (
	_ "crypto/sha256" // makes the digest algorithm available
	_ "crypto/sha512"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// The folders of the layout; the package comment describes them.
const (
	contentFolder     = "/content"
	admissionFolder   = "/admissions"
	expectationFolder = "/expectations"
	tagFolder         = "/tags"
	trustFolder       = "/trust"
	stagingFolder     = "/staging"
	quarantineFolder  = "/quarantine"
	scrubFolder       = "/scrub"
	evictionFolder    = "/eviction"
)

// maxComponent is how long a path component that encodeName makes can be. File
// systems allow 255 bytes.
const maxComponent = 200

// encodeName turns any string into a relative path that drivers accept
// (^[A-Za-z0-9._-]+ for each component), one to one. Letters, digits, "-" and
// "." stand for themselves; any other byte, and a "." that begins a component,
// is written as "_" and two hex digits. What is longer than maxComponent goes on
// in a folder below; a component that goes on ends with "_", so that no name is
// a file where another has a folder. The empty name is "_".
func encodeName(name string) string {
	if name == "" {
		return "_"
	}
	var (
		done    strings.Builder
		current []byte
	)
	for i := range len(name) {
		token := encodeByte(name[i], len(current) == 0)
		if len(current)+len(token) >= maxComponent {
			done.Write(current)
			done.WriteString("_/")
			current = current[:0]
			token = encodeByte(name[i], true)
		}
		current = append(current, token...)
	}
	done.Write(current)
	return done.String()
}

func encodeByte(c byte, first bool) string {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.' && !first:
		return string(rune(c))
	}
	return fmt.Sprintf("_%02X", c)
}

// decodeName is the inverse of encodeName. It refuses what encodeName doesn't
// make.
func decodeName(encoded string) (string, error) {
	joined := strings.ReplaceAll(encoded, "_/", "")
	var name []byte
	for i := 0; i < len(joined) && joined != "_"; i++ {
		c := joined[i]
		if c == '_' {
			if i+2 >= len(joined) {
				return "", fmt.Errorf("%q is not an encoded name", encoded)
			}
			b, err := hex.DecodeString(joined[i+1 : i+3])
			if err != nil {
				return "", fmt.Errorf("%q is not an encoded name: %w", encoded, err)
			}
			c = b[0]
			i += 2
		}
		name = append(name, c)
	}
	if encodeName(string(name)) != encoded {
		return "", fmt.Errorf("%q is not an encoded name", encoded)
	}
	return string(name), nil
}

// checkDigest accepts sha256 and sha512, the algorithms that anything is stored
// under (OCI image specification, "Registered algorithms").
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", string(d), err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %q: %w", string(d), digest.ErrDigestUnsupported)
	}
	return nil
}

// digestPath is where something that belongs to a digest is kept in a folder.
func digestPath(folder string, d digest.Digest) (string, error) {
	if err := checkDigest(d); err != nil {
		return "", err
	}
	return path.Join(folder, d.Algorithm().String(), d.Encoded()[:2], d.Encoded()), nil
}

// digestName is a digest as one path component.
func digestName(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded()
}
