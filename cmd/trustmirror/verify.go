package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// verifyOptions are verify's flags.
type verifyOptions struct {
	config string
	layers bool
	width  int
	output outputFormat
}

func newVerifyCommand() *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify -c FILE IMAGE…",
		Short: "Verify images now, and draw their chains of trust",
		Long: `Verify pulls images through the very checks that serve makes, from the live
registries and trust services into a temporary folder, and draws what each object
hangs from: the roles and keys that sign the tag, the index, its manifests and
their configs, in the signed repository and in its copies. Given a copy's name it
shows that copy beside the signed repository. A name without a tag means latest.

  ✔  verified: a pinned key signed it, or what it hangs from
  ✘  refused, with the reason
  ?  it could not be told, because a registry can't be reached, say

Exit status 0: everything is verified; 1: something is refused; 2: something could
not be told.`,
		Example: `  trustmirror verify -c config.yaml nicolas/webdis:0.1.19
  trustmirror verify -c config.yaml --layers public.ecr.aws/nicolas/webdis:0.1.19
  trustmirror verify -c config.yaml -o json nicolas/webdis:0.1.19 | jq '.[].verdict'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return verifyImages(ctx, o, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &o.config)
	outputFlag(cmd, &o.output)
	cmd.Flags().BoolVar(&o.layers, "layers", false, "pull and verify every layer too")
	cmd.Flags().IntVar(&o.width, "width", 0, "columns to draw in (default: the terminal's, else 80)")
	return cmd
}

func verifyImages(ctx context.Context, o *verifyOptions, images []string, stdout, stderr io.Writer) error {
	refs, err := parseImages(images)
	if err != nil {
		return err
	}
	p, err := assembleOnce(ctx, o.config)
	if err != nil {
		return err
	}
	defer p.close()
	progress := newProgress(stderr)
	chains := []*chain{}
	worst := verified
	for _, ref := range refs {
		c := p.chain(ctx, ref, &walker{gate: p.gate, layers: o.layers, progress: progress.say})
		chains = append(chains, c)
		worst = worst.worse(c.Verdict)
	}
	progress.say("")
	if err := o.write(stdout, chains); err != nil {
		return err
	}
	if worst != verified {
		return &statusError{status: worst.status()}
	}
	return nil
}

// parseImages reads names of images; without a tag and a digest, latest is meant.
func parseImages(images []string) ([]verify.Ref, error) {
	var refs []verify.Ref
	for _, image := range images {
		ref, err := verify.ParseRef(image)
		if err != nil {
			return nil, fmt.Errorf("%s is no name of an image: %w", image, err)
		}
		if ref.Tag == "" && ref.Digest == "" {
			ref.Tag = "latest"
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func (o *verifyOptions) write(w io.Writer, chains []*chain) error {
	if o.output == outputJSON {
		return writeJSON(w, chains)
	}
	width := o.width
	if width <= 0 {
		width = widthOf(w, 80)
	}
	for i, c := range chains {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := (drawing{width: width, now: wallClock}).chain(w, c); err != nil {
			return err
		}
	}
	return nil
}

// status is the exit status that tells a verdict.
func (v verdict) status() int {
	switch v {
	case verified:
		return statusOK
	case refused:
		return statusRefused
	}
	return statusUnclear
}

// chain verifies one image in the repository that ref names and where that is a
// copy in the signed one, else in all copies.
func (p *parts) chain(ctx context.Context, ref verify.Ref, w *walker) *chain {
	c := &chain{Image: ref.String(), At: wallClock().UTC()}
	image, err := p.policy.Image(ref)
	if err != nil {
		c.outcome = outcomeOf(err)
		return c
	}
	tag := ref.Tag
	if ref.Digest != "" {
		w.progress(ref.String())
		if tag, err = p.tagOf(ctx, ref); err != nil {
			c.outcome = outcomeOf(err)
			return c
		}
	}
	w.progress("trust of " + image.Signed.Name())
	c.Trust = trustOf(ctx, image, tag)
	signed := image.Signed
	signed.Tag = tag
	copies := []verify.Ref{ref}
	if ref.Name() == signed.Name() {
		signed, copies = ref, nil
		for _, c := range image.Copies {
			c.Tag = tag
			copies = append(copies, c)
		}
	}
	c.walk(ctx, w, signed, copies)
	return c
}

// tagOf finds the tag whose signature a digest rests on.
func (p *parts) tagOf(ctx context.Context, ref verify.Ref) (string, error) {
	content, admission, err := p.gate.Manifest(ctx, ref)
	if err != nil {
		return "", err
	}
	return admission.Tag, content.Close()
}

// assembleOnce puts the parts together for one command, on storage that lasts as
// long as it: what is verified then rests on nothing that was stored before.
func assembleOnce(ctx context.Context, file string) (*parts, error) {
	c, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "trustmirror-")
	if err != nil {
		return nil, fmt.Errorf("there is no temporary folder, set TMPDIR to one: %w", err)
	}
	remove := func() error { return os.RemoveAll(folder) }
	store, err := storage.Open(ctx, driverFilesystem, map[string]any{"rootdirectory": folder})
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	before, err := seenBefore(ctx, c, store.Trust())
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	p, err := assemble(ctx, assembly{config: c, store: store, seen: before, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	p.cleanUp = remove
	return p, nil
}

// progress tells on a terminal what is being done; elsewhere it is silent.
type progress struct {
	w     io.Writer // nil: silent
	width int
}

func newProgress(w io.Writer) *progress {
	width := widthOf(w, 0)
	if width == 0 {
		w = nil
	}
	return &progress{w: w, width: width}
}

// say replaces what was said before.
func (p *progress) say(text string) {
	if p.w == nil {
		return
	}
	text = strings.Join(strings.Fields(text), " ")
	fmt.Fprintf(p.w, "\r\x1b[K%s", text[:min(len(text), p.width-1)])
}

// widthOf is how many columns a terminal has; what isn't one has otherwise.
func widthOf(w io.Writer, otherwise int) int {
	file, ok := w.(*os.File)
	if !ok {
		return otherwise
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width < 20 {
		return otherwise
	}
	return width
}
