package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// How each lie of a trust service ends for a client: package notary has the tests
// of what is a lie. Every answer is audited (audit_test.go).

// refused asserts that a pull by either name is refused for a reason, of both
// methods, and that nothing of the image is to be had by its digest.
func (m *mirror) refused(reason verify.Reason, tag string) {
	m.t.Helper()
	hub := m.hub.Document(repo, tag)
	for _, name := range []string{hubName, ecrName} {
		for _, reference := range []string{tag, digest.FromBytes(hub.Raw).String()} {
			a := m.get(name, "manifests", reference)
			if _, message, got, _ := errorOf(m.t, a); a.status != http.StatusForbidden || got != reason {
				m.t.Errorf("%s, %s: %d %s: %s; want %s", name, reference, a.status, got, message, reason)
			}
		}
	}
}

// lies signs a release, makes the trust service lie and has the mirror, which has
// seen nothing before, refuse for a reason.
func lies(t *testing.T, reason verify.Reason, lie func(m *mirror)) {
	t.Helper()
	m := newMirror(t)
	m.known()
	m.start() // pins what is right
	lie(m)
	m.refused(reason, "0.1.19")
}

// liesLater is lies for a mirror that has seen what is right, once that has expired.
func liesLater(t *testing.T, reason verify.Reason, lie func(m *mirror)) {
	t.Helper()
	m := newMirror(t)
	m.known()
	m.repo.Timestamp.Expires = m.clock.Now().Add(time.Hour)
	m.repo.PublishTimestamp()
	m.start()
	if a := m.pull(hubName, "0.1.19"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	m.repo.Timestamp.Expires = m.clock.Now().Add(100 * time.Hour)
	lie(m)
	m.clock.Advance(2 * time.Hour)
	for range 2 {
		m.refused(reason, "0.1.19")
		m.start() // a restart changes nothing
	}
}

// known signs 0.1.19, by the role targets, and 0.2, by a delegation.
func (m *mirror) known() {
	m.t.Helper()
	hub := verifytest.NewRelease("0.1.19", amd64).Push(m.hub, repo, verifytest.Format{Tags: []string{"0.1.19", "0.2"}})
	verifytest.NewRelease("0.1.19", amd64).Push(m.ecr, repo, verifytest.Format{Tags: []string{"0.1.19", "0.2"}, Level: 1})
	m.repo.Sign("0.1.19", hub.Root, hub.Size)
	m.repo.Delegate("alice").Sign("0.2", hub.Root, hub.Size)
	m.repo.Publish()
}

func (m *mirror) role(name string) *notarytest.Role {
	return map[string]*notarytest.Role{
		"root": &m.repo.Root, "timestamp": &m.repo.Timestamp, "snapshot": &m.repo.Snapshot, "targets": &m.repo.Targets,
		"targets/alice": &m.repo.Delegations[0].Role,
	}[name]
}

var roles = []string{"root", "timestamp", "snapshot", "targets", "targets/alice"}

func TestAttack1_ArbitraryInstall(t *testing.T) {
	evil := digest.FromString("evil")
	for name, test := range map[string]struct {
		reason verify.Reason
		lie    func(m *mirror)
	}{
		"a hash changed, the signature kept": {verify.SignatureInvalid, func(m *mirror) {
			good := notarytest.Target(digest.FromBytes(m.hub.Document(repo, "0.1.19").Raw), 0)["hashes"].(map[string]any)["sha256"].(string)
			bad := notarytest.Target(evil, 0)["hashes"].(map[string]any)["sha256"].(string)
			m.repo.Targets.EditFile = func(raw []byte) []byte { return bytes.ReplaceAll(raw, []byte(good), []byte(bad)) }
		}},
		"a target added": {verify.SignatureInvalid, func(m *mirror) {
			m.repo.Targets.EditFile = func(raw []byte) []byte {
				return bytes.Replace(raw, []byte(`"targets":{`), []byte(`"targets":{"0.3":{"hashes":{"sha256":""},"length":1},`), 1)
			}
		}},
		"signed by a key that isn't listed": {verify.SignatureInvalid, func(m *mirror) {
			m.repo.Sign("0.1.19", evil, 4)
			m.repo.Targets.Signers = []*notarytest.Key{notarytest.NewKey(m.t, "ecdsa")}
		}},
		"signed by a key that isn't pinned": {verify.KeyNotPinned, func(m *mirror) {
			m.repo.Sign("0.1.19", evil, 4)
			m.repo.Targets.Keys = append(m.repo.Targets.Keys, notarytest.NewKey(m.t, "ecdsa"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			lies(t, test.reason, func(m *mirror) {
				test.lie(m)
				m.repo.Publish("root", "targets")
			})
		})
	}
}

func TestAttack2_RolledBackService(t *testing.T) {
	for _, role := range roles {
		t.Run(role, func(t *testing.T) {
			liesLater(t, verify.Rollback, func(m *mirror) {
				m.role(role).Version-- // another content for the version that was seen
				m.role(role).Expires = m.role(role).Expires.Add(time.Minute)
				m.repo.Publish(role)
			})
		})
	}
}

func TestAttack3_FastForwardedService(t *testing.T) {
	liesLater(t, verify.Rollback, func(m *mirror) {
		m.repo.Snapshot.Version = 1 << 31
		m.repo.Timestamp.Expires = m.clock.Now().Add(time.Hour)
		m.repo.Publish()
		m.clock.Advance(40 * time.Minute)
		m.get(hubName, "manifests", "unknown") // makes it ask
		m.repo.Snapshot.Version = 2
		m.repo.Timestamp.Expires = m.clock.Now().Add(100 * time.Hour)
		m.repo.Publish()
	})
}

func TestAttack4_FrozenService(t *testing.T) {
	for _, role := range roles[:4] { // a delegation that expires takes its own tags along only
		t.Run(role, func(t *testing.T) {
			liesLater(t, verify.MetadataExpired, func(m *mirror) {
				m.role(role).Expires = m.clock.Now().Add(time.Hour)
				m.repo.Publish(role)
			})
		})
	}
}

func TestAttack5_MixedService(t *testing.T) {
	lies(t, verify.DigestMismatch, func(m *mirror) {
		files := m.repo.Service().Files(hubName)
		m.repo.Targets.Expires = m.repo.Targets.Expires.Add(time.Second)
		m.repo.Publish("targets")
		mixed := m.repo.Service().Files(hubName)
		for name := range files {
			if name == "snapshot" || name == "timestamp" || strings.HasPrefix(name, "snapshot.") {
				mixed[name] = files[name]
			}
		}
		for name := range mixed {
			if strings.HasPrefix(name, "targets.") || name == "targets" {
				mixed[name] = m.repo.Service().Files(hubName)["targets"]
			}
		}
		m.repo.Service().Serve(hubName, mixed)
	})
}

func TestAttack6_TooManyOfAll(t *testing.T) {
	for name, lie := range map[string]func(m *mirror){
		"10,000 signatures": func(m *mirror) {
			m.repo.Targets.EditFile = func(raw []byte) []byte {
				return bytes.Replace(raw, []byte(`"signatures":[`), []byte(`"signatures":[`+strings.Repeat(`{"keyid":"a","method":"ecdsa","sig":"YQ=="},`, 10_000)), 1)
			}
		},
		"20,001 targets": func(m *mirror) {
			m.repo.Targets.Edit = func(signed map[string]any) {
				all := map[string]any{}
				for i := range 20_001 {
					all[fmt.Sprint(i)] = notarytest.Target(digest.FromString("x"), 1)
				}
				signed["targets"] = all
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			lies(t, verify.Malformed, func(m *mirror) {
				lie(m)
				m.repo.Publish("targets")
			})
		})
	}
}

func TestAttack7_KeysThatDontFit(t *testing.T) {
	lies(t, verify.SignatureInvalid, func(m *mirror) {
		m.repo.Targets.EditFile = func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"method":"ecdsa"`), []byte(`"method":"eddsa"`), 1)
		}
		m.repo.Publish("targets")
	})
	lies(t, verify.SignatureInvalid, func(m *mirror) {
		m.repo.Root.Edit = func(signed map[string]any) { // one key's ID for another
			keys := signed["keys"].(map[string]any)
			keys[m.repo.Targets.Keys[0].ID] = keys[m.repo.Snapshot.Keys[0].ID]
		}
		m.repo.Publish("root")
	})
}

func TestAttack8_RootSignedByOneSide(t *testing.T) {
	fresh := notarytest.RootKey(t, hubName)
	for name, by := range map[string]func(old *notarytest.Key) *notarytest.Key{
		"the new key": func(*notarytest.Key) *notarytest.Key { return fresh },
		"the old key": func(old *notarytest.Key) *notarytest.Key { return old },
	} {
		t.Run(name, func(t *testing.T) {
			liesLater(t, verify.SignatureInvalid, func(m *mirror) {
				m.repo.Root.Signers = []*notarytest.Key{by(m.repo.Root.Keys[0])}
				m.repo.Root.Keys = []*notarytest.Key{fresh}
				m.pins.Root = append(m.pins.Root, fresh.ID) // the operator expects it
				m.repo.Publish("root")
				m.start()
			})
		})
	}
}

func TestAttack9_RefusedRootIsForgotten(t *testing.T) {
	m := newMirror(t)
	m.known()
	m.start()
	if a := m.pull(hubName, "0.1.19"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	good := m.repo.Service().Files(hubName)
	m.repo.Timestamp.Expires = m.clock.Now().Add(1000 * time.Hour)
	m.repo.PublishTimestamp()
	later := m.repo.Service().Files(hubName)
	evil := notarytest.RootKey(t, hubName)
	m.repo.Root.Signers = []*notarytest.Key{evil}
	m.repo.Publish("root")
	m.clock.Advance(15 * 24 * time.Hour) // what was seen has expired
	for range 2 {
		m.refused(verify.SignatureInvalid, "0.1.19")
		m.start()
	}
	m.repo.Service().Serve(hubName, good)
	m.clock.Advance(time.Minute)
	m.refused(verify.MetadataExpired, "0.1.19")
	m.repo.Service().Serve(hubName, later)
	m.clock.Advance(time.Minute)
	if a := m.pull(hubName, "0.1.19"); a.status != http.StatusOK {
		t.Errorf("the good root is not relied on again: %d %s", a.status, a.body)
	}
}

func TestAttack10_ThresholdsOverHTTP(t *testing.T) {
	for name, test := range map[string]func(m *mirror){
		"none": func(m *mirror) { m.repo.Targets.Threshold = 0 },
		"two, with one key": func(m *mirror) {
			m.repo.Targets.Threshold = 2
			m.repo.Targets.Signers = []*notarytest.Key{m.repo.Targets.Keys[0], m.repo.Targets.Keys[0]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			lies(t, verify.SignatureInvalid, func(m *mirror) {
				test(m)
				m.repo.Publish("root", "targets")
			})
		})
	}
}

func TestAttack11_DelegationsOverHTTP(t *testing.T) {
	m := newMirror(t)
	m.known()
	m.repo.Delegations[0].Paths = []string{"1."}
	m.repo.Publish("targets")
	m.start()
	if a := m.pull(hubName, "0.1.19"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, name := range []string{hubName, ecrName} {
		a := m.get(name, "manifests", "0.2")
		if _, _, reason, _ := errorOf(t, a); reason != verify.UnsignedTag {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	m.repo.Delegations[0].Paths = []string{""}
	m.repo.Delegations[0].Sign("0.1.19", digest.FromString("other"), 5)
	m.repo.Publish("targets", "targets/alice")
	m.clock.Advance(15 * 24 * time.Hour)
	m.repo.Timestamp.Expires = m.clock.Now().Add(time.Hour)
	m.repo.PublishTimestamp()
	for _, name := range []string{hubName, ecrName} {
		a := m.get(name, "manifests", "0.1.19")
		if _, _, reason, _ := errorOf(t, a); reason != verify.RolesDisagree {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestAttack12_ParsingOverHTTP(t *testing.T) {
	for name, change := range map[string]func(raw []byte) []byte{
		"a name twice": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"signed":{`), []byte(`"signed":{"version":1,`), 1)
		},
		"a name in two cases": func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"signed":{`), []byte(`"Signed":{},"signed":{`), 1)
		},
		"data after it": func(raw []byte) []byte { return append(raw, "{}"...) },
		"invalid UTF-8": func(raw []byte) []byte { return bytes.Replace(raw, []byte(`"Targets"`), []byte("\"Targets\xff\""), 1) },
		"10,000 levels": func([]byte) []byte {
			return []byte(strings.Repeat(`{"signed":`, 10_000) + "1" + strings.Repeat("}", 10_000))
		},
		"a string of 17 MiB": func([]byte) []byte { return append(bytes.Repeat([]byte{' '}, 17<<20), "{}"...) },
		"two million integers": func([]byte) []byte {
			return []byte(`{"signed":{"x":[0` + strings.Repeat(",0", 2<<20) + `]},"signatures":[]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			lies(t, verify.Malformed, func(m *mirror) {
				m.repo.Targets.EditFile = change
				m.repo.Publish("targets")
			})
		})
	}
}

// The clock of the machine jumps: a year ahead, everything has expired; back again,
// all is well.
func TestAttack35_ClockOverHTTP(t *testing.T) {
	m := newMirror(t)
	m.known()
	m.start()
	if a := m.pull(hubName, "0.1.19"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	m.clock.Advance(365 * 24 * time.Hour)
	m.refused(verify.MetadataExpired, "0.1.19")
	m.clock.Advance(-365*24*time.Hour - time.Hour)
	if a := m.pull(hubName, "0.1.19"); a.status != http.StatusOK {
		t.Errorf("an hour back: %d %s", a.status, a.body)
	}
}
