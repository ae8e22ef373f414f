package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// A host that a server names is a part of sentences that Docker prints on a terminal:
// it steers nothing there, and doesn't go on for ever.
func TestAttack81_HostsInSentences(t *testing.T) {
	evil := "\u202egnp.exe\u009b31m" + strings.Repeat("x", 100_000) + ".example"
	bearer := func(realm string) http.HandlerFunc {
		return answer(401, "", `WWW-Authenticate: Bearer realm="`+realm+`"`)
	}
	for name, s := range map[string]script{
		"a redirect": {manifestPath: redirect("http://" + evil + "/x")},
		"by https":   {manifestPath: redirect("https://" + evil + "/x")},
		"unknown":    {manifestPath: redirect("https://" + evil[:4] + "/x")},
		"disguised":  {manifestPath: redirect("https://" + strings.Repeat("x.", 50_000) + "127.1/x")},
		"a user":     {manifestPath: redirect("https://u@" + evil + "/x")},
		"encoded":    {manifestPath: redirect("http://%E2%80%AEgnp.exe%C2%9B31m/x")},
		"a realm":    {"/v2/": bearer("http://" + evil + "/token")},
		"by TLS":     {"/v2/": bearer("https://" + evil + "/token")},
		"a type":     {manifestPath: answer(200, "{}", "Content-Type: a/b\u202e"+evil, "Content-Encoding: "+evil)},
	} {
		t.Run(name, func(t *testing.T) {
			down := newServer(s)
			down.StartTLS()
			t.Cleanup(down.Close)
			c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: down.URL, CAFile: down.caFile(t)}}})
			err := manifest(t, c)
			wantReason(t, err, verify.UpstreamUnavailable, "")
			if words := err.Error(); words != verify.Printable(words) || len(words) > 5<<10 {
				t.Errorf("%d bytes: %.200q", len(words), words)
			}
		})
	}
}

// Addresses that belong to no public host, however they are written.
func TestAttack82_AddressesThatOnlySeemPublic(t *testing.T) {
	for address, want := range map[string]reach{
		"192.0.0.192":              forbiddenReach, // RFC 6890; a cloud keeps credentials there
		"198.18.0.1":               privateReach,   // RFC 2544
		"198.19.255.255":           privateReach,
		"fec0::1":                  privateReach, // RFC 3879
		"64:ff9b:1::a01:203":       privateReach, // RFC 8215
		"::127.0.0.1":              loopbackReach,
		"::10.0.0.1":               privateReach,
		"::169.254.169.254":        forbiddenReach,
		"64:ff9b::a9fe:a9fe":       forbiddenReach,
		"2002:a9fe:a9fe::1":        forbiddenReach,
		"::ffff:169.254.169.254":   forbiddenReach,
		"::ffff:0:169.254.169.254": forbiddenReach, // RFC 2765
		"192.0.1.1":                publicReach,
		"198.20.0.1":               publicReach,
		"2001:db8::1":              publicReach, // documentation: leads nowhere
	} {
		if got := reachOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is %v, want %v", address, got, want)
		}
	}
}

// Registries that begin to answer and then send just enough hold all downloads that
// there may be. What another one has is had all the same.
func TestAttack85_RegistriesThatHoldAllDownloads(t *testing.T) {
	ref, path := blobRef(t, "layer")
	slow := serve(t, script{path: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}})
	good := serve(t, script{path: answer(200, "layer")})
	registries := map[string]Registry{"hub.example": {URL: good.URL}}
	for i := range 5 {
		registries[fmt.Sprintf("slow%d.example", i)] = Registry{URL: slow.URL}
	}
	c := client(t, Config{Registries: registries})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := make(chan error)
	for name := range registries {
		if name == "hub.example" {
			continue
		}
		from := ref
		from.Registry = name
		for range c.opts.Limits.PerRegistry { // of 5 registries, more than there may be
			go func() {
				r, err := c.Blob(ctx, from)
				held <- err
				if err == nil {
					<-ctx.Done()
					_ = r.Close()
				}
			}()
		}
	}
	for range c.opts.Limits.Total {
		must(t, <-held)
	}
	done := make(chan string)
	go func() {
		for range 3 {
			got, err := readBlob(t, c, ref)
			done <- fmt.Sprint(got, " ", err)
		}
	}()
	for range 3 {
		select {
		case got := <-done:
			if got != "layer <nil>" {
				t.Error(got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing can be had from another registry")
		}
	}
	cancel()
	for range 5*c.opts.Limits.PerRegistry - c.opts.Limits.Total {
		<-held
	}
}
