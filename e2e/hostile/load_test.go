package hostile

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// large is a release for one platform with a layer of some MiB that doesn't compress.
func large(t *testing.T, mib int) lab.Release {
	t.Helper()
	content := make([]byte, mib<<20)
	source := rand.NewChaCha8([32]byte{byte(mib)})
	_, _ = source.Read(content) // never fails
	layer, err := lab.Layer(lab.File{Path: "large", Mode: 0o644, Content: content})
	check(t, err)
	build, err := lab.NewBuild(lab.Platforms()[0], ocispec.ImageConfig{}, layer)
	check(t, err)
	release, err := lab.ForHub().Single(build)
	check(t, err)
	return release
}

// ask opens a connection that asks for a path.
func (m *mirror) ask(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", m.Address)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, line("GET", path))
	check(t, err)
	return conn
}

// TestAttack29_SlowReaders has 300 clients read a layer a byte a second. Others
// don't notice.
func TestAttack29_SlowReaders(t *testing.T) {
	s := newSite(t, "slow")
	big := large(t, 8)
	s.push(t, "large", lab.Published{Hub: big, ECR: big})
	s.publish(t)
	m := startMirror(t, s)
	check(t, m.pull(t.Context(), s.signed(), "large", big))

	path := lab.BlobPath(s.signed(), big.Images[0].Layers[0].Digest())
	ctx, leave := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer leave()
	for range 300 {
		conn := m.ask(t, path)
		check(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
		_, err := conn.Read(make([]byte, 12)) // each is being served
		check(t, err)
		readers.Go(func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Errorf("a slow reader was cut off: %v", err)
					return
				}
			}
		})
	}
	before := time.Now()
	check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub)) // cold
	check(t, m.pull(t.Context(), s.copied(), tag, s.release.ECR)) // cold
	check(t, m.pull(t.Context(), s.signed(), "large", big))       // warm
	if took := time.Since(before); took > 20*time.Second {
		t.Errorf("three pulls took %v while others read slowly", took)
	}
	m.bounded(t)
}

// TestAttack29_ManyAskersForOneBlob has 1,000 clients ask for one cold layer, and
// 500 of them leave while it is fetched: the registry is asked once, and those who
// stay get it.
func TestAttack29_ManyAskersForOneBlob(t *testing.T) {
	s := newSite(t, "many")
	m := startMirror(t, s)
	layer := s.release.Hub.Images[0].Layers[1]
	_, err := m.get(t.Context(), lab.ManifestPath(s.signed(), tag))
	check(t, err)
	release := make(chan struct{})
	s.hub.set(at("/blobs/"+layer.Digest().String(), func(http.ResponseWriter, *http.Request, file) bool {
		<-release
		return false
	}))
	s.hub.counts() // the manifest has the layer fetched ahead
	_, err = m.get(t.Context(), lab.ManifestPath(s.signed(), s.release.Hub.Images[0].Manifest.Digest().String()))
	check(t, err)

	path := lab.BlobPath(s.signed(), layer.Digest())
	conns := make([]net.Conn, 1000)
	for i := range conns {
		conns[i] = m.ask(t, path)
	}
	for _, conn := range conns[:500] {
		check(t, conn.Close())
	}
	waitFor(t, "500 clients to be seen leaving", func() bool { return strings.Count(m.log(t, 0), "outcome=canceled") >= 500 })
	close(release)
	for _, conn := range conns[500:] {
		check(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		check(t, err)
		body, err := io.ReadAll(response.Body)
		check(t, err)
		check(t, response.Body.Close())
		if response.StatusCode != http.StatusOK || !bytes.Equal(body, layer.Content) {
			t.Fatalf("one of those who stayed got %s, %d bytes", response.Status, len(body))
		}
	}
	for path, n := range s.hub.counts() {
		if n != 1 {
			t.Errorf("the registry was asked %d times for %s", n, path)
		}
	}
	m.bounded(t)
}

// waitFor asks again and again whether something has come about.
func waitFor(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
