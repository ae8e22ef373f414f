package doctor

import (
	"fmt"
	"regexp"
	"strconv"
)

// version is a containerd's major and minor version; the zero value is an unknown one.
type version struct{ major, minor int }

// parseVersion finds the version in "1.7.27", "v2.4.2" or what `containerd
// --version` prints.
func parseVersion(s string) (version, error) {
	if s == "" {
		return version{}, nil
	}
	found := regexp.MustCompile(`(?:^|\s)v?(\d+)\.(\d+)(?:\.|$)`).FindStringSubmatch(s)
	if found == nil {
		return version{}, fmt.Errorf("doctor: %q has no version of containerd; write it as 1.7.27", s)
	}
	major, err := strconv.Atoi(found[1])
	if err != nil {
		return version{}, err
	}
	minor, err := strconv.Atoi(found[2])
	return version{major, minor}, err
}

// IsVersion tells whether Options.ContainerdVersion understands a text.
func IsVersion(s string) bool {
	v, err := parseVersion(s)
	return err == nil && v.known()
}

func (v version) known() bool { return v.major > 0 }

// from is true if the version is known to be that one or a later one.
func (v version) from(other version) bool {
	return v.known() && !v.less(other)
}

// before is true if the version is known to be an earlier one.
func (v version) before(other version) bool {
	return v.known() && v.less(other)
}

func (v version) less(other version) bool {
	return v.major < other.major || v.major == other.major && v.minor < other.minor
}
