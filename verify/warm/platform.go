package warm

import (
	"fmt"
	"regexp"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is one for which images are fetched.
type Platform struct {
	OS, Architecture string
	Variant          string // "" stands for any
}

// The parts are those of Go's GOOS and GOARCH (OCI image index, "platform").
var platformForm = regexp.MustCompile(`^([a-z0-9]+)/([a-z0-9]+)(?:/([a-z0-9.]+))?$`)

// ParsePlatform reads "linux/amd64" or "linux/arm/v7".
func ParsePlatform(s string) (Platform, error) {
	parts := platformForm.FindStringSubmatch(s)
	if parts == nil {
		return Platform{}, fmt.Errorf("%q is no platform; write system and architecture as an index names them, as in linux/amd64 or linux/arm/v7", s)
	}
	return Platform{OS: parts[1], Architecture: parts[2], Variant: parts[3]}, nil
}

func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// covers tells whether an entry of an index is for the platform: variants count
// where both name one, as everywhere (D4).
func (p Platform) covers(entry *ocispec.Platform) bool {
	return entry != nil && p.OS == entry.OS && p.Architecture == entry.Architecture &&
		(p.Variant == "" || entry.Variant == "" || p.Variant == entry.Variant)
}
