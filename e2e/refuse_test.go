package e2e

import (
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
)

// TestRefuse has every client, configured to fail closed, pull what must not be
// had: it ends up with no image, and has asked nobody but the mirror.
func TestRefuse(t *testing.T) {
	s := newSite(t)
	all, err := s.world.PublishWrong(t.Context())
	check(t, err)
	s.serve(t)
	clients := s.clients(t)
	for _, wrong := range all {
		for _, client := range clients {
			t.Run(wrong.What+"/"+client.name, func(t *testing.T) {
				check(t, client.Clear(t.Context()))
				if err := client.Pull(t.Context(), wrong.Image); err == nil {
					t.Errorf("%s was pulled", wrong.Image)
				}
				images, err := client.Images(t.Context())
				check(t, err)
				if len(images) > 0 {
					t.Errorf("the node has images: %q", images)
				}
				s.nobodyAskedOrigin(t)
			})
		}
		t.Run(wrong.What+"/verify", func(t *testing.T) {
			out, status, err := s.mirror.Run(t.Context(), "verify", "--layers", wrong.Image)
			if status != 1 || !strings.Contains(out+err.Error(), wrong.Reason) {
				t.Errorf("trustmirror verify ended with status %d, want 1 and %s: %v", status, wrong.Reason, err)
			}
		})
	}
}

// TestFailingOpenIsNoticed is the proof of TestRefuse: clients that are not
// configured to fail closed do reach the origin, get what is refused, and are
// found out.
func TestFailingOpenIsNoticed(t *testing.T) {
	s := newSite(t)
	all, err := s.world.PublishWrong(t.Context())
	check(t, err)
	unsigned := all[0]
	s.serve(t)

	transparent := s.nodeSite()
	transparent.Hosts = hostsOfOrigin()
	dockerd, err := node.StartDockerd(t.Context(), transparent, "--registry-mirror=https://"+mirrorName)
	check(t, err)
	s.upstreamRequests()
	check(t, dockerd.Pull(t.Context(), unsigned.Image))
	images, err := dockerd.Images(t.Context())
	check(t, err)
	if len(images) == 0 || len(s.origin.Requests()) == 0 {
		t.Errorf("dockerd with a registry mirror should have gone to the origin; it has %q", images)
	}
	if !strings.HasPrefix(unsigned.Image, lab.HubName) {
		t.Errorf("%s isn't on Docker Hub, and a registry mirror only stands for that", unsigned.Image)
	}
}
