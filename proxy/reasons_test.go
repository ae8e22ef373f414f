package proxy_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// scenario produces one reason code. ask prepares the world, starts the mirror
// and returns the answer that has the code.
type scenario struct {
	status int
	code   string
	says   string // a part of the message that tells what to do, or what is wrong
	ask    func(m *mirror) answer
}

// signed publishes a two-platform release that is right.
func (m *mirror) signed() (hub, ecr verifytest.Pushed) {
	return m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{}, verifytest.Format{})
}

// onHub signs a release whose documents on the Hub are changed before signing.
func onHub(change func(platform string, doc map[string]any)) func(m *mirror) answer {
	return func(m *mirror) answer {
		m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{Change: change}, verifytest.Format{})
		m.start()
		return m.pull(hubName, "0.1.19")
	}
}

// onECR signs a release and changes its copy.
func onECR(release *verifytest.Release, format verifytest.Format) func(m *mirror) answer {
	return func(m *mirror) answer {
		m.signed()
		format.Tags = []string{"0.1.19"}
		release.Push(m.ecr, repo, format)
		m.start()
		return m.pull(ecrName, "0.1.19")
	}
}

// badTrust signs a release, changes something about the trust data and asks.
func badTrust(change func(m *mirror)) func(m *mirror) answer {
	return func(m *mirror) answer {
		m.signed()
		change(m)
		if m.url == "" {
			m.start()
		}
		return m.pull(hubName, "0.1.19")
	}
}

func release(platforms ...string) *verifytest.Release {
	return verifytest.NewRelease("0.1.19", platforms...)
}

