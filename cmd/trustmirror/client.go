package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/deploy/clients"
)

// clientOptions are what client is asked for.
type clientOptions struct {
	config    string
	mirror    string
	ca        string // a file
	addresses []string
	egress    bool
	write     bool
	root      string
}

func newClientCommand() *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "client -c FILE --mirror URL [--write] KIND",
		Short: "Write the configuration with which a client pulls through the mirror only",
		Long: `Client prints, or with --write writes, the files with which a client pulls what the
registries of the configuration hold through the mirror, and FAILS CLOSED: a refusal
is final, and the registry itself is never asked. The comments in the files say why
each line is there. Where a client can't fail closed by its configuration, it says so,
and adds rules for nftables, Kubernetes and Cilium that keep it from the registries.

KIND is one of
  containerd           containerd 1.6 and later, Kubernetes on it, ctr
  docker               dockerd with the containerd image store (28 and later)
  docker-transparent   any dockerd, 20.10 too: the registries' names lead to the mirror
  podman               podman, skopeo, buildah
  crio                 CRI-O
  k3s                  k3s, RKE2
  buildkit             a BuildKit of its own, as docker buildx create makes
  nerdctl              nerdctl

With --write nothing is lost: a file that was there is kept as
FILE.before-trustmirror, and one that holds other settings too, such as daemon.json, is
left alone, and what to add to it is printed. Run doctor afterwards: it finds what is
still open. Exit status 2: what was asked for can't be done.`,
		Example: `  trustmirror client -c config.yaml --mirror https://mirror.example --ca ca.crt containerd
  trustmirror client -c config.yaml --mirror https://mirror.example --write podman
  trustmirror client -c config.yaml --mirror https://mirror.example --write --root /mnt/image crio
  trustmirror client -c config.yaml --mirror https://mirror.example --address 192.0.2.10 docker-transparent`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(clients.Kinds(), args[0]) {
				return fmt.Errorf("name one client: %s", strings.Join(clients.Kinds(), ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("root") && !o.write {
				return fmt.Errorf("--root says where files are written; add --write, or leave it out")
			}
			plan, err := planClient(args[0], o)
			if err != nil {
				return err
			}
			if o.write {
				return writeClient(cmd.OutOrStdout(), o.root, plan)
			}
			printClient(cmd.OutOrStdout(), plan)
			return nil
		},
	}
	configFlag(cmd, &o.config)
	cmd.Flags().StringVar(&o.mirror, "mirror", "", "where clients reach the mirror: https://mirror.example, http://127.0.0.1:5000 (required)")
	cmd.Flags().StringVar(&o.ca, "ca", "", "PEM file of the authority that issued the mirror's certificate; not needed if clients trust it already")
	cmd.Flags().StringSliceVar(&o.addresses, "address", nil, "IP address of the mirror, where --mirror has a name; for docker, docker-transparent, k3s, buildkit and --egress")
	cmd.Flags().BoolVar(&o.egress, "egress", false, "egress rules for a client that fails closed without them, too")
	cmd.Flags().BoolVar(&o.write, "write", false, "write the files instead of printing them")
	cmd.Flags().StringVar(&o.root, "root", "/", "write below this folder, as for a machine's image; links out of it are not followed")
	return cmd
}

// planClient reads what the options name and makes the plan.
func planClient(kind string, o clientOptions) (*clients.Plan, error) {
	c, err := readConfig(o.config)
	if err != nil {
		return nil, err
	}
	m := clients.Mirror{Registries: c.registries(), URL: o.mirror, Egress: o.egress}
	if o.ca != "" {
		if m.CA, err = os.ReadFile(o.ca); err != nil {
			return nil, fmt.Errorf("--ca %s: the file can't be read (%w); name the PEM file of the authority that issued the mirror's certificate", o.ca, cause(err))
		}
	}
	for _, text := range o.addresses {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return nil, fmt.Errorf("--address %s: this is no IP address; write one as in 192.0.2.10", text)
		}
		m.Addresses = append(m.Addresses, address.Unmap())
	}
	return clients.New(kind, m)
}

// registries are those of the images, sorted: what a client asks the mirror for.
func (c *Config) registries() []string {
	var all []string
	for _, image := range c.Images {
		for _, repository := range append([]string{image.Signed}, image.Copies...) {
			registry, _, _ := strings.Cut(repository, "/")
			all = append(all, registry)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// printClient prints files under their paths, then the notes.
func printClient(w io.Writer, plan *clients.Plan) {
	for _, f := range plan.Files {
		there := map[clients.There]string{
			clients.Append: " (append it to the file that is there)",
			clients.Merge:  " (merge it into the file that is there)",
		}[f.There]
		fmt.Fprintf(w, "==> %s%s <==\n%s\n", f.Path, there, f.Content)
	}
	fmt.Fprintf(w, "==> What else to know <==\n%s", plan.Notes)
}
