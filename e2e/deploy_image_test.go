package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
)

const (
	goImage     = "lab/go:latest"          // stands for the official Go image
	builtImage  = "lab/trustmirror:latest" // what the Dockerfile makes
	imageUser   = "65532"
	maxImage    = 40_000_000 // bytes, uncompressed
	imageConfig = "/etc/trustmirror/config.yaml"
)

// TestDockerfile builds the image, runs it as it says itself, on a root file
// system that can't be written, and pulls through it with Docker.
func TestDockerfile(t *testing.T) {
	s := newSite(t)
	release := multi(t, "0.1.19")
	s.push(t, "0.1.19", release)
	check(t, s.world.Push(t.Context(), "0.1.11", release))                                // and not signed
	dockerd, err := node.StartDockerd(t.Context(), s.machine(t, ""), "--storage-driver=") // the best there is: vfs copies much
	check(t, err)
	d := docker{t, dockerd}
	d.build(s)
	if t.Failed() {
		return
	}
	t.Run("size", func(t *testing.T) { docker{t, dockerd}.size() })
	t.Run("the same program as outside of the image", func(t *testing.T) { docker{t, dockerd}.sameProgram(s) })
	t.Run("health check where nothing runs", func(t *testing.T) {
		_, err := dockerd.Docker(t.Context(), nil, "run", "--rm", "--network=host", "--read-only", builtImage, "healthcheck")
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("it is well where nothing runs: %v", err)
		}
	})
	address := d.start(s)
	d.healthy()
	d.confined()
	image := address + "/" + lab.Repository
	check(t, dockerd.Pull(t.Context(), image+":0.1.19"))
	id, err := dockerd.ImageID(t.Context(), image+":0.1.19")
	check(t, err)
	if want := imageID(t, release.Hub); id != want {
		t.Errorf("the image ID is %s, want %s", id, want)
	}
	if err := dockerd.Pull(t.Context(), image+":0.1.11"); err == nil {
		t.Error("a tag that isn't signed was pulled")
	}
	d.stops()
	s.nobodyAskedOrigin(t)
}

// docker runs Docker's client for a test.
type docker struct {
	t      *testing.T
	daemon *node.Dockerd
}

func (d docker) run(args ...string) string {
	d.t.Helper()
	// The builder of this daemon is in the daemon; clients of today look for another.
	out, err := d.daemon.Docker(d.t.Context(), []string{"DOCKER_BUILDKIT=0"}, args...)
	check(d.t, err)
	return strings.TrimSpace(string(out))
}

// build makes the image as the Dockerfile says, with this machine's Go.
func (d docker) build(s *site) {
	d.t.Helper()
	archive, err := lab.GoImage(d.t.Context(), os.Stdout)
	check(d.t, err)
	modules, err := s.lab.ProxyModules(d.t.Context())
	check(d.t, err)
	d.run("import", "--change", "ENV PATH=/usr/local/go/bin:/bin", "--change", "ENV GOTOOLCHAIN=local", archive, goImage)
	began := time.Now()
	d.run("build", "--network=host", "--tag", builtImage,
		"--build-arg", "GO_IMAGE="+goImage, "--build-arg", "GOPROXY="+modules, "--build-arg", "VERSION=v0.0.0-test", "..")
	d.t.Logf("built in %s", time.Since(began).Round(time.Second))
	if got := d.run("run", "--rm", "--network=none", "--read-only", builtImage, "version"); !strings.HasPrefix(got, "trustmirror v0.0.0-test, ") {
		d.t.Errorf("the program says %q", got)
	}
}

// size prints what the image weighs.
func (d docker) size() {
	var size int64
	check(d.t, json.Unmarshal([]byte(d.run("image", "inspect", "--format", "{{.Size}}", builtImage)), &size))
	container := d.run("create", builtImage)
	certificates := d.run("cp", container+":/etc/ssl/certs/ca-certificates.crt", "-")
	program := d.run("cp", container+":/trustmirror", "-")
	fmt.Printf("the image has %.1f MB: the program %.1f MB, CA certificates %.1f MB\n",
		float64(size)/1e6, float64(len(program))/1e6, float64(len(certificates))/1e6)
	if size > maxImage {
		d.t.Errorf("the image has %d bytes, more than %d", size, maxImage)
	}
	if size < int64(len(program))/2 {
		d.t.Errorf("the image has %d bytes, less than its program", size)
	}
}

