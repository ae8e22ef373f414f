package e2e

import (
	"strings"
	"testing"
)

// TestVerifyRefuses has trustmirror itself look at what TestClients has the clients pull
// and not get.
func TestVerifyRefuses(t *testing.T) {
	s := newSite(t)
	all, err := s.world.PublishWrong(t.Context())
	check(t, err)
	s.serve(t)
	for _, wrong := range all {
		t.Run(wrong.What, func(t *testing.T) {
			out, status, err := s.mirror.Run(t.Context(), "verify", "--layers", wrong.Image)
			if status != 1 || !strings.Contains(out+err.Error(), wrong.Reason) {
				t.Errorf("trustmirror verify ended with status %d, want 1 and %s: %v", status, wrong.Reason, err)
			}
		})
	}
}
