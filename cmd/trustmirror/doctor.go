package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/deploy/doctor"
	"github.com/trustmirror/trustmirror/verify"
)

// doctorOptions are doctor's flags.
type doctorOptions struct {
	root              string
	config            string
	mirrors           []string
	ca                string
	clients           []string
	registries        []string
	images            []string
	containerdVersion string
	dockerStore       string
	user              string
	passwordFile      string
	output            outputFormat
}

func newDoctorCommand() *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor [-c FILE] [--mirror URL]…",
		Short: "Tell whether this node's clients walk round a mirror that refuses",
		Long: `Most container clients take a mirror's refusal as a reason to ask the registry
itself. Doctor reads what is configured on this node, or below --root, for
containerd, Docker, podman, CRI-O, k3s, RKE2 and BuildKit, asks the mirrors that are
named there for a tag that nobody signed, and says of each client and registry:

  closed    Only the mirror is asked, and it was seen to refuse.
  open      Something else is asked. The file and line that lets it through is
            named, and what to do about it.
  unknown   It can't be told, or nothing can be pulled at all; and why.

Without --mirror each host that refuses as trustmirror does counts as a mirror; with
it, no other. -c names the mirror's configuration: then its registries are judged, and
its images are what the mirror is asked for. Without it these are Docker Hub under all
of its names and public.ecr.aws, and a repository that no configuration has.

Where versions of a client differ and the version can't be told, the worst of them
counts: --containerd-version and --docker-store say it. On a running node doctor asks
"containerd --version" and "docker info" itself. What is given on a daemon's command
line or in its environment isn't seen.

Exit status 0: all closed; 1: something is open; 2: something can't be told.`,
		Example: `  trustmirror doctor -c config.yaml --mirror https://mirror.example --ca ca.crt
  trustmirror doctor --root /host --client containerd -o json
  trustmirror doctor --registry docker.io --docker-store classic`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.root, "root", "/", "the folder that is the node's root, such as /host in a pod")
	f.StringVarP(&o.config, "config", "c", "", "the mirror's configuration file")
	f.StringSliceVar(&o.mirrors, "mirror", nil, "where clients have to go, as in https://mirror.example; may be repeated")
	f.StringVar(&o.ca, "ca", "", "file with the CA of the mirror's certificate, for asking --mirror; clients are judged by what they trust themselves")
	f.StringSliceVar(&o.clients, "client", nil, "judge only these: "+strings.Join(doctor.Clients(), ", ")+" (default: those that seem to be installed)")
	f.StringSliceVar(&o.registries, "registry", nil, "judge only these, as in docker.io")
	f.StringSliceVar(&o.images, "image", nil, "repositories of which the mirror is asked for a tag that nobody signed")
	f.StringVar(&o.containerdVersion, "containerd-version", "", "as in 1.7.27")
	f.StringVar(&o.dockerStore, "docker-store", "", "Docker's image store: classic or containerd")
	f.StringVar(&o.user, "user", "", "a user of the mirrors, where they ask for one; sent over https only, and to --mirror only")
	f.StringVar(&o.passwordFile, "password-file", "", "file with the user's password")
	outputFlag(cmd, &o.output)
	return cmd
}

func (o *doctorOptions) run(ctx context.Context, w io.Writer) error {
	options, err := o.options(ctx)
	if err != nil {
		return err
	}
	report, err := doctor.Check(ctx, options)
	if err != nil {
		return err
	}
	if len(report.Findings) == 0 {
		report.Notes = append(report.Notes, "There is no client to judge; name those that there are with --client.")
	}
	if o.output == outputJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(struct {
			Root string `json:"root"`
			*doctor.Report
		}{o.root, report})
	} else {
		err = writeDoctor(w, o.root, report)
	}
	if err != nil {
		return err
	}
	switch report.State {
	case doctor.Closed:
		return nil
	case doctor.Open:
		return &statusError{status: statusRefused}
	}
	return &statusError{status: statusUnclear}
}

