package proxy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// Requests for short names in lines of 60 KiB, each another one: what is remembered of
// them, here and by the gate, is the names, not the lines that they were a part of.
func TestAttack78_LongLinesAroundShortNames(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	for name, target := range map[string]string{
		"a scheme": long + "://mirror.example/v2/nicolas/webdis/manifests/%d",
		"a user":   "http://" + long + "@mirror.example/v2/nicolas/webdis/manifests/%d",
		"a query":  "/v2/nicolas/webdis/manifests/%d?ns=public.ecr.aws&" + long,
		"a blob's": "/v2/nicolas/webdis/blobs/sha256:%064d?" + long,
	} {
		t.Run(name, func(t *testing.T) {
			gate := &fakeGate{} // remembers what it is asked for
			server := newTestServer(t, gate)
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			const requests = 500
			before := heap()
			for i := range requests {
				fmt.Fprintf(conn, "HEAD "+target+" HTTP/1.1\r\nHost: mirror.example\r\n\r\n", i)
				resp, err := http.ReadResponse(answers, &http.Request{Method: http.MethodHead})
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatal(resp, err)
				}
				resp.Body.Close()
			}
			if asked := len(gate.askedFor()); asked != requests {
				t.Errorf("the gate was asked %d times", asked)
			}
			if grown := heap() - before; grown > 4<<20 {
				t.Errorf("%d requests left %d MiB in memory", requests, grown>>20)
			}
			runtime.KeepAlive(server)
			runtime.KeepAlive(gate)
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
