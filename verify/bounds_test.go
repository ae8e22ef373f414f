package verify

import (
	"context"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// What is remembered of refusals and searches is bounded, whatever is asked for.
func TestMemoriesAreBounded(t *testing.T) {
	driver, err := storage.NewDriver(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	source, err := NewDigestSource("docker.io/a/b", map[string]digest.Digest{"1": digest.FromString("1")})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := NewPolicy([]ImageRule{{Signed: "docker.io/a/b", Source: func(Ref) (Source, error) { return source, nil }}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGate(GateConfig{Policy: policy, Fetcher: noFetcher{}, Store: storage.New(driver)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for i := range maxRefusals + 100 {
		w := work{key: fmt.Sprint(i)}
		_, _, err := share(t.Context(), g, w, nil, func(context.Context) (int, error) { return 0, Refuse(NotAdmitted, "no") })
		if ReasonOf(err) != NotAdmitted {
			t.Fatal(err)
		}
	}
	for i := range maxWalked + 100 {
		g.walked.Add(fmt.Sprint(i), walked{})
	}
	if refusals, places := g.refused.Len(), g.walked.Len(); refusals != maxRefusals || places != maxWalked {
		t.Errorf("%d refusals and %d places are remembered", refusals, places)
	}
}

type noFetcher struct{ Fetcher }
