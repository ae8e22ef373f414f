package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// scrubRate is how many bytes a second are read in the background to find damage.
const scrubRate = 16 << 20

// scrub looks for damage in the background until ctx ends.
func (m *mirror) scrub(ctx context.Context) error {
	if every := m.started.Storage.Scrub; every > 0 {
		m.store.ScrubAlways(ctx, storage.ScrubPlan{Every: every, BytesPerSecond: scrubRate, Told: m.scrubbed})
	}
	return nil
}

// scrubbed tells what was found in one part.
func (m *mirror) scrubbed(part int, found storage.Scrubbed, err error) {
	m.log.Debug("scrubbed", "part", part, "of", storage.ScrubParts, "objects", found.Objects, "bytes", found.Bytes)
	for _, c := range found.Corrupt {
		if c.Err != nil {
			m.log.Error("a stored object is damaged and could not be set aside", "digest", c.Digest, "got", c.Got, "error", c.Err)
			continue
		}
		m.telemetry.counted().happened(verify.Event{Kind: verify.Quarantined})
		m.log.Error("a stored object was damaged; it was set aside, and is fetched again when somebody pulls it", "digest", c.Digest, "got", c.Got)
	}
	if len(found.Failed) > 0 {
		err = errors.Join(err, fmt.Errorf("%s can't be read, such as %w", countText(len(found.Failed), "object"), found.Failed[0]))
	}
	if err != nil {
		m.log.Warn("a part of storage could not be scrubbed; its turn comes again", "part", part, "after", m.started.Storage.Scrub, "error", err)
	}
}

// scrubReport is what cache scrub found.
type scrubReport struct {
	Objects int             `json:"objects"` // that are right
	Bytes   int64           `json:"bytes"`
	Corrupt []corruptObject `json:"corrupt"`
	Failed  []string        `json:"failed"` // what could not be told, or not be set aside
}

type corruptObject struct {
	Digest digest.Digest `json:"digest"`
	Got    digest.Digest `json:"got"` // what it hashes to
}

func newCacheScrubCommand() *cobra.Command {
	var config, rate string
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "scrub -c FILE",
		Short: "Read all that is stored, and set aside what is damaged",
		Long: `Scrub hashes each manifest, config and layer that is stored. What is damaged is
moved to the storage's quarantine folder, where the latest 16 are kept, and is
fetched again when somebody pulls it. A mirror may be running on the storage; run
this as the same user. serve does the same by itself, slowly (storage.scrub).

Exit status 0: all is right; 1: something was damaged, and was set aside; 2: not
everything could be told, as where the disk can't be read.`,
		Example: `  trustmirror cache scrub -c config.yaml
  trustmirror cache scrub -c config.yaml --rate 20MiB`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			var bytesPerSecond int64
			if rate != "" {
				var err error
				if bytesPerSecond, err = parseSize(rate); err != nil {
					return fmt.Errorf("--rate: %w", err)
				}
			}
			return scrubCache(ctx, config, bytesPerSecond, output, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &config)
	outputFlag(cmd, &output)
	cmd.Flags().StringVar(&rate, "rate", "", "how many bytes to read a second at most, as in 20MiB (default: no bound)")
	return cmd
}

func scrubCache(ctx context.Context, config string, bytesPerSecond int64, output outputFormat, stdout, stderr io.Writer) error {
	c, err := readConfig(config)
	if err != nil {
		return err
	}
	store, err := usedStorage(ctx, c, true)
	if err != nil {
		return err
	}
	stock, err := store.Stock(ctx)
	if err != nil {
		return err
	}
	progress := newProgress(stderr)
	report := scrubReport{Corrupt: []corruptObject{}, Failed: []string{}}
	for part := range storage.ScrubParts {
		progress.say(fmt.Sprintf("%s of %d read, %s", countText(report.Objects, "object"), len(stock.Objects), sizeText(report.Bytes)))
		found, err := store.Scrub(ctx, part, bytesPerSecond)
		report.add(found)
		if err != nil {
			progress.say("")
			return err
		}
	}
	progress.say("")
	if err := report.write(stdout, output); err != nil {
		return err
	}
	switch {
	case len(report.Failed) > 0:
		return &statusError{status: statusUnclear}
	case len(report.Corrupt) > 0:
		return &statusError{status: statusRefused}
	}
	return nil
}

func (r *scrubReport) add(found storage.Scrubbed) {
	r.Objects += found.Objects
	r.Bytes += found.Bytes
	for _, c := range found.Corrupt {
		if c.Err != nil {
			r.Failed = append(r.Failed, c.Error())
			continue
		}
		r.Corrupt = append(r.Corrupt, corruptObject{c.Digest, c.Got})
	}
	for _, err := range found.Failed {
		r.Failed = append(r.Failed, err.Error())
	}
}

func (r *scrubReport) write(w io.Writer, output outputFormat) error {
	if output == outputJSON {
		return writeJSON(w, r)
	}
	for _, c := range r.Corrupt {
		fmt.Fprintf(w, "✘ %s was damaged, it hashes to %s; it is set aside, and fetched again when somebody pulls it\n", c.Digest, c.Got)
	}
	for _, why := range r.Failed {
		fmt.Fprintf(w, "? %s\n", why)
	}
	_, err := fmt.Fprintf(w, "✔ right: %s, %s; damaged: %d; not told: %d\n", countText(r.Objects, "object"), sizeText(r.Bytes), len(r.Corrupt), len(r.Failed))
	return err
}
