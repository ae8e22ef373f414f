package notary_test

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// TestAttack12_RepeatedNames repeats each member of each file, once exactly and
// once in another case; the signature holds for one reading.
func TestAttack12_RepeatedNames(t *testing.T) {
	member := regexp.MustCompile(`[{,]"([^"\\]+)":`)
	for _, role := range allRoles {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t, withAlice)
			raw := w.service.Files(gun)[role]
			for _, at := range member.FindAllSubmatchIndex(raw, -1) {
				name := string(raw[at[2]:at[3]])
				names := []string{name}
				if other := strings.ToUpper(name); other != name {
					names = append(names, other)
				} else if other := strings.ToLower(name); other != name {
					names = append(names, other)
				}
				for _, repeated := range names {
					for _, value := range []string{"null", "{}"} {
						w.check12(role, raw, at, repeated, value)
					}
				}
			}
		})
	}
}

// check12 puts a member before the one found at a place, and after the
// beginning of the object.
func (w *world) check12(role string, raw []byte, at []int, name, value string) {
	w.tb.Helper()
	changed := fmt.Appendf(nil, `%s"%s":%s,%s`, raw[:at[0]+1], name, value, raw[at[0]+1:])
	x := newWorldFrom(w, role, changed)
	_, err := x.source().Target(context.Background(), "0.1.19")
	if verify.ReasonOf(err) != verify.Malformed {
		w.tb.Errorf("%s with a second %q: %v", role, name, err)
	}
}

// newWorldFrom is the same world where one role's file is replaced, and what
// vouches for it signed anew.
func newWorldFrom(w *world, role string, changed []byte) *world {
	x := *w
	x.store = notarytest.NewStore()
	x.role(role).EditFile = func([]byte) []byte { return changed }
	x.Publish(role)
	x.role(role).EditFile = nil
	return &x
}

func TestAttack12_TagsMayDifferInCaseOnly(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Sign("Latest", digestA, 1)
		r.Sign("latest", digestB, 1)
	})
	wantTarget(t, w.source(), "Latest", digestA)
	wantTarget(t, w.source(), "latest", digestB)
}

func TestAttack12_NotStrictJSON(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	for name, change := range map[string]func([]byte) []byte{
		"data after the document": func(raw []byte) []byte { return append(raw, "{}"...) },
		"a zero byte after it":    func(raw []byte) []byte { return append(raw, 0) },
		"invalid UTF-8": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"_type"`), []byte("\"\xff\":1,\"_type\""), 1)
		},
		"half a surrogate":       func(raw []byte) []byte { return bytes.Replace(raw, []byte(`"_type"`), []byte(`"\ud800":1,"_type"`), 1) },
		"10,000 levels, outside": func(raw []byte) []byte { return bytes.Replace(raw, []byte(`{`), []byte(`{"x":`+deep+`,`), 1) },
		"10,000 levels, signed": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"_type"`), []byte(`"x":`+deep+`,"_type"`), 1)
		},
		"nothing":         func([]byte) []byte { return []byte{' '} },
		"HTML":            func([]byte) []byte { return []byte("<!DOCTYPE html><html></html>") },
		"an array":        func([]byte) []byte { return []byte("[]") },
		"null":            func([]byte) []byte { return []byte("null") },
		"no signed part":  func([]byte) []byte { return []byte(`{"signatures":[]}`) },
		"signed null":     func([]byte) []byte { return []byte(`{"signed":null,"signatures":[]}`) },
		"signed a string": func([]byte) []byte { return []byte(`{"signed":"x","signatures":[]}`) },
		"signatures an object": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"signatures":[`), []byte(`"signatures":{},"x":[`), 1)
		},
		"a signature null": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"signatures":[`), []byte(`"signatures":[null,`), 1)
		},
		"cut off":          func(raw []byte) []byte { return raw[:len(raw)-1] },
		"a comma too many": func(raw []byte) []byte { return bytes.Replace(raw, []byte(`}]}`), []byte(`},]}`), 1) },
	} {
		for _, role := range allRoles {
			w := newWorld(t, withAlice)
			w.role(role).EditFile = change
			w.Publish(role)
			t.Log(role, name)
			w.wantRefused(verify.Malformed, role)
		}
	}
}

func TestWhiteSpaceDoesntMatter(t *testing.T) {
	for _, role := range allRoles {
		w := newWorld(t, withAlice)
		w.role(role).EditFile = func(raw []byte) []byte {
			return append(bytes.ReplaceAll(raw, []byte(`,"`), []byte(" ,\n\t\"")), '\n')
		}
		w.Publish(role)
		wantTarget(t, w.source(), "0.1.19", digestA)
	}
}

