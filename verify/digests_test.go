package verify

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestDigestSource(t *testing.T) {
	one, two := digest.FromString("one"), digest.SHA512.FromString("two")
	s, err := NewDigestSource("docker.io/nicolas/webdis", map[string]digest.Digest{"0.1.19": one, "latest": one, "0.1.20": two})
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]digest.Digest{"0.1.19": one, "latest": one, "0.1.20": two} {
		target, err := s.Target(t.Context(), tag)
		if err != nil || target.Tag != tag || target.Digest != want || target.Size != 0 || !slices.Equal(target.Signers, []string{DigestSigner}) {
			t.Errorf("%s: %+v, %v", tag, target, err)
		}
	}
	_, err = s.Target(t.Context(), "0.1.18")
	if ReasonOf(err) != UnsignedTag || !strings.Contains(err.Error(), "0.1.18 of docker.io/nicolas/webdis") {
		t.Errorf("a tag that isn't pinned: %v", err)
	}
	set, err := s.Targets(t.Context())
	if err != nil || len(set.All()) != 3 || len(set.ByDigest(one)) != 2 {
		t.Errorf("targets: %v, %v", set, err)
	}
	if again, _ := s.Targets(t.Context()); again != set {
		t.Error("the set isn't the same one")
	}
}

func TestNewDigestSourceRefuses(t *testing.T) {
	good := digest.FromString("one")
	for name, test := range map[string]struct {
		repository string
		digests    map[string]digest.Digest
		invalid    Part
	}{
		"nothing":              {"docker.io/nicolas/webdis", nil, ""},
		"no repository":        {"", map[string]digest.Digest{"1": good}, ""},
		"an empty tag":         {"docker.io/nicolas/webdis", map[string]digest.Digest{"": good}, PartTag},
		"a digest for a tag":   {"docker.io/nicolas/webdis", map[string]digest.Digest{good.String(): good}, PartTag},
		"a tag of 129 bytes":   {"docker.io/nicolas/webdis", map[string]digest.Digest{strings.Repeat("a", 129): good}, PartTag},
		"a tag that escapes":   {"docker.io/nicolas/webdis", map[string]digest.Digest{"../x": good}, PartTag},
		"half a digest":        {"docker.io/nicolas/webdis", map[string]digest.Digest{"1": good[:40]}, PartDigest},
		"an upper-case digest": {"docker.io/nicolas/webdis", map[string]digest.Digest{"1": digest.Digest("sha256:" + strings.ToUpper(good.Encoded()))}, PartDigest},
		"an md5":               {"docker.io/nicolas/webdis", map[string]digest.Digest{"1": "md5:d41d8cd98f00b204e9800998ecf8427e"}, PartDigest},
	} {
		s, err := NewDigestSource(test.repository, test.digests)
		var invalid *InvalidError
		if err == nil || s != nil || test.invalid != "" && (!errors.As(err, &invalid) || invalid.Part != test.invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
