package main

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/warm"
)

// keepWarm makes what keeps warm what a configuration wants, nil if that is nothing.
// An error is a *mistake.
func (m *mirror) keepWarm(p *parts) error {
	var images []warm.Wanted
	for i, image := range p.config.Images {
		if image.Warm == nil {
			continue
		}
		ref, err := verify.ParseRef(image.Signed)
		if err != nil {
			return p.config.places.mistake(fmt.Sprintf("images[%d].signed", i), "%v", err)
		}
		found, err := p.policy.Image(ref)
		if err != nil {
			return p.config.places.mistake(fmt.Sprintf("images[%d]", i), "%v", err)
		}
		images = append(images, warm.Wanted{
			Signed: found.Signed, Copies: found.Copies, Tags: image.Warm.Tags, Platforms: image.Warm.Platforms,
			Targets: func(ctx context.Context) (*verify.TargetSet, error) {
				if src, ok := found.Source.(*source); ok && src.Status().Versions == nil {
					return nil, nil // its first answer is news; until then nobody is asked on our behalf
				}
				return found.Source.Targets(ctx)
			},
		})
	}
	if len(images) == 0 {
		return nil
	}
	p.warmed = images
	p.keeper = warm.NewKeeper(warm.KeeperConfig{
		Images: images, Mirror: warm.Through(p.gate, m.store, wallClock), Changed: m.signed, Told: m.warmed, Tracer: m.telemetry.tracer(), Clock: wallClock,
	})
	return nil
}

// warm keeps images warm as the configuration in force wants, until ctx ends.
func (m *mirror) warm(ctx context.Context) error {
	for ctx.Err() == nil {
		p := m.current.use()
		within, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if p.keeper != nil {
				p.keeper.Run(within)
			}
		}()
		select {
		case <-ctx.Done():
		case <-m.reloaded:
		}
		stop()
		<-ended
		p.users.Done()
	}
	return nil
}

// warmed says in the log what came of warming an image.
func (m *mirror) warmed(image *warm.Image, again time.Duration) {
	there, fresh := image.Sum()
	attrs := []any{"ref", image.Ref.String(), "objects", there.Objects, "bytes", there.Bytes, "new_objects", fresh.Objects, "new_bytes", fresh.Bytes}
	failed := image.Failed()
	for _, o := range failed {
		m.log.Warn("not warmed", "ref", image.Ref.String(), "kind", o.Kind, "object", o.Ref.Digest, "reason", verify.ReasonOf(o.Err), "error", o.Err)
	}
	switch missing := image.MissingText(); {
	case len(failed) > 0:
		m.log.Warn("warmed in part only", append(attrs, "failed", len(failed), "again_after", again)...)
	case missing != "":
		m.log.Warn("warmed, but for platforms that it doesn't have", append(attrs, "missing", missing)...)
	default:
		m.log.Info("warmed", attrs...)
	}
}

// eachMissing tells how much of what is to be warm isn't.
func (p *parts) eachMissing(o observer) {
	if p.keeper == nil {
		return
	}
	for i, n := range p.keeper.Missing() {
		o(float64(n), attribute.String("image", p.warmed[i].Signed.Name()))
	}
}
