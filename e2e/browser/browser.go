// Package browser looks at the status page with a real Chromium: of the built
// trustmirror, in a lab where Webdis is published and some of it is wrong.
package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

// Tag is the release that is as it should be.
const Tag = "0.1.19"

// Site is a mirror from which Tag was pulled under both names.
type Site struct {
	Mirror *lab.Mirror
	Wrong  []lab.Wrong // what is refused when somebody pulls it; nobody has yet
}

// NewSite starts it all in a lab, whose Close ends it.
func NewSite(ctx context.Context, l *lab.Lab, log io.Writer) (*Site, error) {
	notary, err := tools.Dir(ctx, "notary", log)
	if err != nil {
		return nil, err
	}
	world, err := l.StartWorld(ctx, notary)
	if err != nil {
		return nil, err
	}
	release, err := lab.NewRelease(Tag)
	if err != nil {
		return nil, err
	}
	if err := world.Push(ctx, Tag, release); err != nil {
		return nil, err
	}
	if err := world.Sign(ctx, Tag, release); err != nil {
		return nil, err
	}
	s := &Site{}
	if s.Wrong, err = world.PublishWrong(ctx); err != nil {
		return nil, err
	}
	rule, err := world.Rule()
	if err != nil {
		return nil, err
	}
	program, err := lab.BuildMirror(ctx, l.Dir)
	if err != nil {
		return nil, err
	}
	if s.Mirror, err = l.NewMirror(program, lab.MirrorConfig{Upstreams: world.Upstreams(), Rules: []lab.Rule{rule}}); err != nil {
		return nil, err
	}
	if err := s.Mirror.Start(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{lab.HubName, lab.ECRName} {
		if err := s.Pull(ctx, name+":"+Tag); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Pull pulls an image through the mirror, with every platform and layer.
func (s *Site) Pull(ctx context.Context, image string) error {
	ref, err := name.ParseReference(s.Mirror.Address + "/" + image)
	if err != nil {
		return err
	}
	index, err := remote.Index(ref, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	listed, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, entry := range listed.Manifests {
		image, err := index.Image(entry.Digest)
		if err != nil {
			return err
		}
		if err := pullImage(image); err != nil {
			return err
		}
	}
	return nil
}

func pullImage(image v1.Image) error {
	if _, err := image.RawConfigFile(); err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		body, err := layer.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		if err := errors.Join(err, body.Close()); err != nil {
			return err
		}
	}
	return nil
}

// ErrNoChromium says that there is no browser on this machine.
var ErrNoChromium = errors.New("there is no chromium; e2e/install.sh installs it")

// Browser is a Chromium with one tab.
type Browser struct {
	ctx    context.Context // of the tab
	cancel []context.CancelFunc

	mu         sync.Mutex // guards complaints
	complaints []string   // what the browser objected to, such as a breach of the page's own policy
}

// Open starts a Chromium; Close it.
func Open(ctx context.Context) (*Browser, error) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		return nil, ErrNoChromium
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	b := &Browser{}
	allocator, cancel := chromedp.NewExecAllocator(ctx, options...)
	b.cancel = append(b.cancel, cancel)
	b.ctx, cancel = chromedp.NewContext(allocator)
	b.cancel = append(b.cancel, cancel)
	err = chromedp.Listen(b.ctx, func(event any) {
		if e, ok := event.(*cdplog.EventEntryAdded); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.complaints = append(b.complaints, fmt.Sprintf("%s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	})
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("chromium doesn't start: %w", err)
	}
	return b, nil
}

// Close ends the browser.
func (b *Browser) Close() {
	for i := len(b.cancel) - 1; i >= 0; i-- {
		b.cancel[i]()
	}
}

// Do does something in the tab.
func (b *Browser) Do(steps ...chromedp.Action[chromedp.Void]) error {
	return chromedp.Do(b.ctx, steps...)
}

// See looks at something in the tab.
func See[T any](b *Browser, look chromedp.Action[T]) (T, error) { return chromedp.Run(b.ctx, look) }

// Complaints are what the browser has objected to since the last call.
func (b *Browser) Complaints() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Join(b.complaints, "\n")
	b.complaints = nil
	return all
}

// Look makes the window so large, for an eye that is used to the dark or not.
func Look(width, height int64, dark bool) chromedp.Action[chromedp.Void] {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return chromedp.Steps(
		chromedp.EmulateViewport(width, height),
		chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			return err
		}),
	)
}
