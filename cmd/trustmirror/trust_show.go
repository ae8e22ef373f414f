package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// shownTrust is what a trust source or an archive holds.
type shownTrust struct {
	Image   string     `json:"image,omitempty"` // the signed repository; empty for an archive without a configuration
	Source  string     `json:"source"`          // "notary", "archive" or "digests"
	From    string     `json:"from,omitempty"`  // the service's URL, or a file
	GUN     string     `json:"gun,omitempty"`
	SHA256  string     `json:"sha256,omitempty"`        // of an archive
	Origin  string     `json:"exported_from,omitempty"` // where an archive's metadata came from, as it says
	Moment  *time.Time `json:"moment,omitempty"`        // as of which an archive is judged
	Roots   []int64    `json:"roots,omitempty"`         // the oldest and the newest version in an archive
	outcome            // under the keys that the configuration pins
	Pinned  bool       `json:"pinned"` // there is a configuration for it
	Roles   []role     `json:"roles,omitempty"`
	Tags    []shownTag `json:"tags,omitempty"`
}

// shownTag is a tag with what is signed for it.
type shownTag struct {
	Tag     string        `json:"tag"`
	Digest  digest.Digest `json:"digest,omitempty"` // empty where signers disagree
	Size    int64         `json:"size,omitempty"`
	Signers []string      `json:"signers,omitempty"`
	Dispute string        `json:"dispute,omitempty"` // how signers disagree
}

