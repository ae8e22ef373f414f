package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/proxy/upstream"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// Where trust export has metadata from, besides a folder.
const (
	fromService = "service"
	fromState   = "state"
)

// exportOptions are the flags of trust export.
type exportOptions struct {
	config string
	all    bool
	from   string
	output string
	force  bool
}

func newTrustExportCommand() *cobra.Command {
	o := &exportOptions{}
	cmd := &cobra.Command{
		Use:   "export -c FILE {IMAGE… | --all}",
		Short: "Archive signed metadata, to be verified later and offline",
		Long: `Export verifies all signed metadata of each image against the keys that the
configuration pins, and writes them into an archive: one tar file for each image,
the same bytes whenever the metadata are the same. It prints the archive's SHA-256
and the configuration that makes it the image's trust source (trust.archive). Such
a source needs no trust service, and nothing in it expires: the archive is judged
as of the latest moment at which all of it was valid. Metadata that has expired is
archived too. New releases and revocations are not seen any more.

The metadata come from
  service   the image's trust service, as the configuration says
  state     what serve has verified last, in the configured storage
  FOLDER    what Docker's client keeps: ~/.docker/trust, or a folder of it

Exit status 0: everything is archived; 1: something is refused; 2: something could
not be had.`,
		Example: `  trustmirror trust export -c config.yaml nicolas/webdis
  trustmirror trust export -c config.yaml --all -o archives
  trustmirror trust export -c config.yaml --from ~/.docker/trust nicolas/webdis`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return exportTrust(ctx, o, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &o.config)
	cmd.Flags().BoolVar(&o.all, "all", false, "archive every image of the configuration that isn't a pattern")
	cmd.Flags().StringVar(&o.from, "from", fromService, "service, state or a folder")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "file to write, or with --all, several images or a / at its end a folder (default: a file named after the image, here)")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace a file that has other content")
	return cmd
}

func exportTrust(ctx context.Context, o *exportOptions, names []string, stdout, stderr io.Writer) error {
	c, err := readConfig(o.config)
	if err != nil {
		return err
	}
	images, err := o.images(c, names, stderr)
	if err != nil {
		return err
	}
	if o.output != "" && (o.all || len(images) > 1 || strings.HasSuffix(o.output, "/")) {
		if err := os.MkdirAll(o.output, 0o750); err != nil {
			return fmt.Errorf("-o %s names a folder, which can't be made: %w", o.output, cause(err))
		}
	}
	worst := verified
	for _, image := range images {
		err := o.export(ctx, c, image, stdout, newProgress(stderr))
		if err != nil {
			fmt.Fprintf(stderr, "trustmirror: %s: %v\n", image.Signed, err)
		}
		worst = worst.worse(outcomeOf(err).Verdict)
	}
	if worst != verified {
		return &statusError{status: worst.status()}
	}
	return nil
}

// images are those to export.
func (o *exportOptions) images(c *Config, names []string, stderr io.Writer) ([]Image, error) {
	if o.all == (len(names) > 0) {
		return nil, fmt.Errorf("name the images to archive, or give --all for all of %s", strings.Join(c.signedNames(), ", "))
	}
	var images []Image
	for _, name := range names {
		image, err := c.signedImage(name)
		if err != nil {
			return nil, err
		}
		if image.keys() == nil {
			return nil, fmt.Errorf("%s: its digests are pinned in the configuration, so there is no signed metadata to archive", name)
		}
		images = append(images, image)
	}
	if !o.all {
		return images, nil
	}
	for _, image := range c.Images {
		switch {
		case strings.Contains(image.Signed, "*"):
			fmt.Fprintf(stderr, "trustmirror: %s stands for many images; name those to archive\n", image.Signed)
		case image.keys() == nil:
			fmt.Fprintf(stderr, "trustmirror: %s: its digests are pinned in the configuration, there is nothing to archive\n", image.Signed)
		default:
			images = append(images, image)
		}
	}
	if len(images) == 0 {
		return nil, errors.New("there is nothing to archive")
	}
	return images, nil
}

// export archives one image's metadata, and tells about it.
func (o *exportOptions) export(ctx context.Context, c *Config, image Image, stdout io.Writer, progress *progress) error {
	fetcher, source, cleanUp, err := o.fetcher(ctx, c, image)
	if err != nil {
		return err
	}
	defer cleanUp()
	files := 0
	e, err := notary.Export(ctx, notary.ExportConfig{
		GUN: image.gun(), Pins: image.keys().pins(), Fetcher: fetcher, Source: source,
		Progress: func(name string) {
			files++
			progress.say(fmt.Sprintf("%s: file %d, %s", image.Signed, files, strings.SplitN(name, ".", 2)[0]))
		},
	})
	progress.say("")
	if err != nil {
		return err
	}
	file := o.file(e.Archive)
	if err := writeArchive(file, e.Bytes(), o.force); err != nil {
		return err
	}
	_, err = io.WriteString(stdout, exportText(image, file, e, wallClock()))
	return err
}

