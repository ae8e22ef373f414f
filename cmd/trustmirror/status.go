package main

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/trustmirror/trustmirror/proxy/activity"
	"github.com/trustmirror/trustmirror/proxy/status"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// newStatusPage makes the status page: it shows the parts in force, what the
// recorder remembers, and what storage holds.
func newStatusPage(current func() *parts, recorder *activity.Recorder, store *storage.Store) (http.Handler, error) {
	return status.New(status.Config{
		Images:       func(ctx context.Context) []status.Image { return current().statusImages(ctx) },
		Certificates: func() []status.Expiry { return current().statusCertificates() },
		Chain: func(ctx context.Context, image verify.Ref, tag string) (*verify.Chain, error) {
			return current().gate.Chain(ctx, image, tag)
		},
		Roots: func(ctx context.Context, image verify.Ref, tag string) (*verify.Chain, error) {
			return current().gate.Roots(ctx, image, tag)
		},
		Refusals: func() []status.Refusal { return statusRefusals(recorder.Refusals(activity.Filter{})) },
		Pulls:    func() []status.Pull { return statusPulls(recorder.Pulls()) },
		Usage: func(ctx context.Context) (status.Usage, error) {
			c, err := store.Contents(ctx)
			return statusUsage(c, store.EvictionState()), err
		},
		Version: newBuildVersion().Version,
		Clock:   wallClock,
	})
}

func statusUsage(c storage.Contents, e storage.EvictionState) status.Usage {
	u := status.Usage{
		Objects: c.Objects, Bytes: c.Bytes, At: c.At.UTC(), MaxSize: e.MaxSize, LastEviction: moment(e.Last), Repositories: []status.RepositoryUsage{},
	}
	for _, h := range c.Repositories {
		u.Repositories = append(u.Repositories, status.RepositoryUsage{Name: h.Repository, Objects: h.Objects, Bytes: h.Bytes})
	}
	return u
}

// statusImages are the signed repositories of which something is known.
func (p *parts) statusImages(ctx context.Context) []status.Image {
	images := []status.Image{}
	for _, e := range p.sources.expiries() {
		ref, err := verify.ParseRef(e.Image)
		if err != nil {
			continue // there is no such name in a policy
		}
		image, err := p.policy.Image(ref)
		if err != nil {
			continue
		}
		src, ok := image.Source.(described)
		if !ok {
			continue // all of cmd's are
		}
		shown := status.Image{Name: e.Image, Copies: []string{}, Trust: statusTrust(src.origin(), e), Tags: []status.Tag{}}
		for _, c := range image.Copies {
			shown.Copies = append(shown.Copies, c.Name())
		}
		if live, ok := src.(*source); ok && !live.statusOf(&shown) {
			images = append(images, shown)
			continue // asking for targets would ask the service
		}
		set, err := src.Targets(ctx)
		if err != nil {
			o := outcomeOf(err)
			shown.Error, shown.ErrorReason = o.Message, o.Reason
		} else {
			shown.Tags = statusTags(set)
		}
		images = append(images, shown)
	}
	return images
}

// statusOf adds how asking the trust service goes, and tells whether anything is
// known to be signed.
func (s *source) statusOf(image *status.Image) bool {
	now := s.Status()
	image.Trust.Asked, image.Trust.Refreshed = moment(now.Tried), moment(now.Succeeded)
	for i, e := range image.Trust.Expires {
		image.Trust.Expires[i].Version = now.Versions[e.Role]
	}
	if now.Err != nil {
		image.Trust.RefreshError = outcomeOf(now.Err).Message
	}
	if now.Versions != nil {
		return true
	}
	image.Error, image.ErrorReason = "the trust service wasn't asked yet", verify.TrustUnavailable
	if now.Err != nil {
		image.Error, image.ErrorReason = image.Trust.RefreshError, verify.ReasonOf(now.Err)
	}
	return false
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func statusTrust(o origin, e trustExpiry) status.Trust {
	t := status.Trust{Source: o.Kind, From: o.From, GUN: o.GUN, AsOf: e.AsOf, Keys: []status.Key{}, Expires: statusExpiries(e, "")}
	if o.Keys == nil {
		return t
	}
	add := func(role string, ids []string) {
		for _, id := range ids {
			t.Keys = append(t.Keys, status.Key{Role: role, ID: id})
		}
	}
	add("root", o.Keys.RootKeys)
	add("repository", o.Keys.RepositoryKeys)
	for _, name := range sortedKeys(o.Keys.Signers) {
		add("signer "+name, o.Keys.Signers[name])
	}
	return t
}

func statusExpiries(e trustExpiry, of string) []status.Expiry {
	all := []status.Expiry{}
	for _, r := range e.Roles {
		all = append(all, status.Expiry{Role: r.Role + of, At: r.Expires, Left: r.Left, Warning: r.Warning})
	}
	return all
}

func (p *parts) statusCertificates() []status.Expiry {
	all := []status.Expiry{}
	if p.certificates != nil {
		for _, e := range p.certificates.expiries(wallClock()) {
			all = append(all, statusExpiries(e, " "+e.File)...)
		}
	}
	return all
}

// statusTags are the tags that are signed now, the latest release first.
func statusTags(set *verify.TargetSet) []status.Tag {
	tags := []status.Tag{}
	for _, t := range set.All() {
		if t.Superseded.IsZero() {
			tags = append(tags, status.Tag{Tag: t.Tag, Digest: t.Digest, Signers: t.Signers})
		}
	}
	slices.SortStableFunc(tags, func(a, b status.Tag) int { return compareNatural(b.Tag, a.Tag) })
	return tags
}

func statusRefusals(refusals []activity.Refusal) []status.Refusal {
	shown := make([]status.Refusal, len(refusals))
	for i, r := range refusals {
		shown[i] = status.Refusal{
			At: r.At.UTC(), Name: r.Name, Reference: r.Reference, Image: r.Image, Client: r.Client, UserAgent: r.UserAgent,
			Reason: r.Reason, Sentence: r.Sentence, TraceID: r.TraceID, Repeated: r.Repeated,
		}
		if r.Ref.Registry != "" {
			shown[i].Repository = r.Ref.Name()
		}
	}
	return shown
}

func statusPulls(pulls []activity.Pull) []status.Pull {
	shown := make([]status.Pull, len(pulls))
	for i, p := range pulls {
		shown[i] = status.Pull{
			Began: p.Began.UTC(), Object: p.Ref.String(), Kind: p.Kind, Client: p.Client, UserAgent: p.UserAgent, TraceID: p.TraceID,
			Sent: p.Sent, Size: p.Size,
		}
	}
	return shown
}
