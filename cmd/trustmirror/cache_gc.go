package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// collectReport is what cache gc removed, or would remove.
type collectReport struct {
	DryRun      bool              `json:"dry_run"`
	Unneeded    storage.Heap      `json:"unneeded"`
	Quarantined storage.Heap      `json:"quarantined"`
	Unfinished  storage.Heap      `json:"unfinished"`
	Unclear     map[string]string `json:"unclear"` // why, by repository of which everything was kept
}

func newCacheCollectCommand() *cobra.Command {
	var config string
	var dryRun bool
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "gc -c FILE",
		Short: "Remove what nobody needs",
		Long: `Gc removes content that nothing leads to which is signed now or was within the
last day, as of when the mirror last asked the trust service; what is in
quarantine; and unfinished writes that nobody went on with for an hour. Content of
images that the configuration doesn't name is removed too, so give the
configuration that serve has. The records of why something was admitted are small,
and stay.

A mirror may be running on the storage. Nothing is removed that was stored within
the last day, because it may not be recorded yet what it is for. What is removed at
the very moment when somebody needs it again is fetched again.

Of a repository whose signed metadata expired, or can't be read, everything is kept.`,
		Example: `  trustmirror cache gc -c config.yaml --dry-run
  trustmirror cache gc -c config.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return collectCache(ctx, config, dryRun, output, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &config)
	outputFlag(cmd, &output)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	return cmd
}

func collectCache(ctx context.Context, config string, dryRun bool, output outputFormat, stdout io.Writer) error {
	c, err := readConfig(config)
	if err != nil {
		return err
	}
	store, err := usedStorage(ctx, c, true)
	if err != nil {
		return err
	}
	needed, err := findNeeded(ctx, c, store)
	if err != nil {
		return err
	}
	removed, err := store.Collect(ctx, needed.Has, dryRun)
	if err != nil {
		return err
	}
	r := collectReport{DryRun: dryRun, Unneeded: removed.Unneeded, Quarantined: removed.Quarantined, Unfinished: removed.Unfinished, Unclear: map[string]string{}}
	for name, why := range needed.Unclear {
		r.Unclear[name] = why.Error()
	}
	return r.write(stdout, output)
}

// findNeeded finds what a mirror with this configuration needs, from what it has
// stored: nobody is asked, and nothing is written there.
func findNeeded(ctx context.Context, c *Config, store *storage.Store) (*verify.Needed, error) {
	own, err := storage.Open(ctx, driverInmemory, nil)
	if err != nil {
		return nil, err
	}
	seen, err := seenBefore(ctx, c, own.Trust())
	if err != nil {
		return nil, err
	}
	p, err := assemble(ctx, assembly{config: c, store: store, seen: seen, log: slog.New(slog.DiscardHandler), offline: true})
	if err != nil {
		return nil, err
	}
	defer p.close()
	return verify.FindNeeded(ctx, p.policy, store)
}

func (r *collectReport) write(w io.Writer, output outputFormat) error {
	if output == outputJSON {
		return writeJSON(w, r)
	}
	for _, name := range sortedKeys(r.Unclear) {
		fmt.Fprintf(w, "kept all of %s, since it can't be told what is signed: %s\n", name, r.Unclear[name])
	}
	verb := "removed"
	if r.DryRun {
		verb = "to be removed"
	}
	_, err := fmt.Fprintf(w, "%s: %s that nobody needs, %s; %d from quarantine, %s; %s, %s\n", verb,
		countText(r.Unneeded.Files, "object"), sizeText(r.Unneeded.Bytes), r.Quarantined.Files, sizeText(r.Quarantined.Bytes),
		countText(r.Unfinished.Files, "unfinished write"), sizeText(r.Unfinished.Bytes))
	return err
}
