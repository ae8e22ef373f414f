package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestManifestRows runs the harness in its smallest form: every row is complete, and
// all servers delivered the same bytes. How fast they were is of no interest here.
func TestManifestRows(t *testing.T) {
	o := options{rows: regexp.MustCompile("^warm/manifest"), rounds: 2, short: true, through: link{time.Millisecond, 200 * mb}}
	got, err := measure(t.Context(), o, t.Output())
	check(t, err)

	peers := []string{proxyPeer, filesPeer}
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Log("without nginx, which isn't installed")
		peers = peers[:1]
	}
	for _, name := range append([]string{ours}, peers...) {
		if want := 2 * (3 + 5); got.Compared[name] != want { // a cold and a warm pull of three documents and five layers
			t.Errorf("%d objects of %s were compared, want %d", got.Compared[name], name, want)
		}
	}
	if len(got.Experiments) != 2 {
		t.Fatalf("%d experiments were run, want by tag and by digest", len(got.Experiments))
	}
	for _, x := range got.Experiments {
		for i, peer := range peers {
			c := x.Comparisons[i]
			if c.Of.Subject != ours || c.Against.Subject != peer || c.Ratio.Rounds != 2 || c.Of.Min <= 0 || c.Against.Min <= 0 {
				t.Errorf("%s against %s: %+v", x.Name, peer, c)
			}
		}
	}

	var table bytes.Buffer
	check(t, got.print(&table))
	rows := 0
	for line := range strings.Lines(table.String()) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if !strings.HasPrefix(line, "| warm/") || strings.Contains(line, filesPeer) && len(peers) == 1 {
			continue
		}
		rows++
		for _, cell := range cells {
			if strings.TrimSpace(cell) == "" || len(cells) != 7 {
				t.Errorf("an incomplete row: %s", line)
			}
		}
	}
	if want := 2 * len(peers); rows != want {
		t.Errorf("the table has %d rows, want %d:\n%s", rows, want, &table)
	}

	raw, err := json.Marshal(got)
	check(t, err)
	var again results
	check(t, json.Unmarshal(raw, &again))
	if !reflect.DeepEqual(&again, got) {
		t.Errorf("as JSON the results are others:\n%+v\n%+v", again, got)
	}
}

// TestPullComparesBytes has a server deliver something else than was published.
func TestPullComparesBytes(t *testing.T) {
	img, err := newImage(t.TempDir(), "small", []int64{300_000, 1000})
	check(t, err)
	again, err := newImage(t.TempDir(), "small", []int64{300_000, 1000})
	check(t, err)
	packed, copied := img.signed.Images[0], img.copy.Images[0]
	if again.signed.Top().Digest() != img.signed.Top().Digest() {
		t.Error("another run would make another image")
	}
	if packed.Config.Digest() != copied.Config.Digest() || packed.Layers[0].Digest() == copied.Layers[0].Digest() {
		t.Error("a copy has the signed config, and layers that are compressed in another way")
	}
	honest := map[string][]byte{
		lab.ManifestPath(signedRepository, "small"):                           img.signed.Top().Content,
		lab.ManifestPath(signedRepository, packed.Manifest.Digest().String()): packed.Manifest.Content,
		lab.BlobPath(signedRepository, packed.Config.Digest()):                packed.Config.Content,
		lab.BlobPath(signedRepository, packed.Layers[0].Digest()):             packed.Layers[0].Content,
		lab.BlobPath(signedRepository, packed.Layers[1].Digest()):             packed.Layers[1].Content,
	}
	serve := func(t *testing.T, change func([]byte) []byte, changed string) error {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			content, ok := honest[r.URL.Path]
			if !ok {
				http.NotFound(w, r)
				return
			}
			if r.URL.Path == changed {
				content = change(bytes.Clone(content))
			}
			_, _ = w.Write(content) // the client leaves
		}))
		defer server.Close()
		client := newPuller(server.URL)
		defer client.Close()
		_, err := client.pull(t.Context(), signedRepository, "small", img.signed)
		return err
	}
	check(t, serve(t, nil, ""))
	for path := range honest {
		for name, change := range map[string]func([]byte) []byte{
			"changed": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
			"short":   func(b []byte) []byte { return b[:len(b)-1] },
			"long":    func(b []byte) []byte { return append(b, 0) },
		} {
			if serve(t, change, path) == nil {
				t.Errorf("%s was %s, and nobody noticed", path, name)
			}
		}
	}
}

