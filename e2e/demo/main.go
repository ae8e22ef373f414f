// Demo shows on one machine, without root and without a network, what
// trustmirror does: it starts a Docker Hub and an ECR, a real notary server and
// the real trustmirror, publishes Webdis as its author does, pulls it under both
// names, draws its chain of trust, and has what is wrong refused.
//
// It ends with an error if anything isn't as it should be. With KEEP=1 in the
// environment everything stays up until it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv("KEEP") == "1"); err != nil {
		fmt.Fprintf(os.Stderr, "\nThe demo failed: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keep bool) (err error) {
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			l.Close()
			err = fmt.Errorf("%w\nLogs and configuration are in %s", err, l.Dir)
			return
		}
		err = l.Remove()
	}()
	d := &demo{lab: l}
	for _, act := range []func(context.Context) error{
		d.publish, d.startMirror, d.pullBoth, d.drawChain, d.refuse,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	fmt.Println("All went as it should.")
	d.tryByHand(keep)
	if keep {
		<-ctx.Done()
	}
	return nil
}

// demo is what the acts of the play share.
type demo struct {
	lab     *lab.Lab
	world   *lab.World
	mirror  *lab.Mirror
	release lab.Published // of tag
	wrong   []lab.Wrong
}

// tag is the release that is pulled.
const tag = "0.1.19"

func (d *demo) publish(ctx context.Context) error {
	heading("1. Webdis is published on two registries and signed for one of them")
	notary, err := tools.Dir(ctx, "notary", os.Stdout)
	if err != nil {
		return err
	}
	if d.world, err = d.lab.StartWorld(ctx, notary); err != nil {
		return err
	}
	if d.release, err = lab.NewRelease(tag); err != nil {
		return err
	}
	if err := d.world.Push(ctx, tag, d.release); err != nil {
		return err
	}
	if err := d.world.Sign(ctx, tag, d.release); err != nil {
		return err
	}
	if d.wrong, err = d.world.PublishWrong(ctx); err != nil { // for act 5
		return err
	}
	fmt.Printf("Docker Hub     %s\n", d.world.Hub.URL)
	fmt.Printf("Amazon ECR     %s\n", d.world.ECR.URL)
	fmt.Printf("notary server  %s\n", d.world.Notary.URL)
	fmt.Printf("\nThe repository key signed %s:%s, two platforms, as on the Hub. ECR has the same images,\n", lab.HubName, tag)
	fmt.Println("but compressed and described in another way, so that only the configs (the image IDs) are equal:")
	fmt.Printf("\n  %-24s %-20s %s\n", "", "Docker Hub", "Amazon ECR")
	row := func(what string, hub, ecr lab.Blob) {
		fmt.Printf("  %-24s %-20s %s\n", what, short(hub), short(ecr))
	}
	row("index", d.release.Hub.Top(), d.release.ECR.Top())
	for i, hub := range d.release.Hub.Images {
		ecr := d.release.ECR.Images[i]
		row(hub.Platform.Architecture+" manifest", hub.Manifest, ecr.Manifest)
		row(hub.Platform.Architecture+" config", hub.Config, ecr.Config)
	}
	return nil
}

func (d *demo) startMirror(ctx context.Context) error {
	heading("2. trustmirror starts, with the author's keys pinned")
	program, err := lab.BuildMirror(ctx, d.lab.Dir)
	if err != nil {
		return err
	}
	rule, err := d.world.Rule()
	if err != nil {
		return err
	}
	d.mirror, err = d.lab.NewMirror(program, lab.MirrorConfig{Upstreams: d.world.Upstreams(), Rules: []lab.Rule{rule}})
	if err != nil {
		return err
	}
	config, err := os.ReadFile(d.mirror.ConfigFile)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s serve -c %s\n", config, filepath.Base(program), d.mirror.ConfigFile)
	if err := d.mirror.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("It serves %s\n", d.mirror.URL)
	return nil
}

func (d *demo) pullBoth(ctx context.Context) error {
	heading("3. Both names are pulled through it")
	for _, of := range []struct {
		name    string
		release lab.Release
	}{{lab.HubName, d.release.Hub}, {lab.ECRName, d.release.ECR}} {
		image := of.name + ":" + tag
		content, err := pull(ctx, d.mirror.Address, image)
		if err != nil {
			return fmt.Errorf("%s should have been served: %w", image, err)
		}
		size, err := compare(content, of.release)
		if err != nil {
			return fmt.Errorf("%s: %w", image, err)
		}
		fmt.Printf("%s\n  %d objects, %d bytes: each is byte for byte what its registry holds\n", image, len(content), size)
		for _, packaged := range of.release.Images {
			fmt.Printf("  %-6s image ID %s\n", packaged.Platform.Architecture, packaged.Config.Digest())
		}
	}
	for i, hub := range d.release.Hub.Images {
		if hub.Config.Digest() != d.release.ECR.Images[i].Config.Digest() {
			return errors.New("the image IDs differ between the two names")
		}
	}
	fmt.Println("The image IDs are equal: it is the same software under both names.")
	return nil
}

func (d *demo) drawChain(ctx context.Context) error {
	heading("4. The chain of trust, as `trustmirror verify` draws it")
	out, _, err := d.mirror.Run(ctx, "verify", "--layers", lab.HubName+":"+tag)
	fmt.Print(out)
	return err
}

func (d *demo) refuse(ctx context.Context) error {
	heading("5. What is wrong is refused")
	for _, wrong := range d.wrong {
		_, err := pull(ctx, d.mirror.Address, wrong.Image)
		refused, err := refusalOf(err)
		if err != nil {
			return fmt.Errorf("%s (%s): %w", wrong.What, wrong.Image, err)
		}
		fmt.Printf("%s: %s\n  %d %s: %s\n  reason: %s\n\n", wrong.What, wrong.Image, refused.status, refused.code, refused.message, refused.reason)
		if refused.reason != wrong.Reason {
			return fmt.Errorf("%s: the reason should have been %s", wrong.Image, wrong.Reason)
		}
	}
	return nil
}

func (d *demo) tryByHand(keep bool) {
	heading("6. Try it by hand")
	if keep {
		fmt.Print("All of it stays up until you press Ctrl-C.\n\n")
	} else {
		fmt.Print("Run `make demo KEEP=1`, which leaves all of it up, and then, at the addresses it prints:\n\n")
	}
	fmt.Printf("  %s/ in a browser: the status page, with what was pulled and refused\n", d.mirror.AdminURL)
	fmt.Printf("  curl -i %s/v2/%s/manifests/%s\n", d.mirror.URL, lab.HubName, tag)
	fmt.Printf("  curl -i %s/v2/%s/manifests/%s\n", d.mirror.URL, lab.ECRName, tag)
	for _, wrong := range d.wrong[:1] {
		fmt.Printf("  curl -i %s/v2/%s\n", d.mirror.URL, manifestOf(wrong.Image))
	}
	fmt.Printf("  docker pull %s/%s:%s\n", d.mirror.Address, lab.HubName, tag)
	fmt.Printf("  %s\n", d.mirror.CommandLine("verify", lab.ECRName+":"+tag))
	fmt.Printf("  %s\n", d.mirror.CommandLine("inspect", "--pretty", lab.HubName+":"+tag))
}

func heading(text string) { fmt.Printf("\n=== %s\n\n", text) }

func short(b lab.Blob) string { return "sha256:" + b.Digest().Encoded()[:12] + "…" }
