package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/collector"
	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
)

// tracedSite is one where containerd and trustmirror send what they do to a collector.
type tracedSite struct {
	*site
	release   lab.Published // as 0.1.19
	collector *collector.Collector
}

func newTracedSite(t *testing.T) tracedSite {
	t.Helper()
	c, err := collector.Start(t.Context())
	check(t, err)
	s := tracedSite{newSite(t), multi(t, "0.1.19"), c}
	s.push(t, "0.1.19", s.release)
	return s
}

// start starts mirror and containerd, which both send to endpoint.
func (s tracedSite) start(t *testing.T, protocol, endpoint, trusted string) *node.Containerd {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_METRICS_EXPORTER", "otlp")
	rule, err := s.world.Rule()
	check(t, err)
	s.mirror, err = s.newMirror(program(), []lab.Rule{rule})
	check(t, err)
	config, err := os.ReadFile(s.mirror.ConfigFile)
	check(t, err)
	config = fmt.Appendf(config, "telemetry: {trusted_peers: [%s]}\n", trusted)
	check(t, os.WriteFile(s.mirror.ConfigFile, config, 0o600))
	check(t, s.mirror.Start(t.Context()))
	containerd := s.containerd2(t)
	t.Cleanup(func() { // for the next start; in the end the lab would do it
		containerd.Stop()
		s.mirror.Process.Stop()
	})
	return containerd
}

// TestTracedPull finds the spans of whole pulls, of a refusal, and what was counted, in
// an OTLP collector.
func TestTracedPull(t *testing.T) {
	s := newTracedSite(t)
	wrong, err := s.world.PublishWrong(t.Context())
	check(t, err)
	replaced := wrong[len(wrong)-1]
	containerd := s.start(t, "grpc", s.collector.GRPC, "10.0.0.0/8")
	for _, name := range []string{lab.HubName, lab.ECRName} {
		check(t, containerd.Clear(t.Context()))
		check(t, containerd.Pull(t.Context(), name+":0.1.19"))
	}
	if containerd.Pull(t.Context(), replaced.Image) == nil {
		t.Fatal("a replaced layer was served")
	}
	containerd.Stop()
	refused := s.refusals(t)
	secrets := s.askWithSecrets(t)
	s.mirror.Process.Stop() // which sends the rest
	all := spans(s.collector.Spans())

	for name, published := range map[string]lab.Release{lab.HubName: s.release.Hub, lab.ECRName: s.release.ECR} {
		t.Run(name, func(t *testing.T) {
			pull := all.pull(t, name, "0.1.19", linked)
			own := ownImage(t, published)
			for _, want := range append([]lab.Blob{published.Top(), own.Manifest, own.Config}, own.Layers...) {
				pull.one(t, "oci.manifest.digest", want.Digest().String(), "http.request.method", "GET")
			}
			tag := pull.one(t, "http.request.method", "HEAD")
			conventional(t, tag, name, "miss")
			if got := fmt.Sprint(tag.Attributes["container.image.tags"]); got != "[0.1.19]" {
				t.Errorf("the tag's span has the tags %s", got)
			}
			// From the last layer back to what was signed, whatever the client tells.
			last := pull.one(t, "oci.manifest.digest", own.Layers[len(own.Layers)-1].Digest().String())
			conventional(t, last, name, "miss", "shared", "hit") // it is fetched ahead
			way := all.behind(last)
			layer := way.named(t, "verify.layer", own.Layers[len(own.Layers)-1])
			all.behind(layer).named(t, "GET blob", lab.Blob{})
			if name == lab.HubName {
				way.named(t, "verify.index", published.Top())
				return
			}
			if copied := way.named(t, "verify.copy", lab.Blob{}); fmt.Sprint(copied.Attributes["container.image.tags"]) != "[0.1.19]" {
				t.Errorf("the copy's span: %v", copied)
			}
		})
	}
	t.Run("trust", func(t *testing.T) {
		tag := all.pull(t, lab.HubName, "0.1.19", linked).one(t, "http.request.method", "HEAD")
		refresh := all.named(t, "trust.refresh", lab.Blob{}) // perhaps before anybody asked
		for _, span := range []collector.Span{all.behind(tag).named(t, "trust.resolve", lab.Blob{}), refresh} {
			versions := fmt.Sprint(span.Attributes["trustmirror.role_versions"])
			if span.Attributes["trustmirror.source"] != "notary" || !strings.Contains(versions, "timestamp=") {
				t.Errorf("%s: %v", span.Name, span.Attributes)
			}
		}
		all.behind(refresh).named(t, "GET metadata", lab.Blob{})
	})
	t.Run("refusal", func(t *testing.T) {
		for _, r := range refused {
			span := all.of("trustmirror").kept(func(s collector.Span) bool { return s.TraceID == r.TraceID }).one(t, "trustmirror.verdict", "refused")
			if span.Attributes["trustmirror.reason"] != replaced.Reason || span.Attributes["container.image.name"] != lab.ECRName ||
				span.Attributes["http.response.status_code"] != int64(http.StatusForbidden) {
				t.Errorf("the refusal's span: %v", span)
			}
		}
		first := refused[len(refused)-1]
		span := all.of("trustmirror").kept(func(s collector.Span) bool { return s.TraceID == first.TraceID })[0]
		layer := all.behind(span).named(t, "verify.layer", lab.Blob{})
		if layer.Attributes["trustmirror.reason"] != replaced.Reason || layer.Attributes["trustmirror.verdict"] != "refused" {
			t.Errorf("the layer's span: %v", layer)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		var times int64
		for _, r := range refused {
			times += 1 + r.Repeated
		}
		if got := s.collector.Counted("trustmirror.refusals", "reason")[replaced.Reason]; got != times {
			t.Errorf("%d refusals were counted, not %d", got, times)
		}
		if got := s.collector.Counted("trustmirror.requests", "outcome"); got["served"] < 12 || got["refused"] < 1 {
			t.Errorf("requests were counted as %v", got)
		}
	})
	t.Run("no secrets", func(t *testing.T) {
		text, err := s.collector.Text()
		check(t, err)
		for what, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the %s was sent", what)
			}
		}
	})
}

