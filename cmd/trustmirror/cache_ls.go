package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/storage"
)

// cacheListing is what a storage holds.
type cacheListing struct {
	Images      []*cachedImage `json:"images"`
	Objects     int            `json:"objects"` // manifests, configs and layers, each once
	Bytes       int64          `json:"bytes"`
	Quarantined storage.Heap   `json:"quarantined"`
	Unfinished  storage.Heap   `json:"unfinished"`
}

// cachedImage is what was admitted in a repository for one signed digest.
type cachedImage struct {
	Repository string          `json:"repository"`
	Tag        string          `json:"tag"`
	Signed     digest.Digest   `json:"signed"`
	Digest     digest.Digest   `json:"digest,omitempty"` // what the tag was served as last; empty: only parts of it were pulled
	Admitted   time.Time       `json:"admitted"`         // when the last of it was
	Objects    []*cachedObject `json:"objects"`
	Bytes      int64           `json:"bytes"` // of what is stored

	top time.Time // when Digest was admitted
}

// cachedObject is one object that was admitted.
type cachedObject struct {
	Digest    digest.Digest `json:"digest"`
	Kind      storage.Kind  `json:"kind"`
	MediaType string        `json:"media_type"`
	Size      int64         `json:"size"`
	Stored    bool          `json:"stored"`
}

func newCacheListCommand() *cobra.Command {
	var config string
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "ls -c FILE",
		Short: "List what is stored, by repository and tag",
		Long: `Ls lists the images that were admitted, with the size of what is stored of them.
What several images share counts in each of them, and once in the total. An image
stays in the list when it is no longer signed: whether it is served is decided each
time somebody asks.`,
		Example: `  trustmirror cache ls -c config.yaml
  trustmirror cache ls -c config.yaml -o json | jq '.images[] | {tag, bytes}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return listCache(ctx, config, output, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &config)
	outputFlag(cmd, &output)
	return cmd
}

func listCache(ctx context.Context, config string, output outputFormat, stdout io.Writer) error {
	c, err := readConfig(config)
	if err != nil {
		return err
	}
	store, err := usedStorage(ctx, c, false)
	if err != nil {
		return err
	}
	l, err := newCacheListing(ctx, store)
	if err != nil {
		return err
	}
	if output == outputJSON {
		return writeJSON(stdout, l)
	}
	return l.write(stdout)
}

func newCacheListing(ctx context.Context, store *storage.Store) (*cacheListing, error) {
	stock, err := store.Stock(ctx)
	if err != nil {
		return nil, err
	}
	type name struct {
		repository, tag string
		signed          digest.Digest
	}
	images := map[name]*cachedImage{}
	l := &cacheListing{Images: []*cachedImage{}, Objects: len(stock.Objects), Quarantined: stock.Quarantined, Unfinished: stock.Unfinished}
	for _, size := range stock.Objects {
		l.Bytes += size
	}
	err = store.EachRecord(ctx, func(a storage.Admission, expected bool) error {
		if expected || a.Proof == storage.ProofBroken {
			return nil
		}
		key := name{a.Repository, a.Tag, a.Signed}
		image := images[key]
		if image == nil {
			image = &cachedImage{Repository: a.Repository, Tag: a.Tag, Signed: a.Signed}
			images[key], l.Images = image, append(l.Images, image)
		}
		image.add(a, stock)
		return nil
	})
	slices.SortFunc(l.Images, func(a, b *cachedImage) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), compareNatural(a.Tag, b.Tag), a.Admitted.Compare(b.Admitted))
	})
	return l, err
}

// add adds an object, unless it is there already for another reason.
func (i *cachedImage) add(a storage.Admission, stock *storage.Stock) {
	if a.At.After(i.Admitted) {
		i.Admitted = a.At
	}
	if a.Parent == "" && a.At.After(i.top) {
		i.Digest, i.top = a.Digest, a.At
	}
	if slices.ContainsFunc(i.Objects, func(o *cachedObject) bool { return o.Digest == a.Digest }) {
		return
	}
	size, stored := stock.Objects[a.Digest]
	i.Objects = append(i.Objects, &cachedObject{Digest: a.Digest, Kind: a.Kind, MediaType: a.MediaType, Size: a.Size, Stored: stored})
	i.Bytes += size
}

func (l *cacheListing) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 1, 2, ' ', 0)
	fmt.Fprintln(table, "REPOSITORY\tTAG\tOBJECTS\tSTORED\tADMITTED\tDIGEST")
	for _, i := range l.Images {
		shown := i.Digest.String()
		if shown == "" {
			shown = "parts of the signed " + i.Signed.String()
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\n", i.Repository, i.Tag, len(i.Objects), sizeText(i.Bytes), i.Admitted.UTC().Format(time.RFC3339), shown)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s, %s; %d in quarantine, %s; %s, %s\n", countText(l.Objects, "object"), sizeText(l.Bytes),
		l.Quarantined.Files, sizeText(l.Quarantined.Bytes), countText(l.Unfinished.Files, "unfinished write"), sizeText(l.Unfinished.Bytes))
	return err
}