func TestAttack6_TooMuch(t *testing.T) {
	pad := func(n int) func([]byte) []byte {
		return func(raw []byte) []byte { return append(bytes.Repeat([]byte{' '}, n-len(raw)), raw...) }
	}
	many := func(n int, element string) string { return strings.Repeat(element+",", n-1) + element }
	signatures := func(n int) func([]byte) []byte {
		return func(raw []byte) []byte {
			junk := many(n, `{"keyid":"x","method":"ecdsa","sig":"AAAA"}`)
			return bytes.Replace(raw, []byte(`"signatures":[`), []byte(`"signatures":[`+junk+`,`), 1)
		}
	}
	targets := func(n int) func(*notarytest.Repository) {
		return func(r *notarytest.Repository) {
			target := notarytest.Target(digestA, 1)
			for i := range n {
				r.Signed[fmt.Sprintf("tag-%d", i)] = target
			}
		}
	}
	file := func(role string, edit func([]byte) []byte) func(*notarytest.Repository) {
		return func(r *notarytest.Repository) {
			withAlice(r)
			(&world{Repository: r, tb: t}).role(role).EditFile = edit
		}
	}
	edit := func(role string, edit func(signed map[string]any)) func(*notarytest.Repository) {
		return func(r *notarytest.Repository) {
			withAlice(r)
			(&world{Repository: r, tb: t}).role(role).Edit = edit
		}
	}
	keys := func(keys map[string]any) {
		key := notarytest.NewKey(t, "ed25519")
		for i := range 1025 {
			keys[fmt.Sprint(i)] = key.Listed()
		}
	}
	delegations := func(signed map[string]any) {
		var roles []any
		for i := range 257 {
			roles = append(roles, map[string]any{"name": fmt.Sprintf("targets/d%d", i), "keyids": []string{}, "threshold": 1})
		}
		signed["delegations"].(map[string]any)["roles"] = roles
	}
	tests := []struct {
		name   string
		change func(*notarytest.Repository)
		ok     bool
		says   string
	}{
		{"root, as large as may be", file("root", pad(1<<20)), true, ""},
		{"root too large", file("root", pad(1<<20+1)), false, fmt.Sprint(1 << 20)},
		{"timestamp, as large as may be", file("timestamp", pad(64<<10)), true, ""},
		{"timestamp too large", file("timestamp", pad(64<<10+1)), false, fmt.Sprint(64 << 10)},
		{"snapshot too large", file("snapshot", pad(1<<20+1)), false, fmt.Sprint(1 << 20)},
		{"targets too large", file("targets", pad(16<<20+1)), false, fmt.Sprint(16 << 20)},
		{"delegation too large", file("targets/alice", pad(16<<20+1)), false, fmt.Sprint(16 << 20)},
		{"a MiB that nobody signed", file("targets", pad(1<<20+200)), true, ""},
		{"more than a MiB that nobody signed", file("targets", pad(2<<20)), false, "signed"},
		{"200 signatures", file("targets", signatures(200)), true, ""},
		{"10,000 signatures", file("targets", signatures(10_000)), false, "10001 signatures"},
		{"1,000 targets", targets(1_000), true, ""},
		{"20,000 targets and one", targets(20_000), false, "20001 targets"},
		{"1,025 keys in root", edit("root", func(s map[string]any) { keys(s["keys"].(map[string]any)) }), false, "1029 keys"},
		{"1,025 keys in targets", edit("targets", func(s map[string]any) { keys(s["delegations"].(map[string]any)["keys"].(map[string]any)) }), false, "1026 keys"},
		{"257 delegations", edit("targets", delegations), false, "257 delegations"},
		{"1,025 key IDs", edit("root", func(s map[string]any) {
			ids := make([]string, 1025)
			s["roles"].(map[string]any)["timestamp"].(map[string]any)["keyids"] = ids
		}), false, "1025 keys for timestamp"},
		{"257 roles", edit("root", func(s map[string]any) {
			for i := range 253 {
				s["roles"].(map[string]any)[fmt.Sprint(i)] = map[string]any{"keyids": []string{}, "threshold": 1}
			}
		}), false, "257 roles"},
		{"1,025 files in the snapshot", edit("snapshot", func(s map[string]any) {
			for i := range 1025 {
				s["meta"].(map[string]any)[fmt.Sprint(i)] = map[string]any{}
			}
		}), false, "1028 files"},
		{"160,000 values and more", edit("targets", func(s map[string]any) { s["custom"] = make([]int, 160_000) }), false, "160000"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, test.change)
			if test.ok {
				wantTarget(t, w.source(), "0.1.19", digestA)
				return
			}
			w.wantRefused(verify.Malformed, test.says)
		})
	}
	t.Run("64 MiB in delegations", func(t *testing.T) {
		w := newWorld(t, func(r *notarytest.Repository) {
			for i := range 5 {
				d := r.Delegate(fmt.Sprintf("d%d", i))
				d.Sign("0.2", digestB, 1)
				d.Edit = func(signed map[string]any) { signed["custom"] = strings.Repeat(" ", 15<<20) }
			}
		})
		w.wantRefused(verify.Malformed, "targets/d4")
	})
}