// fetcher is where the metadata come from, in code and in words.
func (o *exportOptions) fetcher(ctx context.Context, c *Config, image Image) (_ notary.Fetcher, source string, cleanUp func(), err error) {
	switch o.from {
	case fromService:
		n := image.Notary
		if n == nil {
			return nil, "", nil, errors.New("its trust source is an archive, which names no service; give --from state, or --from with a folder of Docker's client")
		}
		client, err := upstream.NewNotary(notaryConfig(n))
		if err != nil {
			return nil, "", nil, c.places.mistake("images", "%v", err)
		}
		return client, n.URL, client.Close, nil
	case fromState:
		store, err := openStorage(ctx, c)
		if err != nil {
			return nil, "", nil, err
		}
		fetcher, err := notary.NewStored(ctx, store.Trust(), image.gun(), image.keys().pins())
		return fetcher, "the state of a mirror", func() {}, err
	}
	folder, err := dockerFolder(o.from, image.gun())
	if err != nil {
		return nil, "", nil, err
	}
	return notary.NewFolder(os.DirFS(folder)), "a folder of Docker's client", func() {}, nil
}

// dockerFolder finds a repository's metadata below a folder that is given: that
// itself, ~/.docker/trust, or what is between.
func dockerFolder(folder, gun string) (string, error) {
	below := filepath.FromSlash(gun)
	for _, candidate := range []string{
		folder,
		filepath.Join(folder, "metadata"),
		filepath.Join(folder, below, "metadata"),
		filepath.Join(folder, "tuf", below, "metadata"),
		filepath.Join(folder, "trust", "tuf", below, "metadata"),
	} {
		if _, err := os.Stat(filepath.Join(candidate, "root.json")); err == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("there is no root.json of %s in %s; Docker's client keeps it in ~/.docker/trust/tuf/%s/metadata once it has pulled or inspected the image "+
		"with content trust (--from may also be service or state)", gun, folder, gun)
}

// file is where an archive is written to.
func (o *exportOptions) file(a *notary.Archive) string {
	name := fmt.Sprintf("%s-%s.tar", strings.NewReplacer("/", "-", ":", "-").Replace(a.GUN()), a.Moment().Format("20060102T150405Z"))
	if o.output == "" {
		return name
	}
	if info, err := os.Stat(o.output); err == nil && info.IsDir() {
		return filepath.Join(o.output, name)
	}
	return o.output
}

// writeArchive writes a file whole or not at all. It leaves a file that has other
// content alone: a configuration may pin it.
func writeArchive(file string, raw []byte, force bool) (err error) {
	switch there, err := readArchiveFile(file); {
	case err == nil && string(there) == string(raw):
		return nil
	case !force && !errors.Is(statError(file), os.ErrNotExist):
		return fmt.Errorf("%s is there already, with other content that a configuration may pin; name another file with -o, or give --force", file)
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".trustmirror-*")
	if err != nil {
		return fmt.Errorf("%s can't be written: %w", file, cause(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s can't be written: %w", file, cause(err)), os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(raw)
	if err == nil {
		err = temporary.Chmod(0o644) // what is signed is public, and serve may run as another user
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}

func statError(file string) error {
	_, err := os.Lstat(file)
	return err
}

// exportText tells what was archived, and the configuration that uses it.
func exportText(image Image, file string, e *notary.Exported, now time.Time) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	d := drawing{now: func() time.Time { return now }}
	say("%s: archived in %s", image.Signed, file)
	say("  sha256    %s", e.SHA256())
	say("  as of     %s, the last moment at which all of it was valid", e.Moment().Format(time.RFC3339))
	for _, expiry := range e.Expiries {
		if !now.Before(expiry.At) {
			say("  %s %s: it is archived all the same", expiry.Role, d.expiry(expiry.At))
		}
	}
	oldest, newest := e.Roots()
	say("  root      %s", versions(oldest, newest))
	if e.Gap != nil {
		say("            %s; a mirror that has seen an older root only can't follow to this one", detail(e.Gap))
	}
	say("  tags      %d in targets, and %d delegations", len(e.Metadata.Targets.Targets), len(e.Metadata.Targets.Delegations))
	say("")
	say("To trust in it instead of the service, write as the trust of %s:", image.Signed)
	say("")
	say("    trust:")
	say("      archive:")
	say("        file: %s", yamlText(file))
	say("        sha256: \"%s\"", e.SHA256())
	if image.gun() != image.Signed {
		say("        gun: %s", image.gun())
	}
	k := image.keys()
	say("        root_keys: [%s]", yamlIDs(k.RootKeys))
	say("        repository_keys: [%s]", yamlIDs(k.RepositoryKeys))
	if len(k.Signers) > 0 {
		say("        signers:")
	}
	for _, name := range sortedKeys(k.Signers) {
		say("          %s: [%s]", name, yamlIDs(k.Signers[name]))
	}
	return b.String()
}

// yamlIDs quotes IDs: some consist of digits only, which YAML takes for a number.
func yamlIDs(ids []string) string { return `"` + strings.Join(ids, `", "`) + `"` }

// yamlText quotes a text; every JSON string is one in YAML.
func yamlText(s string) string { return fmt.Sprintf("%q", s) }

// detail is an error's sentence without its reason code.
func detail(err error) string {
	var missing *verify.NotFoundError
	if errors.As(err, &missing) {
		return strings.Replace(err.Error(), missing.Error(), missing.Detail, 1)
	}
	return err.Error()
}
