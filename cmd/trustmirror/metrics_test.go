package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/proxy/upstream"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// scrape reads what a handler of /metrics answers.
func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("/metrics: %d %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

var (
	metricType  = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	metricHelp  = regexp.MustCompile(`(?m)^# HELP (\S+) (.*)$`)
	metricLabel = regexp.MustCompile(`(?m)^(trustmirror_\w+)\{(.*)\} \S+$`)
	labelName   = regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`)
)

// families lists our metrics in a scrape as docs/metrics.md does: a row by name.
func families(text string) map[string]string {
	kinds, labels := make(map[string]string), make(map[string]string)
	for _, m := range metricType.FindAllStringSubmatch(text, -1) {
		kinds[m[1]] = m[2]
	}
	for _, m := range metricLabel.FindAllStringSubmatch(text, -1) {
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && kinds[base] == "histogram" {
				name = base
			}
		}
		var names []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				names = append(names, l[1])
			}
		}
		labels[name] = strings.Join(names, ", ")
	}
	rows := make(map[string]string)
	for _, m := range metricHelp.FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(m[1], "trustmirror_") {
			rows[m[1]] = fmt.Sprintf("| `%s` | %s | %s | %s |", m[1], kinds[m[1]], labels[m[1]], m[2])
		}
	}
	return rows
}

// documented are the rows of docs/metrics.md, by name.
func documentedMetrics(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		if name, found := strings.CutPrefix(line, "| `"); found {
			name, _, _ = strings.Cut(name, "`")
			rows[name] = strings.TrimSpace(line)
		}
	}
	return rows
}

// docs/metrics.md lists what a mirror tells that has served, refused and refreshed,
// and nothing else.
func TestMetricsAreDocumented(t *testing.T) {
	documented := documentedMetrics(t)
	s := startServe(t, newLab(t).write(t, "    trust:\n", "    warm: {tags: [none-such]}\n    trust:\n"))
	for path, want := range map[string]int{
		"/v2/nicolas/webdis/manifests/0.1.19": 200, "/v2/nicolas/webdis/manifests/latest": 403, "/v2/other/image/manifests/1": 403,
	} {
		if status, body := s.get(path); status != want {
			t.Fatalf("%s: %d %s", path, status, body)
		}
	}
	s.line("trust refreshed")
	status, body := get(t, testClient, "http://"+s.admin+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, body)
	}
	told := families(string(body))
	maps.Copy(told, families(certificateMetrics(t)))
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if documented[name] != told[name] {
			t.Errorf("docs/metrics.md has\n%s\nwant\n%s", documented[name], told[name])
		}
	}
	for name := range documented {
		if told[name] == "" {
			t.Errorf("docs/metrics.md lists %s, which a mirror doesn't tell", name)
		}
	}
	for _, line := range []string{
		`trustmirror_requests_total{outcome="served",route="manifest",status="200"} 1`,
		`trustmirror_refusals_total{image="docker.io/nicolas/webdis",reason="unsigned_tag"} 1`,
		`trustmirror_refusals_total{image="",reason="no_policy"} 1`,
		`trustmirror_refusals_total{image="docker.io/nicolas/webdis",reason="layer_mismatch"} 0`,
		`trustmirror_request_failures_total{reason="no_policy",route="manifest"} 1`,
		`trustmirror_admissions_total{image="docker.io/nicolas/webdis",proof="signed"} 1`,
		`trustmirror_cache_requests_total{kind="manifest",result="miss"} 1`,
		`trustmirror_upstream_requests_total{kind="manifest",registry="docker.io",status="200"} 1`,
		`trustmirror_trust_refreshes_total{image="docker.io/nicolas/webdis",result="changed"} 1`,
		`trustmirror_trust_refreshes_total{image="docker.io/nicolas/webdis",result="failed"} 0`,
		`trustmirror_trust_version{image="docker.io/nicolas/webdis",role="targets"} 1`,
		`trustmirror_storage_objects 1`,
		`trustmirror_storage_writable 1`,
		`trustmirror_quarantines_total 0`,
		`trustmirror_cache_evictions_total{cause="max_size"} 0`,
		`trustmirror_cache_evicted_bytes_total{cause="disk_full"} 0`,
		`trustmirror_storage_excess_bytes 0`,
		`trustmirror_warm_missing{image="docker.io/nicolas/webdis"} 0`,
	} {
		if !strings.Contains(string(body), line+"\n") {
			t.Errorf("/metrics has no line %s:\n%s", line, grep(string(body), line))
		}
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if !strings.Contains(string(body), "\n"+name+" ") {
			t.Errorf("/metrics has no %s", name)
		}
	}
}

