package e2e

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
)

// The image that is signed by Docker's own client, and that client's user.
const (
	signedByDocker = "lab/app"
	dockerUser     = "alice"
)

// TestSignedByDocker signs two tags with "docker trust sign", and goes on, a year
// after the notary server stopped, with what Docker's client left behind: first
// with what signing left, which lacks the last tag, and then with what "docker
// trust inspect" made of it.
func TestSignedByDocker(t *testing.T) {
	s := newSite(t)
	clients := s.bothClients(t)
	author := newAuthor(t, s)
	first, second := singleDiffering(t, "1.0"), singleDiffering(t, "1.1")
	author.releases(t, s, "1.0", first)
	author.releases(t, s, "1.1", second)

	rule := lab.Rule{
		Signed: "docker.io/" + signedByDocker, Copies: []string{"public.ecr.aws/" + signedByDocker},
		Notary: s.world.Notary.URL, Pins: s.inspectedPins(t),
	}
	left, completed := s.newOperator(t, rule), s.newOperator(t, rule)
	keep := func(o *operator) {
		check(t, os.CopyFS(filepath.Join(o.dir, ".docker", "trust"), os.DirFS(filepath.Join(author.config, "trust"))))
	}
	keep(left)
	_, err := author.docker.Docker(t.Context(), author.env, "trust", "inspect", signedByDocker)
	check(t, err)
	keep(completed)
	s.world.Notary.End()

	images := func(tag string) []string {
		return []string{rule.Signed + ":" + tag, rule.Copies[0] + ":" + tag}
	}
	for _, o := range []*operator{left, completed} {
		o.aYearLater()
		o.typed(t, "trustmirror trust export -c config.yaml --from ~/.docker/trust -o app.tar "+signedByDocker)
		o.paste(t, o.printed)
	}
	t.Run("as docker trust sign left it", func(t *testing.T) {
		left.typed(t, "trustmirror serve -c config.yaml")
		s.pulled(t, clients, imageID(t, first.Hub), images("1.0")...)
		if answer := s.askManifest(t, rule.Signed, "1.1"); answer.reason != "unsigned_tag" {
			t.Errorf("tag 1.1, of which the folder knows nothing, answered %+v", answer)
		}
	})
	t.Run("after docker trust inspect", func(t *testing.T) {
		completed.typed(t, "trustmirror serve -c config.yaml")
		s.pulled(t, clients, imageID(t, first.Hub), images("1.0")...)
		s.pulled(t, clients, imageID(t, second.Hub), images("1.1")...)
	})
}

// author publishes and signs with Docker's client alone.
type author struct {
	docker *node.Dockerd
	config string // the client's folder
	env    []string
}

// newAuthor starts a daemon that reaches the registries themselves.
func newAuthor(t *testing.T, s *site) *author {
	t.Helper()
	daemon, err := node.StartDockerd(t.Context(), s.machine(t, ""))
	check(t, err)
	a := &author{docker: daemon, config: t.TempDir()}
	a.env = append(dockerTrust(t, s, a.config),
		"DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE="+rand.Text(), "DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE="+rand.Text())
	// Docker names the signer after who is logged in.
	login, err := json.Marshal(map[string]any{"auths": map[string]any{
		"https://index.docker.io/v1/": map[string][]byte{"auth": []byte(dockerUser + ":" + rand.Text())},
	}})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(a.config, "config.json"), login, 0o600))
	return a
}

// releases has Docker's client push and sign a tag, and puts its copy on ECR.
func (a *author) releases(t *testing.T, s *site, tag string, release lab.Published) {
	t.Helper()
	check(t, s.world.Hub.Push(t.Context(), signedByDocker, tag, release.Hub))
	check(t, s.world.ECR.Push(t.Context(), signedByDocker, tag, release.ECR))
	image := signedByDocker + ":" + tag
	check(t, a.docker.Pull(t.Context(), image))
	_, err := a.docker.Docker(t.Context(), a.env, "trust", "sign", image)
	check(t, err)
	s.askedOrigin(t) // the author's own daemon may ask it
}

// inspectedPins are the keys that "docker trust inspect" prints to somebody else.
func (s *site) inspectedPins(t *testing.T) lab.Pins {
	t.Helper()
	printed, err := lab.Run(t.Context(), dockerTrust(t, s, t.TempDir()), "docker", "trust", "inspect", signedByDocker)
	check(t, err)
	type keys []struct {
		ID string `json:"ID"`
	}
	var repositories []struct {
		Signers, AdministrativeKeys []struct {
			Name string `json:"Name"`
			Keys keys   `json:"Keys"`
		}
	}
	check(t, json.Unmarshal(printed, &repositories))
	ids := func(keys keys) (ids []string) {
		for _, key := range keys {
			ids = append(ids, key.ID)
		}
		return ids
	}
	pins := lab.Pins{Signers: map[string][]string{}}
	for _, signer := range repositories[0].Signers {
		pins.Signers[signer.Name] = ids(signer.Keys)
	}
	for _, administrative := range repositories[0].AdministrativeKeys {
		switch administrative.Name {
		case "Root":
			pins.Root = ids(administrative.Keys)
		case "Repository":
			pins.Repository = ids(administrative.Keys)
		}
	}
	return pins
}