// TestReasons produces every reason code through HTTP: its status, its OCI code, a
// message that tells a person what to do, and not one byte of the content.
func TestReasons(t *testing.T) {
	refused := func(says string, ask func(m *mirror) answer) scenario {
		return scenario{http.StatusForbidden, "DENIED", says, ask}
	}
	unavailable := func(says string, ask func(m *mirror) answer) scenario {
		return scenario{http.StatusServiceUnavailable, "UNAVAILABLE", says, ask}
	}
	tests := map[verify.Reason]scenario{
		verify.NoPolicy: refused("add it to images in the configuration", func(m *mirror) answer {
			m.signed()
			m.start()
			return m.pull("docker.io/library/redis", "7")
		}),
		verify.UnsignedTag: refused("0.1.11", func(m *mirror) answer {
			m.signed()
			release(amd64).Push(m.hub, repo, verifytest.Format{Tags: []string{"0.1.11"}})
			m.start()
			return m.pull(hubName, "0.1.11")
		}),
		verify.Malformed: refused("strict JSON", onHub(func(platform string, doc map[string]any) {
			if platform == "" {
				doc["MediaType"] = doc["mediaType"] // equal when case-folded
			}
		})),
		verify.SignatureInvalid: refused("signed by 0 of its keys", badTrust(func(m *mirror) {
			m.repo.Targets.Signers = []*notarytest.Key{notarytest.NewKey(m.t, "ecdsa")}
			m.repo.Publish("targets")
		})),
		verify.KeyNotPinned: refused("not pinned", badTrust(func(m *mirror) {
			m.start()
			m.repo.Delegate("mallory").Sign("0.1.19", digest.FromString("evil"), 4)
			m.repo.Publish("targets")
		})),
		verify.Rollback: refused("accepted before", badTrust(func(m *mirror) {
			before := m.repo.Service().Files(hubName)
			m.repo.Timestamp.Expires = m.clock.Now().Add(time.Hour)
			m.repo.Publish("targets")
			m.start()
			if a := m.get(hubName, "manifests", "0.1.19"); a.status != http.StatusOK {
				m.t.Fatalf("%d %s", a.status, a.body)
			}
			m.repo.Service().Serve(hubName, before)
			m.clock.Advance(2 * time.Hour)
		})),
		verify.MetadataExpired: refused("expired on", badTrust(func(m *mirror) {
			m.clock.Advance(15 * 24 * time.Hour)
		})),
		verify.RolesDisagree: refused("role_order", badTrust(func(m *mirror) {
			m.repo.Delegate("nicolasff").Sign("0.1.19", digest.FromString("other"), 5)
			m.repo.Publish("targets")
		})),
		verify.DigestMismatch: refused("not what was signed", func(m *mirror) answer {
			hub, _ := m.signed()
			m.changeHub(hub.Root, func(raw []byte) []byte { return bytes.Replace(raw, []byte("amd64"), []byte("evil!"), 1) })
			m.start()
			return m.pull(hubName, "0.1.19")
		}),
		verify.SizeMismatch: refused("which has", func(m *mirror) answer {
			hub, _ := m.signed()
			m.changeHub(hub.Root, func(raw []byte) []byte { return append(raw, '\n') })
			m.start()
			return m.pull(hubName, "0.1.19")
		}),
		verify.AmbiguousDoc: refused("two ways", onHub(func(platform string, doc map[string]any) {
			if platform == "" {
				doc["layers"] = []any{}
			}
		})),
		verify.MediaType: refused("schema 1", onHub(func(platform string, doc map[string]any) {
			if platform == "" {
				doc["schemaVersion"] = 1
			}
		})),
		verify.BadDescriptor: refused("urls", onHub(func(platform string, doc map[string]any) {
			if platform == amd64 {
				doc["layers"].([]any)[0].(map[string]any)["urls"] = []string{"https://evil.example/layer"}
			}
		})),
		verify.PlatformMismatch: refused("its config says", onHub(func(platform string, doc map[string]any) {
			if platform == "" {
				doc["manifests"].([]any)[0].(map[string]any)["platform"].(map[string]any)["architecture"] = "s390x"
			}
		})),
		verify.ConfigMismatch: refused("another image than the publisher signed", onECR(verifytest.NewRelease("evil", amd64, arm64), verifytest.Format{})),
		verify.ExtraPlatform:  refused("not in the signed", onECR(release(amd64, arm64, "linux/riscv64"), verifytest.Format{})),
		verify.LayerMismatch: refused("decompress", onECR(release(amd64, arm64), verifytest.Format{ChangeLayer: func(string, int, []byte) []byte {
			return []byte("not what it was")
		}})),
		verify.Annotation: refused("annotations that the signed", onECR(release(amd64, arm64), verifytest.Format{Change: func(_ string, doc map[string]any) {
			doc["annotations"] = map[string]string{"evil": "yes"}
		}})),
		verify.NotAdmitted: refused("nothing that is signed", func(m *mirror) answer {
			m.signed()
			m.start()
			return m.pull(hubName, digest.FromString("evil").String())
		}),
		verify.Superseded: refused("no longer signed", func(m *mirror) answer {
			old, _ := m.signed()
			m.start()
			if a := m.pull(hubName, "0.1.19"); a.status != http.StatusOK {
				m.t.Fatalf("%d %s", a.status, a.body)
			}
			m.publish("0.1.19", verifytest.NewRelease("again", amd64), verifytest.Format{}, verifytest.Format{})
			m.clock.Advance(time.Minute)
			m.get(hubName, "manifests", "unknown") // makes it ask the trust service
			m.clock.Advance(2 * time.Hour)
			return m.pull(hubName, old.Root.String())
		}),
		verify.TrustUnavailable: unavailable("trust service", badTrust(func(m *mirror) {
			m.repo.Service().Down()
		})),
		verify.UpstreamUnavailable: unavailable("", func(m *mirror) answer {
			m.signed()
			m.hub.SetDown(true)
			m.ecr.SetDown(true)
			m.start()
			return m.pull(hubName, "0.1.19")
		}),
		verify.RateLimited: {http.StatusTooManyRequests, "TOOMANYREQUESTS", "", func(m *mirror) answer {
			m.signed()
			limit := func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			m.hub.Intercept(limit)
			m.start()
			return m.pull(hubName, "0.1.19")
		}},
		verify.StorageUnavailable: unavailable("no space left", func(m *mirror) answer {
			m.signed()
			faulty := storagetest.NewFaulty(inmemory.New())
			faulty.Set(storagetest.Fault{At: 1, Stay: true, Err: syscall.ENOSPC})
			m.store = storage.New(faulty)
			m.start()
			return m.pull(hubName, "0.1.19")
		}),
		verify.NotFound: {http.StatusNotFound, "MANIFEST_UNKNOWN", "", func(m *mirror) answer {
			hub, _ := m.signed()
			m.hub.Delete(repo, hub.Root.String())
			m.start()
			return m.pull(hubName, "0.1.19")
		}},
	}
	for reason, test := range tests {
		t.Run(string(reason), func(t *testing.T) {
			m := newMirror(t)
			a := test.ask(m)
			code, message, got, ref := errorOf(t, a)
			if a.status != test.status || code != test.code || got != reason {
				t.Fatalf("%d %s %s: %s", a.status, code, got, message)
			}
			if !strings.Contains(message, test.says) || len(message) < 20 {
				t.Errorf("the message doesn't say %q: %s", test.says, message)
			}
			if !strings.Contains(ref, "/") {
				t.Errorf("detail.ref is %q", ref)
			}
			if retry := a.header.Get("Retry-After"); (retry != "") != (a.status == 429 || a.status == 503) {
				t.Errorf("status %d with Retry-After %q", a.status, retry)
			}
			t.Logf("%d %s %s: %s", a.status, code, reason, message)
		})
	}
}

// changeHub makes the Hub deliver other bytes for a digest.
func (m *mirror) changeHub(d digest.Digest, change func([]byte) []byte) {
	doc := m.hub.Document(repo, d.String())
	doc.Raw = change(slices.Clone(doc.Raw))
	m.hub.SetDocument(repo, d.String(), doc)
}