// options turns flags into what the node is judged by.
func (o *doctorOptions) options(ctx context.Context) (doctor.Options, error) {
	own := filepath.Clean(o.root) == "/"
	node, err := nodeAt(o.root)
	if err != nil {
		return doctor.Options{}, err
	}
	asker := &doctor.HTTP{Timeout: 10 * time.Second}
	d := doctor.Options{
		Node: node, Asker: asker, OwnRoots: own, Clients: o.clients, Mirrors: o.mirrors,
		Tag: unsignedTag(), Images: make(map[string][]string), Registries: o.registries,
		ContainerdVersion: o.containerdVersion, DockerStore: o.dockerStore, FixFlags: o.fixFlags(),
	}
	if err := o.ofConfig(&d); err != nil {
		return doctor.Options{}, err
	}
	for _, name := range o.images {
		ref, err := verify.ParseRef(name)
		if err != nil {
			return doctor.Options{}, fmt.Errorf("--image %s is no name of an image: %w", name, err)
		}
		d.Images[ref.Registry] = append(d.Images[ref.Registry], ref.Repository)
		if len(o.registries) == 0 && o.config == "" {
			d.Registries = append(d.Registries, ref.Registry)
		}
	}
	d.Registries = doctor.WithAliases(d.Registries)
	if o.ca != "" {
		if d.MirrorCA, err = os.ReadFile(o.ca); err != nil {
			return doctor.Options{}, fmt.Errorf("--ca can't be read: %w", err)
		}
	}
	if asker.Username, asker.Password, err = o.credentials(); err != nil {
		return doctor.Options{}, err
	}
	if own {
		d.Lookup = net.DefaultResolver.LookupHost
		askDaemons(ctx, &d)
	}
	return d, nil
}

// nodeAt opens a node's files. Below another root, links that lead out of it aren't
// followed: they would lead to this machine's files.
func nodeAt(root string) (fs.FS, error) {
	if filepath.Clean(root) == "/" {
		return os.DirFS("/"), nil
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("--root can't be read: %w", err)
	}
	return r.FS(), nil
}

// ofConfig takes registries and repositories from the mirror's configuration.
func (o *doctorOptions) ofConfig(d *doctor.Options) error {
	if o.config == "" {
		return nil
	}
	c, err := readConfig(o.config)
	if err != nil {
		return err
	}
	for _, image := range c.Images {
		for _, name := range append([]string{image.Signed}, image.Copies...) {
			registry, repository, _ := strings.Cut(name, "/")
			if len(o.registries) == 0 && !slices.Contains(d.Registries, registry) {
				d.Registries = append(d.Registries, registry)
			}
			if !strings.Contains(repository, "*") { // which is no repository, but many
				d.Images[registry] = append(d.Images[registry], repository)
			}
		}
	}
	return nil
}

func (o *doctorOptions) credentials() (user, password string, err error) {
	if o.user == "" {
		return "", "", nil
	}
	if o.passwordFile == "" {
		return "", "", errors.New("--user needs a password; name the file that holds it with --password-file")
	}
	if len(o.mirrors) == 0 {
		return "", "", errors.New("--user is told to no mirror that only the node's files name; name the mirror with --mirror")
	}
	text, err := os.ReadFile(o.passwordFile)
	if err != nil {
		return "", "", fmt.Errorf("--password-file can't be read: %w", err)
	}
	return o.user, strings.TrimRight(string(text), "\r\n"), nil
}

// fixFlags are the flags of `trustmirror client` that fit those of doctor.
func (o *doctorOptions) fixFlags() string {
	config, mirror, more := "FILE", "https://MIRROR", ""
	if o.config != "" {
		config = o.config
	}
	if len(o.mirrors) > 0 {
		mirror = o.mirrors[0]
	}
	if o.ca != "" {
		more += " --ca " + o.ca
	}
	if filepath.Clean(o.root) != "/" {
		more += " --root " + o.root
	}
	return "-c " + config + " --mirror " + mirror + more
}

// unsignedTag is a tag that nobody can have signed, since it is made up now.
func unsignedTag() string {
	return "doctor-" + rand.Text()
}

// askDaemons asks running daemons what their files don't tell.
func askDaemons(ctx context.Context, d *doctor.Options) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if d.ContainerdVersion == "" {
		if out, err := exec.CommandContext(ctx, "containerd", "--version").Output(); err == nil && doctor.IsVersion(strings.TrimSpace(string(out))) {
			d.ContainerdVersion = strings.TrimSpace(string(out))
		}
	}
	if d.DockerStore == "" {
		out, err := exec.CommandContext(ctx, "docker", "--host", "unix:///var/run/docker.sock", "info", "--format", "{{.ServerVersion}} {{json .DriverStatus}}").Output()
		switch {
		case err != nil || strings.HasPrefix(string(out), " "): // no daemon
		case strings.Contains(string(out), "io.containerd.snapshotter.v1"):
			d.DockerStore = "containerd"
		default:
			d.DockerStore = "classic"
		}
	}
}