// sameProgram builds the program again, in another folder, with another cache and
// without Docker: with the same Go and the same source it is the same, bit for bit.
func (d docker) sameProgram(s *site) {
	inside := filepath.Join(s.lab.Dir, "inside")
	d.run("cp", d.run("create", builtImage)+":/trustmirror", inside)
	outside := filepath.Join(s.lab.Dir, "outside")
	_, err := lab.Run(d.t.Context(), []string{"CGO_ENABLED=0"}, "go", "build", "-C", "..", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version=v0.0.0-test -X main.commit=", "-o", outside, "./cmd/trustmirror")
	check(d.t, err)
	var sums [2][sha256.Size]byte
	for i, file := range []string{inside, outside} {
		content, err := os.ReadFile(file)
		check(d.t, err)
		sums[i] = sha256.Sum256(content)
	}
	if sums[0] != sums[1] {
		d.t.Errorf("the programs differ: %x in the image, %x outside", sums[0], sums[1])
	}
}

// start runs the image, and returns the address where it serves.
func (d docker) start(s *site) string {
	d.t.Helper()
	rule, err := s.world.Rule()
	check(d.t, err)
	address, err := lab.FreeAddress()
	check(d.t, err)
	mirror, err := s.lab.NewMirror("", lab.MirrorConfig{Address: address, Upstreams: s.world.Upstreams(), Rules: []lab.Rule{rule}})
	check(d.t, err)
	config, err := os.ReadFile(mirror.ConfigFile)
	check(d.t, err)
	// In the image data and operators have their own places.
	config = regexp.MustCompile(`(?m)^( *)filesystem: .*$`).ReplaceAll(config, []byte(`${1}filesystem: {rootdirectory: /data}`))
	config = regexp.MustCompile(`(?m)^admin:\n.*$`).ReplaceAll(config, []byte(`admin: {address: ":5001"}`))
	check(d.t, os.WriteFile(mirror.ConfigFile, config, 0o644))
	d.run("run", "--detach", "--name=mirror", "--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
		"--health-interval=1s", "--volume", mirror.ConfigFile+":"+imageConfig+":ro", "--volume", s.lab.CA.Path+":"+s.lab.CA.Path+":ro",
		"--volume=data:/data", builtImage)
	log := d.run("inspect", "--format", "{{.LogPath}}", "mirror")
	d.t.Cleanup(func() {
		if content, err := os.ReadFile(log); d.t.Failed() {
			d.t.Logf("the container's log: %s %v", content, err)
		}
	})
	return address
}

// healthy waits until Docker says so, asking by the image's own check.
func (d docker) healthy() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		health := d.run("inspect", "--format", "{{json .State}}", "mirror")
		if strings.Contains(health, `"Status":"healthy"`) {
			return
		}
		select {
		case <-ctx.Done():
			d.t.Fatalf("the container doesn't turn healthy: %s", health)
		case <-tick.C:
		}
	}
}

// confined checks what the running program may do, as the kernel sees it.
func (d docker) confined() {
	d.t.Helper()
	pid := d.run("inspect", "--format", "{{.State.Pid}}", "mirror")
	status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	check(d.t, err)
	for _, want := range []string{"Uid", "Gid"} {
		line := regexp.MustCompile(`(?m)^` + want + `:\t(.*)$`).FindSubmatch(status)
		if line == nil || !bytes.Equal(line[1], []byte(strings.Repeat(imageUser+"\t", 3)+imageUser)) {
			d.t.Errorf("%s of the program: %q, want only %s", want, line, imageUser)
		}
	}
	if !regexp.MustCompile(`(?m)^CapEff:\t0+$`).Match(status) {
		d.t.Errorf("the program has capabilities:\n%s", status)
	}
	mounts, err := os.ReadFile(filepath.Join("/proc", pid, "mounts"))
	check(d.t, err)
	root := slices.IndexFunc(strings.Split(string(mounts), "\n"), func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) > 3 && fields[1] == "/" && slices.Contains(strings.Split(fields[3], ","), "ro")
	})
	if root < 0 {
		d.t.Errorf("the root file system can be written:\n%s", mounts)
	}
}

// stops checks that the program ends by itself when it is told to.
func (d docker) stops() {
	d.t.Helper()
	d.run("stop", "--time=30", "mirror")
	if status := d.run("inspect", "--format", "{{.State.ExitCode}}", "mirror"); status != "0" {
		d.t.Errorf("it ended with %s", status)
	}
}
