package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// TestWhoSigned signs tags in each role and in several, and asks for them with
// and without an order of roles.
func TestWhoSigned(t *testing.T) {
	s := newSite(t)
	ctx, publisher := t.Context(), s.world.Publisher
	one, other := multi(t, "0.1.19"), multi(t, "0.1.19-other")
	for _, tag := range []string{"delegation", "repository", "alike", "differently", "nobody"} {
		check(t, s.world.Push(ctx, tag, one))
	}
	check(t, s.world.Hub.Push(ctx, lab.Repository, "", other.Hub))
	asSigner := func(tag string, release lab.Published) {
		check(t, publisher.SignAs(ctx, lab.HubName, tag, release.Hub.Top(), lab.Signer))
	}
	asSigner("delegation", one)
	check(t, s.world.Sign(ctx, "repository", one))
	asSigner("alike", one)
	check(t, s.world.Sign(ctx, "alike", one))
	asSigner("differently", other)
	check(t, s.world.Sign(ctx, "differently", one))
	check(t, s.world.Publish(ctx))

	const refused = ""
	first, second := one.Hub.Top().Digest(), other.Hub.Top().Digest()
	orders := []struct {
		name  string
		order []string
		want  map[string]digest.Digest // by tag
		why   map[string]string        // the reasons of refusals
	}{
		{
			name: "no order",
			want: map[string]digest.Digest{"delegation": first, "repository": first, "alike": first, "differently": refused, "nobody": refused},
			why:  map[string]string{"differently": "roles_disagree", "nobody": "unsigned_tag"},
		},
		{
			name:  "the repository key wins",
			order: []string{"targets", "targets/releases", "targets/" + lab.Signer},
			want:  map[string]digest.Digest{"delegation": first, "repository": first, "alike": first, "differently": first, "nobody": refused},
			why:   map[string]string{"nobody": "unsigned_tag"},
		},
		{
			name:  "releases win, as with Docker's own client",
			order: []string{"targets/releases", "targets"},
			want:  map[string]digest.Digest{"delegation": first, "repository": first, "alike": first, "differently": second, "nobody": refused},
			why:   map[string]string{"nobody": "unsigned_tag"},
		},
	}
	rule, err := s.world.Rule()
	check(t, err)
	for _, order := range orders {
		rule.RoleOrder = order.order
		s.serve(t, rule)
		for tag, want := range order.want {
			t.Run(order.name+"/"+tag, func(t *testing.T) {
				answer := s.askManifest(t, lab.HubName, tag)
				if answer.reason != order.why[tag] || answer.digest != want {
					t.Errorf("got %d, %s %s, want %s %s", answer.status, answer.digest, answer.reason, want, order.why[tag])
				}
			})
		}
	}
}

// answer is what the mirror said to a request for a manifest.
type answer struct {
	status  int
	digest  digest.Digest // of the body, if it was served
	reason  string        // if it was refused
	message string        // if it was refused
}

// askManifest asks the mirror for a tag as podman does, by a path that names the
// registry.
func (s *site) askManifest(t *testing.T, name, tag string) answer {
	t.Helper()
	client, err := s.lab.Client(mirrorName)
	check(t, err)
	body, status, err := get(t.Context(), client, "https://"+mirrorName+lab.ManifestPath(name, tag))
	check(t, err)
	if status == http.StatusOK {
		return answer{status: status, digest: digest.FromString(body)}
	}
	var document struct {
		Errors []struct {
			Message string `json:"message"`
			Detail  struct {
				Reason string `json:"reason"`
			} `json:"detail"`
		} `json:"errors"`
	}
	if err := json.NewDecoder(strings.NewReader(body)).Decode(&document); err != nil || len(document.Errors) != 1 {
		t.Fatalf("%d isn't an OCI error document: %s", status, body)
	}
	return answer{status: status, reason: document.Errors[0].Detail.Reason, message: document.Errors[0].Message}
}