// TestTracedPullOfTrustedPeer has the mirror continue the traces of its clients, and do
// without the collector when that is away.
func TestTracedPullOfTrustedPeer(t *testing.T) {
	s := newTracedSite(t)
	t.Run("trusted", func(t *testing.T) {
		containerd := s.start(t, "http/protobuf", s.collector.HTTP, "127.0.0.0/8")
		check(t, containerd.Pull(t.Context(), lab.HubName+":0.1.19"))
		containerd.Stop()
		s.mirror.Process.Stop()
		own := ownImage(t, s.release.Hub)
		pull := spans(s.collector.Spans()).pull(t, lab.HubName, "0.1.19", child)
		for _, layer := range own.Layers {
			pull.one(t, "oci.manifest.digest", layer.Digest().String())
		}
	})
	check(t, s.collector.Close(context.WithoutCancel(t.Context())))
	t.Run("nobody takes it", func(t *testing.T) {
		t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
		t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
		containerd := s.start(t, "http/protobuf", s.collector.HTTP, "10.0.0.0/8")
		for _, name := range []string{lab.HubName, lab.ECRName} {
			check(t, containerd.Pull(t.Context(), name+":0.1.19"))
		}
		s.mirror.Process.Stop()
		log, err := os.ReadFile(s.mirror.Process.LogFile)
		check(t, err)
		if said := strings.Count(string(log), "telemetry"); said < 1 || said > 2 { // the second time of what was left at the end
			t.Errorf("the log says %d times that nobody takes it:\n%s", said, log)
		}
	})
}

// refusal is as much of /api/v1/refusals as is looked at.
type refusal struct {
	TraceID  string `json:"trace_id"`
	Repeated int64  `json:"repeated"` // containerd asks twice
}

// refusals returns the latest, the newest first.
func (s tracedSite) refusals(t *testing.T) []refusal {
	t.Helper()
	body, _, err := get(t.Context(), http.DefaultClient, s.mirror.AdminURL+"/api/v1/refusals")
	check(t, err)
	var answer struct {
		Refusals []refusal `json:"refusals"`
	}
	check(t, json.Unmarshal([]byte(body), &answer))
	if len(answer.Refusals) == 0 {
		t.Fatalf("the status page has no refusals: %s", body)
	}
	return answer.Refusals
}

// askWithSecrets asks the mirror with secrets wherever a client may put one, and
// returns them.
func (s tracedSite) askWithSecrets(t *testing.T) map[string]string {
	t.Helper()
	secrets := map[string]string{}
	for _, what := range []string{"query", "password", "cookie", "baggage"} {
		secrets[what] = rand.Text()
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.mirror.URL+lab.ManifestPath(lab.Repository, "0.1.19")+"?ns=docker.io&token="+secrets["query"], nil)
	check(t, err)
	request.SetBasicAuth("user", secrets["password"])
	request.Header.Set("Cookie", "session="+secrets["cookie"])
	request.Header.Set("Baggage", "key="+secrets["baggage"])
	client, err := s.lab.Client(mirrorName)
	check(t, err)
	response, err := client.Do(request)
	check(t, err)
	check(t, response.Body.Close())
	if response.StatusCode != http.StatusOK {
		t.Errorf("a request with secrets: %s", response.Status)
	}
	return secrets
}