// grep shows the lines of the metric that a line is of.
func grep(text, line string) string {
	name, _, _ := strings.Cut(line, "{")
	var found []string
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, name) {
			found = append(found, l)
		}
	}
	return strings.Join(found, "")
}

// certificateMetrics is a scrape of a mirror that speaks TLS.
func certificateMetrics(t *testing.T) string {
	t.Helper()
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	expiries := func() []trustExpiry {
		return []trustExpiry{{Source: kindCertificate, File: "server.crt", Roles: []roleExpiry{{Role: kindCertificate, Left: 60}}}}
	}
	if err := m.watch(states{expiries: expiries}); err != nil {
		t.Fatal(err)
	}
	const name = "trustmirror_certificate_expiry_seconds"
	text := scrape(t, m.handler())
	return grep(text, "# HELP "+name) + grep(text, "# TYPE "+name) + grep(text, name)
}

// Counting what is asked most allocates nothing.
func TestCountingAllocatesNothing(t *testing.T) {
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	for name, count := range map[string]func(){
		"a request": func() {
			m.request(proxy.Event{Route: "manifest", Status: 200, Outcome: "served", Bytes: 772, Duration: time.Millisecond})
		},
		"a hit": func() { m.happened(verify.Event{Kind: verify.Opened, Cache: verify.CacheHit, Document: true}) },
	} {
		if n := testing.AllocsPerRun(1000, count); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Labels are the configuration's words and ours: what clients ask for makes no new
// ones, under a pattern neither.
func TestMetricsAreBounded(t *testing.T) {
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: "docker.io/myorg/*", Copies: []string{"public.ecr.aws/myorg/*"},
		Source: func(verify.Ref) (verify.Source, error) { return nil, errors.New("nobody asks it") },
	}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		for _, registry := range []string{"docker.io/myorg", "public.ecr.aws/myorg", "docker.io/other"} {
			ref, err := verify.ParseRef(fmt.Sprintf("%s/name%d:tag%[2]d", registry, i))
			if err != nil {
				t.Fatal(err)
			}
			m.decided(policy, verify.Decision{Ref: ref, Refusal: verify.Refuse(verify.UnsignedTag, "name%d", i)})
		}
	}
	m.decided(policy, verify.Decision{Refusal: verify.Refuse(verify.NoPolicy, "of a registry that isn't configured")})
	got := grep(scrape(t, m.handler()), "trustmirror_refusals_total")
	want := `trustmirror_refusals_total{image="",reason="no_policy"} 1
trustmirror_refusals_total{image="",reason="unsigned_tag"} 100
trustmirror_refusals_total{image="docker.io/myorg/*",reason="unsigned_tag"} 200
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What registries do is counted by registry, and a pause never gets shorter.
func TestUpstreamMetrics(t *testing.T) {
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.watch(states{expiries: func() []trustExpiry { return nil }}); err != nil {
		t.Fatal(err)
	}
	until := time.Unix(1_800_000_000, 0)
	for _, e := range []upstream.Event{
		{Registry: "docker.io", Kind: upstream.KindManifest, Status: 503},
		{Registry: "docker.io", Kind: upstream.KindManifest, Again: true, Err: errors.New("no answer")},
		{Registry: "docker.io", Kind: upstream.KindManifest, Status: 429, RestUntil: until, Again: true},
		{Registry: "docker.io", Kind: upstream.KindBlob, Status: 200, Bytes: 1000, Duration: 2 * time.Second},
		{Registry: "trust service notary.docker.io", Kind: upstream.KindMetadata, Status: 200},
	} {
		m.upstream(e)
	}
	m.refreshed("docker.io/nicolas/webdis", notary.Refreshed{Err: errors.New("gone")})
	text := scrape(t, m.handler())
	for _, line := range []string{
		`trustmirror_upstream_requests_total{kind="manifest",registry="docker.io",status="503"} 1`,
		`trustmirror_upstream_requests_total{kind="manifest",registry="docker.io",status="0"} 1`,
		`trustmirror_upstream_retries_total{kind="manifest",registry="docker.io"} 2`,
		`trustmirror_upstream_received_bytes_total{kind="blob",registry="docker.io"} 1000`,
		`trustmirror_upstream_request_duration_seconds_sum{kind="blob",registry="docker.io"} 2`,
		`trustmirror_upstream_limited_until_timestamp_seconds{registry="docker.io"} 1.8e+09`,
		`trustmirror_upstream_limited_until_timestamp_seconds{registry="notary.docker.io"} 0`,
		`trustmirror_trust_refreshes_total{image="docker.io/nicolas/webdis",result="failed"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in\n%s", line, grep(text, line))
		}
	}
}