func newTrustShowCommand() *cobra.Command {
	var config string
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "show [-c FILE] {IMAGE | ARCHIVE}…",
		Short: "Show what a trust source or an archive holds, and when it expires",
		Long: `Show verifies what the trust source of an image, or an archive, holds and prints
roles, keys, versions, when each expires, and the tags with digests and signers.

An archive is shown without a configuration, too; then its signatures are checked
against the keys that it lists itself, which proves nothing about whose they are.
With -c they are compared with the keys that the configuration pins.

Exit status 0: verified, or, without a configuration, in itself right; 1: refused;
2: it could not be told.`,
		Example: `  trustmirror trust show -c config.yaml nicolas/webdis
  trustmirror trust show docker.io-nicolas-webdis-20261208T000000Z.tar
  trustmirror trust show -c config.yaml -o json webdis.tar | jq '.[].roles'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return showTrust(ctx, config, output, args, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file that pins keys; needed for images")
	outputFlag(cmd, &output)
	return cmd
}

func showTrust(ctx context.Context, config string, output outputFormat, args []string, stdout io.Writer) error {
	var p *parts
	if config != "" {
		var err error
		if p, err = assembleOnce(ctx, config); err != nil {
			return err
		}
		defer p.close()
	}
	shown := []*shownTrust{}
	worst := verified
	for _, arg := range args {
		t, err := showOne(ctx, p, arg)
		if err != nil {
			return err
		}
		shown = append(shown, t)
		if t.Pinned || t.Verdict == refused {
			worst = worst.worse(t.Verdict)
		}
	}
	if err := writeShown(stdout, output, shown); err != nil {
		return err
	}
	if worst != verified {
		return &statusError{status: worst.status()}
	}
	return nil
}

func writeShown(w io.Writer, output outputFormat, shown []*shownTrust) error {
	if output == outputJSON {
		return writeJSON(w, shown)
	}
	for i, t := range shown {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := t.write(w); err != nil {
			return err
		}
	}
	return nil
}

// showOne shows an archive, if there is such a file, or an image's trust source.
func showOne(ctx context.Context, p *parts, arg string) (*shownTrust, error) {
	if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
		return showArchive(ctx, p, arg)
	}
	if p == nil {
		return nil, fmt.Errorf("there is no file %s; to show what an image's trust source holds, name the configuration with -c", arg)
	}
	named, err := p.config.signedImage(arg)
	if err != nil {
		return nil, err
	}
	ref, err := verify.ParseRef(named.Signed)
	if err != nil {
		return nil, err
	}
	image, err := p.policy.Image(ref)
	if err != nil {
		return nil, err
	}
	src, ok := image.Source.(described)
	if !ok {
		return nil, fmt.Errorf("%s: its trust source can't be shown", arg)
	}
	o := src.origin()
	t := &shownTrust{Image: o.Image, Source: o.Kind, From: o.From, GUN: o.GUN, Pinned: true}
	if a, ok := src.(*archiveSource); ok {
		t.ofArchive(a.Archive())
	}
	t.fill(ctx, src, o.Keys)
	return t, nil
}

// showArchive shows an archive file: under the pinned keys if a configuration has
// some for it, and if those refuse it or there are none, under its own.
func showArchive(ctx context.Context, p *parts, file string) (*shownTrust, error) {
	raw, err := readArchiveFile(file)
	if err != nil {
		return nil, err
	}
	t := &shownTrust{Source: kindArchive, From: file}
	content, err := notary.ReadArchive(raw)
	if err != nil {
		t.outcome = outcomeOf(err)
		return t, nil
	}
	t.ofArchive(content)
	var pinned *Keys
	if p != nil {
		for _, image := range p.config.Images {
			if image.gun() == content.GUN() && image.keys() != nil {
				pinned, t.Image, t.Pinned = image.keys(), image.Signed, true
			}
		}
	}
	own, err := content.Keys()
	if err == nil {
		err = t.fillFromArchive(ctx, content, own, pinned)
	}
	if err == nil && pinned != nil {
		_, err = content.Verify(ctx, content.GUN(), pinned.pins())
	}
	t.outcome = outcomeOf(err)
	if err == nil && pinned == nil {
		t.outcome = outcome{Verdict: unclear, Message: "signed by the keys that it lists itself; no configuration says whose they are"}
	}
	return t, nil
}

// fillFromArchive shows what an archive holds, whosever keys it lists.
func (t *shownTrust) fillFromArchive(ctx context.Context, a *notary.Archive, own notary.Pins, pinned *Keys) error {
	store, err := storage.Open(ctx, driverInmemory, nil)
	if err != nil {
		return err
	}
	src, err := notary.NewArchiveSource(ctx, notary.ArchiveConfig{
		Archive: a, GUN: a.GUN(), Pins: own, Store: store.Trust(), Clock: wallClock,
	})
	if err != nil {
		return err
	}
	t.fill(ctx, src, cmp.Or(pinned, &Keys{}))
	return nil
}

func (t *shownTrust) ofArchive(a *notary.Archive) {
	oldest, newest := a.Roots()
	moment := a.Moment()
	t.GUN, t.SHA256, t.Origin, t.Moment, t.Roots = a.GUN(), a.SHA256(), a.Source(), &moment, []int64{oldest, newest}
}

// fill shows roles and tags.
func (t *shownTrust) fill(ctx context.Context, src verify.Source, keys *Keys) {
	set, err := src.Targets(ctx)
	t.outcome = outcomeOf(err)
	if err != nil {
		return
	}
	names := make(map[string]bool)
	for _, target := range set.All() {
		if target.Superseded.IsZero() {
			names[target.Tag] = true
		}
	}
	if documented, ok := src.(interface {
		Metadata(ctx context.Context) (*notary.Metadata, error)
	}); ok {
		m, err := documented.Metadata(ctx)
		if err != nil {
			t.outcome = outcomeOf(err)
			return
		}
		t.Roles = keys.roles(m)
		for i, r := range t.Roles {
			if r.Version > 0 {
				t.Roles[i].Left = new(int64(r.Expires.Sub(wallClock()) / time.Second))
			}
		}
		namesIn(m.Targets, names)
	}
	for _, tag := range slices.SortedFunc(maps.Keys(names), compareNatural) {
		t.addTag(ctx, src, tag)
	}
}

// namesIn collects what a role and its delegations sign, to find what they
// disagree on.
func namesIn(r notary.TargetsRole, names map[string]bool) {
	for _, target := range r.Targets {
		names[target.Name] = true
	}
	for _, d := range r.Delegations {
		namesIn(d, names)
	}
}

func (t *shownTrust) addTag(ctx context.Context, src verify.Source, tag string) {
	target, err := src.Target(ctx, tag)
	var refusal *verify.Refusal
	switch {
	case err == nil:
		t.Tags = append(t.Tags, shownTag{Tag: tag, Digest: target.Digest, Size: target.Size, Signers: target.Signers})
	case errors.As(err, &refusal) && refusal.Reason == verify.RolesDisagree:
		t.Tags = append(t.Tags, shownTag{Tag: tag, Dispute: refusal.Detail})
	} // else it is no tag, or outside the paths of who signed it
}

// write shows trust to people.
func (t *shownTrust) write(w io.Writer) error {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("%s", cmp.Or(t.Image, t.GUN, t.From))
	t.writeHead(say)
	d := drawing{now: wallClock}
	for _, r := range t.Roles {
		say("")
		if r.Version == 0 {
			say("  %s  nothing published yet", r.Role)
		} else {
			say("  %s  version %d, %s", r.Role, r.Version, d.expiry(r.Expires))
		}
		for _, k := range r.Keys {
			say("    %s", t.keyText(r.Role, k))
		}
	}
	if len(t.Tags) > 0 {
		say("")
	}
	table := tabwriter.NewWriter(&b, 0, 1, 2, ' ', 0)
	for _, tag := range t.Tags {
		if tag.Dispute != "" {
			fmt.Fprintf(table, "  %s\tdisputed: %s\n", tag.Tag, tag.Dispute)
		} else {
			fmt.Fprintf(table, "  %s\t%s\t%s\n", tag.Tag, tag.Digest, strings.Join(tag.Signers, ", "))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *shownTrust) writeHead(say func(string, ...any)) {
	switch t.Source {
	case kindArchive:
		say("  archive   %s", t.From)
		if t.Moment == nil {
			break
		}
		say("  sha256    %s", t.SHA256)
		say("  exported  from %s, of %s", cmp.Or(t.Origin, "somewhere"), t.GUN)
		say("  as of     %s, the last moment at which all of it was valid", t.Moment.Format(time.RFC3339))
		say("  root      %s", versions(t.Roots[0], t.Roots[1]))
	case kindDigests:
		say("  digests   pinned in %s", cmp.Or(t.From, "the configuration"))
	default:
		say("  notary    %s, %s", t.From, t.GUN)
	}
	switch {
	case t.Verdict != verified:
		say("  %s %s", t.mark(), t.because())
	case t.Source != kindDigests:
		say("  ✔ verified under the pinned keys")
	}
}

// keyText shows a key: pinned, not pinned, or the trust service's own.
func (t *shownTrust) keyText(role string, k roleKey) string {
	standing := "pinned"
	switch {
	case role == "snapshot" || role == "timestamp":
		standing = "server"
	case !t.Pinned:
		standing = "listed"
	case !k.Pinned:
		standing = "NOT PINNED"
	}
	signed := ""
	if k.Signed {
		signed = ", signed"
	}
	return fmt.Sprintf("%s key %s%s", standing, k.ID, signed)
}

// versions are versions from one to another, for people.
func versions(oldest, newest int64) string {
	if oldest == newest {
		return fmt.Sprintf("version %d", newest)
	}
	return fmt.Sprintf("versions %d to %d", oldest, newest)
}
