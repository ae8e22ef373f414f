package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
)

var update = flag.Bool("update", false, "write the table of clients into docs/clients.md anew")

// TestClients has each client, with exactly what `trustmirror client` wrote, pull what
// is signed, and pull what must not be had: then it has no image, and nobody has so
// much as connected to the origin. Without those files it ends up there, which is the
// proof that this would have been noticed. The table of it all is in docs/clients.md.
func TestClients(t *testing.T) {
	s := newSite(t)
	s.push(t, "0.1.19", multi(t, "0.1.19"))
	wrong, err := s.world.PublishWrong(t.Context())
	check(t, err)
	unsigned := wrong[0]
	wrong = append(wrong, lab.Wrong{What: unsigned.What, Image: strings.Replace(unsigned.Image, lab.HubName, lab.ECRName, 1)})
	s.serve(t)
	clients := s.clients(t)
	rows := make([][]string, len(clients))
	for i, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			rows[i] = []string{c.name, "`" + c.kind + "`"}
			for _, image := range bothNames("0.1.19") {
				rows[i] = append(rows[i], s.pullsSigned(t, c, image))
			}
			for _, w := range wrong {
				rows[i] = append(rows[i], s.isRefused(t, c, w.Image))
			}
		})
	}
	for _, c := range clients {
		check(t, c.machine.Undo())
	}
	for i, c := range clients {
		t.Run(c.name+" without its files", func(t *testing.T) {
			rows[i] = append(rows[i], s.goesRound(t, c, unsigned.Image))
		})
	}
	if t.Failed() || slices.ContainsFunc(rows, func(row []string) bool { return row == nil }) {
		return // and leave the table alone: -run may have left out some
	}
	newTable(wrong, rows).compare(t, "../docs/clients.md")
}

// pullsSigned is what the table says of an image that may be had.
func (s *site) pullsSigned(t *testing.T, c client, image string) string {
	t.Helper()
	check(t, c.Clear(t.Context()))
	check(t, c.Pull(t.Context(), image))
	got, err := c.ImageID(t.Context(), image)
	check(t, err)
	if want := imageID(t, multi(t, "0.1.19").Hub); got != want {
		t.Errorf("%s has the image ID %s, want %s", image, got, want)
	}
	s.nobodyAskedOrigin(t)
	check(t, c.Clear(t.Context()))
	return "pulled"
}

// isRefused is what the table says of an image that must not be had.
func (s *site) isRefused(t *testing.T, c client, image string) string {
	t.Helper()
	if err := c.Pull(t.Context(), image); err == nil {
		t.Errorf("%s was pulled", image)
	}
	images, err := c.Images(t.Context())
	check(t, err)
	if len(images) > 0 {
		t.Errorf("after %s the node has images: %q", image, images)
	}
	s.nobodyAskedOrigin(t)
	return "refused"
}

// goesRound has a client without the files of `trustmirror client` pull what was
// refused. It tries for a while: dockerd looks at /etc/hosts every five seconds.
func (s *site) goesRound(t *testing.T, c client, image string) string {
	t.Helper()
	err := c.Pull(t.Context(), image)
	for began := time.Now(); err != nil && time.Since(began) < 20*time.Second; err = c.Pull(t.Context(), image) {
		time.Sleep(time.Second)
	}
	check(t, err)
	if len(s.askedOrigin(t)) == 0 {
		t.Errorf("it pulled %s, and wasn't seen to ask the origin", image)
	}
	check(t, c.Clear(t.Context()))
	return "from the registry"
}

// table is what TestClients saw, in Markdown.
type table struct {
	rows [][]string
}

func newTable(wrong []lab.Wrong, rows [][]string) *table {
	head := []string{"client", "`trustmirror client`", "signed, Docker Hub", "signed, ECR"}
	for _, w := range wrong {
		where := "Docker Hub"
		if strings.HasPrefix(w.Image, lab.ECRName) {
			where = "ECR"
		}
		head = append(head, w.What+" ("+where+")")
	}
	head = append(head, wrong[0].What+", without the files")
	rule := slices.Repeat([]string{"---"}, len(head))
	return &table{append([][]string{head, rule}, rows...)}
}

func (t *table) String() string {
	var b strings.Builder
	for _, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}

// compare prints the table and compares it with the one in a file, or writes it there.
func (t *table) compare(test *testing.T, file string) {
	test.Helper()
	fmt.Print(t)
	const begin, end = "<!-- matrix:begin -->\n", "<!-- matrix:end -->"
	text, err := os.ReadFile(file)
	check(test, err)
	before, rest, found := strings.Cut(string(text), begin)
	there, after, complete := strings.Cut(rest, end)
	switch {
	case !found || !complete:
		test.Errorf("%s has no %s%s", file, begin, end)
	case there == t.String():
	case *update:
		check(test, os.WriteFile(file, []byte(before+begin+t.String()+end+after), 0o600))
	default:
		test.Errorf("%s has another table; run this test with -update, and read the difference:\n%s", file, there)
	}
}

// TestRegistryMirrorsFailOpen shows that dockerd, told of the mirror by registry-mirrors
// alone, goes round it, and that doctor says so.
func TestRegistryMirrorsFailOpen(t *testing.T) {
	s := newSite(t)
	wrong, err := s.world.PublishWrong(t.Context())
	check(t, err)
	s.serve(t)
	machine := s.machine(t, "")
	check(t, machine.Trust(s.lab.MirrorCA))
	check(t, os.Mkdir(filepath.Join(machine.Root, "etc/docker"), 0o755))
	daemon := fmt.Sprintf("{\n  \"registry-mirrors\": [%q]\n}\n", "https://"+mirrorName)
	check(t, os.WriteFile(filepath.Join(machine.Root, "etc/docker/daemon.json"), []byte(daemon), 0o600))
	dockerd, err := node.StartDockerd(t.Context(), machine)
	check(t, err)
	s.upstreamRequests()
	check(t, dockerd.Pull(t.Context(), wrong[0].Image))
	if asked := s.askedOrigin(t); len(asked) == 0 {
		t.Error("the image that was pulled didn't come from the origin")
	}
	report, status := diagnose(t, machine, "--client", "docker", "--registry", "docker.io", "--docker-store", dockerd.Store(t.Context()))
	found := report.of("docker.io")
	if found.State != "open" || found.Trap != "registry_mirrors" || found.File != "/etc/docker/daemon.json" || found.Line != 2 || status != 1 {
		t.Errorf("doctor ended with status %d and found %+v", status, found)
	}
}
