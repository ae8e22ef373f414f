package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/proxy/activity"
	"github.com/trustmirror/trustmirror/verify/warm"
)

// maxWarmed is how many objects may be asked for at once.
const maxWarmed = 64

// warmOptions are cache warm's flags.
type warmOptions struct {
	config    string
	mirror    mirrorFlags
	platforms []string
	atOnce    int
	output    outputFormat
}

func newCacheWarmCommand() *cobra.Command {
	o := &warmOptions{}
	cmd := &cobra.Command{
		Use:   "warm {-c FILE | --mirror URL} IMAGE…",
		Short: "Fetch and verify images before anybody waits for them",
		Long: `Warm has images fetched, verified and stored ahead of a roll-out, so that the first
node that pulls one waits no longer than the last. An IMAGE is a name with a tag or
a digest, that of the signed repository or of a copy: a copy's manifests, and often
its layers, are its own, so warm the name that the nodes pull. A name without a tag
means latest.

With --mirror it asks a running mirror for the images, as a client does, and lets go
of what it gets: of a layer only the last byte crosses the network, which the mirror
sends when all is verified. That is the way for a mirror that runs, on this machine or
another, and for several that share a bucket: one of them fetches for all.

With -c it works on the storage of that configuration itself, by the very checks that
serve makes, for a mirror that doesn't run yet, as in an init container. It refuses
while a mirror runs on the folder: what is compared before something is recorded,
each of two processes would compare without the other.

What is there already isn't fetched again, so warm can be repeated, and goes on where
it was interrupted. For what is to stay warm as new tags are signed, see images[].warm
in the configuration.

Exit status 0: everything is there; 1: something was refused; 2: something could not
be had or told. The rest is there all the same.`,
		Example: `  trustmirror cache warm --mirror http://127.0.0.1:5000 nicolas/webdis:0.1.19
  trustmirror cache warm --mirror https://mirror.example --ca ca.crt --platform linux/amd64,linux/arm64 public.ecr.aws/nicolas/webdis:0.1.19
  trustmirror cache warm -c config.yaml nicolas/webdis:0.1.19 nicolas/webdis:latest`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "configuration file of a mirror that isn't running")
	o.mirror.add(cmd)
	cmd.Flags().StringSliceVar(&o.platforms, "platform", nil, "only these, as in linux/amd64,linux/arm64 (default: all that an index lists, attestations too)")
	cmd.Flags().IntVar(&o.atOnce, "parallel", 3, "how many objects are asked for at once")
	outputFlag(cmd, &o.output)
	cmd.MarkFlagsMutuallyExclusive("config", "mirror")
	cmd.MarkFlagsOneRequired("config", "mirror")
	return cmd
}

func (o *warmOptions) run(ctx context.Context, images []string, stdout, stderr io.Writer) error {
	refs, err := parseImages(images)
	if err != nil {
		return err
	}
	progress := newWarmProgress(stderr)
	walk := &warm.Walk{AtOnce: o.atOnce, Told: progress.tell, Clock: wallClock}
	if o.atOnce < 1 || o.atOnce > maxWarmed {
		return fmt.Errorf("--parallel %d: write a number from 1 to %d", o.atOnce, maxWarmed)
	}
	for _, text := range o.platforms {
		p, err := warm.ParsePlatform(text)
		if err != nil {
			return fmt.Errorf("--platform: %w", err)
		}
		walk.Platforms = append(walk.Platforms, p)
	}
	var done func()
	if o.config == "" {
		walk.Mirror, done, err = o.mirror.open()
	} else {
		walk.Mirror, done, err = openStopped(ctx, o.config)
	}
	if err != nil {
		return err
	}
	defer done()
	reports := []*warmReport{}
	worst := verified
	for _, ref := range refs {
		r := newWarmReport(walk.Image(ctx, ref), o.config != "")
		reports = append(reports, r)
		worst = worst.worse(r.Verdict)
		if ctx.Err() != nil {
			break
		}
	}
	progress.say("")
	if err := writeWarmReports(stdout, o.output, reports); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted; what was verified until then is stored, and isn't fetched again")
	case worst != verified:
		return &statusError{status: worst.status()}
	}
	return nil
}

// openStopped opens the storage of a mirror that doesn't run, and a Gate to it. An
// error is a *mistake.
func openStopped(ctx context.Context, file string) (_ warm.Mirror, done func(), err error) {
	c, err := readConfig(file)
	if err != nil {
		return nil, nil, err
	}
	switch c.Storage.Driver {
	case driverFilesystem:
		if _, err := os.Stat(c.Storage.RootDirectory); err == nil { // else it is made
			if err := c.usedFolder("storage.filesystem.rootdirectory", true); err != nil {
				return nil, nil, err
			}
		}
	case driverInmemory:
		return nil, nil, c.places.mistake("storage.inmemory", "storage.inmemory: it keeps everything in the memory of serve; leave -c out and warm through the mirror, with --mirror %s", c.Listen.url())
	default:
		return nil, nil, c.places.mistake("storage."+c.Storage.Driver, "storage.%s: it can't be told whether a mirror uses the bucket; leave -c out and warm through one, with --mirror %s", c.Storage.Driver, c.Listen.url())
	}
	store, err := openStorage(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	lock, err := c.ownFolder()
	if err != nil {
		return nil, nil, err
	}
	// What is admitted here is in the decision log, if that is a file: who looks there
	// later doesn't find more served than was decided.
	silent := slog.New(slog.DiscardHandler)
	decisions, err := activity.New(activity.Config{File: c.Decisions.File, MaxSize: c.Decisions.MaxSize, Keep: c.Decisions.Keep, Log: silent})
	if err != nil {
		lock.Close()
		return nil, nil, c.places.mistake("decisions.file", "decisions.file: %v", err)
	}
	closeAll := func() {
		_ = decisions.Close() // lines that are lost are told of in the file
		lock.Close()
	}
	p, err := assemble(ctx, assembly{config: c, store: store, log: silent, decided: decisions.Decided})
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return warm.Through(p.gate, store, wallClock), func() { p.close(); closeAll() }, nil
}
