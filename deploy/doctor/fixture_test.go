package doctor

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/trustmirror/trustmirror/verify"
)

var update = flag.Bool("update", false, "write what fixtures want anew")

// fixture is an archive in testdata; its README says how they are made.
type fixture struct {
	file    string
	archive *txtar.Archive
	options Options
	want    string
}

func readFixture(t *testing.T, file string) *fixture {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ca := newCA(t)
	node := fstest.MapFS{}
	f := &fixture{file: file, archive: archive}
	for _, file := range archive.Files {
		if file.Name == "WANT" {
			f.want = string(file.Data)
			continue
		}
		node[file.Name] = &fstest.MapFile{Data: bytes.ReplaceAll(file.Data, []byte("{{ca}}\n"), ca)}
	}
	settings := settingsOf(string(archive.Comment))
	asker := &fakeAsker{ca: ca, answers: map[string]string{"mirror.example": "refuses"}}
	for _, answer := range strings.Fields(settings["answers"]) {
		host, kind, _ := strings.Cut(answer, "=")
		asker.answers[host] = kind
	}
	f.options = Options{
		Node: node, Asker: asker, Tag: "doctor", Registries: []string{"docker.io"},
		Clients: strings.Fields(settings["clients"]), Mirrors: strings.Fields(settings["mirrors"]),
		ContainerdVersion: settings["containerd"], DockerStore: settings["docker-store"],
		Images: map[string][]string{"docker.io": strings.Fields(settings["images"])},
	}
	if registries := strings.Fields(settings["registries"]); len(registries) > 0 {
		f.options.Registries = registries
	}
	return f
}

func settingsOf(comment string) map[string]string {
	settings := make(map[string]string)
	for line := range strings.Lines(comment) {
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.Contains(name, " ") {
			settings[name] = strings.TrimSpace(value)
		}
	}
	return settings
}

// fakeAsker answers for hosts, or for addresses where the question names one.
type fakeAsker struct {
	ca      []byte
	answers map[string]string
	asked   []string
}

func (a *fakeAsker) Ask(_ context.Context, q Question) (Answer, error) {
	a.asked = append(a.asked, q.URL)
	u, err := url.Parse(q.URL)
	if err != nil {
		return Answer{}, err
	}
	host := u.Host
	if q.Address != "" {
		if host, _, err = net.SplitHostPort(q.Address); err != nil {
			return Answer{}, err
		}
	}
	ref := refOf(u)
	document := func(reason verify.Reason) []byte {
		return fmt.Appendf(nil, `{"errors":[{"code":"DENIED","message":"no","detail":{"reason":%q,"ref":%q}}]}`, reason, ref)
	}
	reason := verify.UnsignedTag
	if strings.Contains(ref, nobodysRepository) {
		reason = verify.NoPolicy
	}
	switch kind := a.answers[host]; {
	case kind == "private" && !q.SkipVerify && !bytes.Contains(q.CAs, a.ca) && !bytes.Contains(q.Roots, a.ca):
		return Answer{}, fmt.Errorf("%w: signed by unknown authority", ErrUntrusted)
	case kind == "refuses" || kind == "private":
		return Answer{403, document(reason)}, nil
	case kind == "serves":
		return Answer{200, []byte("{}")}, nil
	case kind == "other":
		return Answer{404, []byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)}, nil
	case kind == "auth":
		return Answer{401, document("unauthorized")}, nil
	case kind == "starting":
		return Answer{503, document(verify.TrustUnavailable)}, nil
	case kind == "confused":
		ref = "docker.io/library/other:doctor"
		return Answer{403, document(reason)}, nil
	}
	return Answer{}, errors.New("connection refused")
}

// refOf names what a request means, in trustmirror's order.
func refOf(u *url.URL) string {
	name, tag, _ := strings.Cut(strings.TrimPrefix(u.Path, "/v2/"), "/manifests/")
	registry := u.Query().Get("ns")
	first, rest, _ := strings.Cut(name, "/")
	switch {
	case registry != "":
	case u.Host != "mirror.example": // by the registry's own name
		registry = u.Host
	case strings.Contains(first, "."):
		registry, name = first, rest
	default:
		registry = "docker.io"
	}
	ref, err := verify.NewRef(registry, name, tag)
	if err != nil {
		return ""
	}
	return ref.String()
}

// text is a report as fixtures have it.
func text(r *Report) string {
	var b strings.Builder
	for _, m := range r.Mirrors {
		fmt.Fprintf(&b, "mirror %s %s %s\n\t%s\n", m.URL, m.State, m.Trap, m.Sentence)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s %s %s %s:%d\n\t%s\n", f.Client, f.Registry, f.State, f.Trap, f.File, f.Line, f.Sentence)
		for _, s := range []string{f.Fix, f.Warning} {
			if s != "" {
				fmt.Fprintf(&b, "\t%s\n", s)
			}
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	return strings.ReplaceAll(b.String(), "  ", " - ")
}

func TestFixtures(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[Trap]bool)
	for _, file := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".txtar"), func(t *testing.T) {
			f := readFixture(t, file)
			report, err := Check(t.Context(), f.options)
			if err != nil {
				t.Fatal(err)
			}
			f.compare(t, text(report))
			if filepath.Base(filepath.Dir(file)) == "closed" {
				if report.State != Closed {
					t.Errorf("not closed, but %s", report.State)
				}
				return
			}
			name, _, _ := strings.Cut(filepath.Base(file), ".")
			trap := Trap(name)
			if !slices.ContainsFunc(report.Findings, func(found Finding) bool { return found.Trap == trap && found.State != Closed && found.Fix != "" }) {
				t.Errorf("%s wasn't found", trap)
			}
			seen[trap] = true
		})
	}
	for _, trap := range traps(t) {
		if !seen[trap] {
			t.Errorf("the trap %s has no fixture", trap)
		}
	}
	if len(seen) != len(traps(t)) {
		t.Errorf("%d traps were seen, of %d", len(seen), len(traps(t)))
	}
}

func (f *fixture) compare(t *testing.T, got string) {
	t.Helper()
	if got == f.want {
		return
	}
	if !*update {
		t.Errorf("got\n%swant\n%s", got, f.want)
		return
	}
	f.archive.Files = slices.DeleteFunc(f.archive.Files, func(file txtar.File) bool { return file.Name == "WANT" })
	f.archive.Files = append(f.archive.Files, txtar.File{Name: "WANT", Data: []byte(got)})
	if err := os.WriteFile(f.file, txtar.Format(f.archive), 0o600); err != nil {
		t.Fatal(err)
	}
}

// traps are all constants of the type Trap, read from the source.
func traps(t *testing.T) []Trap {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "traps.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []Trap
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, value := range spec.Values {
				if literal, ok := value.(*ast.BasicLit); ok {
					code, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, Trap(code))
				}
			}
		}
		return true
	})
	if len(all) < 30 {
		t.Fatalf("only %d traps were found in traps.go", len(all))
	}
	return all
}