// TestShim sends bytes both ways, which takes the time that the way takes at least.
func TestShim(t *testing.T) {
	sent := newFiller("shim").file(300_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body) // the client tells
	}))
	defer server.Close()
	through := link{20 * time.Millisecond, 2 * mb}
	s, err := startShim(strings.TrimPrefix(server.URL, "http://"), through)
	check(t, err)
	defer s.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	started := time.Now()
	response, err := client.Post(s.URL(), "text/plain", bytes.NewReader(sent))
	check(t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	check(t, err)
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, which aren't the %d sent", len(got), len(sent))
	}
	// To connect, and to ask; and all pieces but the last had others before them.
	least := 2*through.RTT + time.Duration(len(sent)-shimPiece)*time.Second/time.Duration(through.Bandwidth)
	if took := time.Since(started); took < least {
		t.Errorf("it took %v, and takes %v at least", took, least)
	}
	s.Close()
	if again, err := client.Get(s.URL()); err == nil {
		t.Errorf("a closed shim answers %s", again.Status)
		check(t, again.Body.Close())
	}
}

// TestUpstreamCounts asks for the same, and for parts of it, with and without a token.
func TestUpstreamCounts(t *testing.T) {
	l, err := lab.New()
	check(t, err)
	defer func() { check(t, l.Remove()) }()
	u, err := startUpstream(l, link{})
	check(t, err)
	defer u.Close()
	client := newPuller(u.shim.URL())
	defer client.Close()
	ask := func(part string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, client.base+"/v2/any/manifests/one", nil)
		check(t, err)
		request.Header.Set("Range", part)
		request.Header.Set("Authorization", "Bearer "+client.token)
		response, err := client.http.Do(request)
		check(t, err)
		check(t, response.Body.Close())
	}
	ask("")
	check(t, client.login(t.Context()))
	for _, part := range []string{"", "", "bytes=0-1", "bytes=2-3"} {
		ask(part)
	}
	if most, all := u.count(); most != 2 || all != 4 {
		t.Errorf("%d times the same in %d requests, want 2 in 4", most, all)
	}
	if most, all := u.count(); most != 0 || all != 0 {
		t.Errorf("%d times the same in %d requests since then", most, all)
	}
}

func TestCompare(t *testing.T) {
	var m measurements
	for _, round := range []sample{{"MB/s": 10}, {"MB/s": 40}, {"MB/s": 20}, {"MB/s": 22}} {
		m.add("one", round)
	}
	for range 3 {
		m.add("other", sample{"MB/s": 20})
	}
	for _, test := range []struct {
		goal       goal
		ratio, met string
		figure     string
	}{
		{goal{"MB/s", "one", "other", atLeast(1)}, "1× (0.500–2)", "yes", "one 21 (10–40)"},
		{goal{"MB/s", "one", "other", atLeast(1.1)}, "1× (0.500–2)", "no", "one 21 (10–40)"},
		{goal{"MB/s", "one", "other", atMost(0.9)}, "1× (0.500–2)", "no", "one 21 (10–40)"},
		{goal{"MB/s", "one", "other", none()}, "1× (0.500–2)", "", "one 21 (10–40)"},
		{goal{"MB/s", "one", "", atMost(21)}, "", "yes", "one 21 (10–40)"},
		{goal{"MB/s", "one", "nobody", atLeast(1)}, "", "not measured", "one 21 (10–40)"},
		{goal{"MB/s", "nobody", "", atMost(1)}, "", "not measured", "nobody"},
	} {
		c := m.compare([]goal{test.goal})[0]
		if ratio(c.Ratio) != test.ratio || c.Met != test.met || c.Of.String() != test.figure {
			t.Errorf("%+v: %q, %q, %q", test.goal, ratio(c.Ratio), c.Met, c.Of)
		}
	}
}
