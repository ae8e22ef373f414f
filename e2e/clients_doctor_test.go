package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
)

// TestDoctorIsRight puts every configuration that doctor is tested with (the fixtures in
// deploy/doctor/testdata, with all the traps) before the real clients. Each pulls a tag
// that nobody signed, and doctor's verdict is compared with who was asked:
//
//	closed   nobody but the mirror
//	open     somebody else
//	unknown  nobody else, where doctor says that nothing can be pulled
func TestDoctorIsRight(t *testing.T) {
	s := newSite(t)
	wrong, err := s.world.PublishWrong(t.Context())
	check(t, err)
	tag := wrong[0].Image[strings.LastIndex(wrong[0].Image, ":")+1:]
	s.serve(t)
	s.serveWrongMirrors(t)
	for _, patient := range s.patients(t) {
		tried, verdicts := 0, map[string]int{}
		fixtures := fixturesFor(t, patient.client)
		slices.SortFunc(fixtures, func(a, b fixture) int { return strings.Compare(a.standing(), b.standing()) })
		var now *running // serves fixtures that differ in nothing that it reads at its start
		for _, f := range fixtures {
			t.Run(f.name+"/"+patient.name, func(t *testing.T) {
				if now == nil || now.standing != f.standing() {
					now.stop()
					now = s.run(t, f, patient)
				}
				f.writeHosts(t, s, now.machine)
				s.examine(t, f, patient.client, now, tag, verdicts)
			})
			tried++
		}
		now.stop()
		t.Logf("%s was tried with %d configurations: %v", patient.name, tried, verdicts)
	}
	for _, client := range []string{"crio", "k3s", "rke2", "buildkit"} {
		for _, f := range fixturesFor(t, client) {
			t.Logf("NOT TRIED, since there is no %s here: %s", client, f.name)
		}
	}
}

// patient is a client that is on this machine.
type patient struct {
	name   string
	client string // as doctor calls it
	// start starts it with a machine's configuration.
	start func(ctx context.Context, m *node.Machine) (running, error)
}

// running is a patient on its machine.
type running struct {
	node     node.Node
	daemon   interface{ Stop() } // nil: there is none
	flags    []string            // what doctor has to be told of it
	machine  *node.Machine
	startErr error
	standing string // of the fixture
}

// stop ends what runs, if anything does.
func (r *running) stop() {
	if r != nil && r.daemon != nil {
		r.daemon.Stop()
	}
}

// patients are the clients that are here.
func (s *site) patients(t *testing.T) []patient {
	t.Helper()
	docker := func(d *node.Dockerd, err error) (running, error) {
		r := running{node: d, daemon: d}
		if err == nil {
			r.flags = []string{"--docker-store", d.Store(t.Context())}
		}
		return r, err
	}
	all := []patient{
		{"podman", "podman", func(_ context.Context, m *node.Machine) (running, error) {
			n, err := node.NewPodman(m)
			return running{node: n}, err
		}},
		{"skopeo", "podman", func(_ context.Context, m *node.Machine) (running, error) {
			n, err := node.NewSkopeo(m)
			return running{node: n}, err
		}},
		{"dockerd-20.10", "docker", func(ctx context.Context, m *node.Machine) (running, error) {
			return docker(node.StartDockerd(ctx, m))
		}},
		{"dockerd-today", "docker", func(ctx context.Context, m *node.Machine) (running, error) {
			return docker(node.StartDockerdToday(ctx, m, built(t, "dockerd"), built(t, "containerd")))
		}},
	}
	for _, programs := range []string{"/usr/bin", built(t, "containerd")} {
		v := version(t, filepath.Join(programs, "containerd"))
		all = append(all, patient{"containerd-" + v, "containerd", func(ctx context.Context, m *node.Machine) (running, error) {
			r := running{flags: []string{"--containerd-version", v}}
			c, err := node.StartContainerd(ctx, m, programs)
			if c != nil {
				r.daemon = c
			}
			if err == nil {
				r.node, err = c.CRI(ctx)
			}
			return r, err
		}})
	}
	return all
}

// run starts a patient on a machine that is as a fixture says.
func (s *site) run(t *testing.T, f fixture, p patient) *running {
	t.Helper()
	machine := s.machine(t, "")
	f.write(t, s, machine)
	r, err := p.start(t.Context(), machine)
	r.machine, r.startErr, r.standing = machine, err, f.standing()
	return &r
}

// examine compares doctor's verdicts on a fixture with what the client does.
func (s *site) examine(t *testing.T, f fixture, client string, r *running, tag string, verdicts map[string]int) {
	for _, registry := range f.registries(client) {
		image := registry + "/" + f.setting("pull", lab.Repository) + ":" + tag
		pullErr := r.startErr
		s.askedOrigin(t)
		if pullErr == nil {
			check(t, r.node.Clear(t.Context()))
			pullErr = r.node.Pull(t.Context(), image)
		}
		asked := s.askedOrigin(t)
		flags := f.flags(client, registry)
		report, _ := diagnose(t, r.machine, slices.Concat(flags, r.flags)...)
		found := report.of(registry)
		goesRound := pullErr == nil || len(asked) > 0
		t.Logf("%s is %s %s: asked besides the mirror: %d; %s", registry, found.State, found.Trap, len(asked), lastLine(pullErr))
		verdicts[found.State]++
		switch {
		case found.State == "":
			t.Errorf("%s: doctor says nothing", registry)
		case found.State == "closed" && goesRound:
			t.Errorf("%s: doctor says that it is closed, but %q was asked for %s: %s", registry, asked, image, lastLine(pullErr))
		case found.State == "open" && !goesRound:
			t.Errorf("%s: doctor says that it is open, but nobody else was asked: %v", registry, pullErr)
		case found.State == "unknown" && strings.Contains(found.Sentence, "nothing can be pulled") && goesRound:
			t.Errorf("%s: doctor says that nothing can be pulled, but %q was asked for %s: %s", registry, asked, image, lastLine(pullErr))
		}
		// As in a pod, which sees the node's files, and knows nothing of what runs there.
		report, _ = diagnose(t, r.machine, append(flags, "--root", r.machine.Root)...)
		if state := report.of(registry).State; state == "" || state == "closed" && goesRound {
			t.Errorf("%s: doctor, not told what runs, says %q, but %q was asked for %s", registry, state, asked, image)
		}
	}
}

func lastLine(err error) string {
	if err == nil {
		return "pulled"
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return lines[len(lines)-1]
}

// report is what `trustmirror doctor -o json` prints.
type report struct {
	Findings []finding `json:"findings"`
}

type finding struct {
	Client, Registry, State, Trap, File, Sentence string
	Line                                          int
}

// of is the finding about a registry.
func (r report) of(registry string) finding {
	for _, f := range r.Findings {
		if f.Registry == registry {
			return f
		}
	}
	return finding{}
}

// diagnose runs doctor on a machine.
func diagnose(t *testing.T, machine *node.Machine, flags ...string) (r report, status int) {
	t.Helper()
	out, err := machine.Run(t.Context(), nil, program(), append([]string{"doctor", "-o", "json"}, flags...)...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if jsonErr := json.Unmarshal(out, &r); jsonErr != nil {
		t.Fatalf("doctor printed no report: %s %v", out, err)
	}
	if exit != nil {
		status = exit.ExitCode()
	}
	return r, status
}
