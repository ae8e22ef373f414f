package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// publishedDigest stands in the document for what Webdis's author signed as 0.1.19.
const publishedDigest = "sha256:5de58646bae3ee52e05a65672532120b094682b79823291031ccb41533c21667"

// TestAfterNotary does what docs/after-notary.md says, command by command, and
// stops the notary server for good where the document says so. From then on the
// clock of trustmirror is a year ahead.
func TestAfterNotary(t *testing.T) {
	s := newSite(t)
	g := readGuide(t)
	clients := s.bothClients(t)
	first, release := multi(t, "0.1.18"), multi(t, "0.1.19")
	s.push(t, "0.1.18", first)
	rule, err := s.world.Rule()
	check(t, err)
	archived, served, inspected, bare := s.newOperator(t, rule), s.newOperator(t, rule), s.newOperator(t, rule), s.newOperator(t, rule)
	older := archived.typed(t, "trustmirror trust export -c config.yaml -o older.tar nicolas/webdis")
	s.push(t, "0.1.19", release)

	for _, title := range []string{
		"See what you rely on", "Make an archive", "Look at it", "Keep what Docker's client has", "Make it again in the last days",
	} {
		g.follow(t, archived, title)
	}
	served.typed(t, "trustmirror serve -c config.yaml")
	s.pulled(t, clients[1:], imageID(t, release.Hub), bothNames("0.1.19")...)
	inspected.typed(t, "docker trust inspect nicolas/webdis")

	s.stopServing()
	s.world.Notary.End()
	for _, o := range []*operator{archived, served, inspected, bare} {
		o.aYearLater()
	}
	archive := func(t *testing.T, o *operator) {
		o.paste(t, o.printed)
		g.follow(t, o, "With an archive")
		s.pulled(t, clients, imageID(t, release.Hub), bothNames("0.1.19")...)
	}
	t.Run("with an archive", func(t *testing.T) {
		archive(t, archived)
	})
	t.Run("from the mirror's state", func(t *testing.T) {
		served.typed(t, "trustmirror serve -c config.yaml")
		answer := s.askManifest(t, lab.HubName, "0.1.19")
		if answer.reason != "metadata_expired" || !strings.Contains(answer.message, "timestamp") || !strings.Contains(answer.message, "trustmirror trust export") {
			t.Errorf("a year on, the live source answered %+v", answer)
		}
		g.follow(t, served, "Without an archive, if a mirror has served the image")
		archive(t, served)
	})
	t.Run("from the folder of docker trust inspect", func(t *testing.T) {
		inspected.refused(t, "trustmirror verify -c config.yaml nicolas/webdis:0.1.19", 2, "trust_unavailable")
		g.follow(t, inspected, "Without an archive, if somebody used Docker Content Trust")
		archive(t, inspected)
	})
	t.Run("with digests", func(t *testing.T) {
		for _, s := range g.sections {
			for i, line := range s.config {
				s.config[i] = strings.ReplaceAll(line, publishedDigest, release.Hub.Top().Digest().String())
			}
		}
		g.follow(t, bare, "With neither")
		s.pulled(t, clients, imageID(t, release.Hub), bothNames("0.1.19")...)
		bare.refused(t, "trustmirror verify -c config.yaml nicolas/webdis:0.1.18", 1, "unsigned_tag")
	})
	t.Run("going back", func(t *testing.T) {
		s.stopServing()
		archived.paste(t, older)
		archived.servesNot(t, "rollback", "trustmirror trust reset")
		g.follow(t, archived, "Going back on purpose")
		archived.typed(t, "trustmirror serve -c config.yaml")
		s.pulled(t, clients, imageID(t, first.Hub), bothNames("0.1.18")...)
		archived.refused(t, "trustmirror verify -c config.yaml nicolas/webdis:0.1.19", 1, "unsigned_tag")
	})
	g.allFollowed(t)
}

// TestWebdisWithoutNotary checks the configuration that needs no notary.
func TestWebdisWithoutNotary(t *testing.T) {
	program := filepath.Join(os.Getenv(isolated), "trustmirror")
	out, err := lab.Run(t.Context(), nil, "sh", "-c", `cd .. && "$0" config check deploy/webdis/config.yaml`, program)
	check(t, err)
	if want := "config.yaml is right\n"; !strings.HasSuffix(string(out), want) {
		t.Errorf("config check printed\n%swant at its end\n%s", out, want)
	}
}
