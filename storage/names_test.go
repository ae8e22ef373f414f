package storage

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
)

func TestEncodeName(t *testing.T) {
	for name, want := range map[string]string{
		"":                             "_",
		"docker.io/nicolas/webdis":     "docker.io_2Fnicolas_2Fwebdis",
		"127.0.0.1:5000/a":             "127.0.0.1_3A5000_2Fa",
		"..":                           "_2E.",
		".hidden":                      "_2Ehidden",
		"_":                            "_5F",
		"é":                            "_C3_A9",
		strings.Repeat("a", 199):       strings.Repeat("a", 199),
		strings.Repeat("a", 200):       strings.Repeat("a", 199) + "_/a",
		strings.Repeat("a", 199) + ".": strings.Repeat("a", 199) + "_/_2E",
		strings.Repeat("a", 197) + "/": strings.Repeat("a", 197) + "_/_2F",
	} {
		if got := encodeName(name); got != want {
			t.Errorf("encodeName(%q) = %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{"", "..", ".a", "a/b", "a_", "a_2", "a_2f", "_41", "_/a", "a__", "a_/b", "/", "a b", "_zz"} {
		if got, err := decodeName(bad); err == nil {
			t.Errorf("decodeName(%q) = %q", bad, got)
		}
	}
}

// FuzzNames: names and records come back as what they were, and two never meet.
func FuzzNames(f *testing.F) {
	sound, err := json.Marshal(Admission{
		Repository: "docker.io/a/b", Digest: digest.FromString("x"), Kind: KindIndex,
		Signed: digest.FromString("x"), Proof: ProofSigned,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a.b", "a/b", sound)
	f.Add("../../etc", "a\x00b", []byte(`{}`))
	f.Add(strings.Repeat("a", 199), strings.Repeat("a", 200), []byte(strings.Replace(string(sound), `{`, `{"Tag":"y",`, 1)))
	f.Add(strings.Repeat("/", 100), "_", []byte(strings.Replace(string(sound), `}`, `,"more":1}`, 1)))
	f.Add("docker.io_2Fnicolas_2Fwebdis", "", append(slices.Clone(sound), ' '))
	f.Fuzz(func(t *testing.T, a, b string, record []byte) {
		encodedA, encodedB := encodeName(a), encodeName(b)
		if decoded, err := decodeName(encodedA); err != nil || decoded != a {
			t.Fatalf("%q comes back as %q: %v", a, decoded, err)
		}
		if name, err := decodeName(b); err == nil && encodeName(name) != b {
			t.Fatalf("%q decodes to %q, which is encoded otherwise", b, name)
		}
		if a != b && (encodedA == encodedB || strings.HasPrefix(encodedB, encodedA+"/")) {
			t.Fatalf("%q and %q collide", a, b)
		}
		if !storagedriver.PathRegexp.MatchString("/" + encodedA) {
			t.Fatalf("%q isn't a driver's path", encodedA)
		}
		for component := range strings.SplitSeq(encodedA, "/") {
			if strings.HasPrefix(component, ".") || len(component) > maxComponent {
				t.Fatalf("component %q", component)
			}
		}
		checkRecord(t, record)
	})
}

// checkRecord: whatever is accepted as a record is one that Admit would have written.
func checkRecord(t *testing.T, body []byte) {
	t.Helper()
	var claimed Admission
	if json.Unmarshal(body, &claimed) != nil {
		return
	}
	path, err := claimed.path(admissionFolder)
	if err != nil {
		return
	}
	a, err := parseAdmission(admissionFolder, path, body)
	if err != nil {
		if !errors.Is(err, errUnreadable) {
			t.Fatal(err)
		}
		return
	}
	s := New(inmemory.New())
	if err := s.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	a.At = a.At.UTC()
	if got, err := s.Admissions(t.Context(), a.Repository, a.Digest); err != nil || !slices.Equal(got, []Admission{a}) {
		t.Fatalf("%s is read back as %v, %v", body, got, err)
	}
}
