package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

// bench is one run: the programs, the upstream, and what is published there.
type bench struct {
	options
	log      io.Writer
	lab      *lab.Lab
	upstream *upstream
	images   map[string]image // what was published, by tag
	compared map[string]int   // how many objects each server delivered as published

	program  string // the paths of trustmirror,
	registry string // distribution's registry
	nginx    string // and nginx; empty where it isn't installed

	warm []*server // those that have the warm image, once somebody needed them
}

// sample is what one round shows of a subject, by quantity: "requests/s".
type sample map[string]float64

// subject is one of those that are compared.
type subject struct {
	name    string
	measure func(context.Context) (sample, error)
}

// experiment is one thing that is measured of several subjects, in turn.
type experiment struct {
	name    string // "warm/manifest-digest"
	what    string
	once    bool // for what isn't compared, and takes long
	prepare func(context.Context) ([]subject, error)
	goals   []goal
}

// measure runs the experiments that the options choose. Its progress goes to log.
func measure(ctx context.Context, o options, log io.Writer) (_ *results, err error) {
	b := &bench{options: o, log: log, images: map[string]image{}, compared: map[string]int{}}
	if b.lab, err = lab.New(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.lab.Remove()) }()
	if b.upstream, err = startUpstream(b.lab, o.through); err != nil {
		return nil, err
	}
	defer b.upstream.Close()
	if b.program, err = lab.BuildMirror(ctx, b.lab.Dir); err != nil {
		return nil, err
	}
	programs, err := tools.Dir(ctx, "registry", log)
	if err != nil {
		return nil, err
	}
	b.registry = programs + "/registry"
	if b.nginx, err = exec.LookPath("nginx"); err != nil {
		fmt.Fprintln(log, "nginx isn't installed, so nothing is compared with it: run e2e/install.sh as root")
	}
	all := &results{Compared: b.compared}
	if all.Environment, err = b.environment(ctx); err != nil {
		return nil, err
	}
	experiments := slices.Concat(b.warmExperiments(), b.coldExperiments(), b.aloneExperiments())
	for _, e := range experiments {
		if !o.rows.MatchString(e.name) {
			continue
		}
		measured, err := b.run(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		all.Experiments = append(all.Experiments, measured)
	}
	if len(all.Experiments) == 0 {
		return nil, fmt.Errorf("no row's name matches %q; there are %s", o.rows, names(experiments))
	}
	return all, nil
}

// run measures each subject once a round, each time in another order.
func (b *bench) run(ctx context.Context, e experiment) (result, error) {
	fmt.Fprintf(b.log, "%s: %s\n", e.name, e.what)
	subjects, err := e.prepare(ctx)
	if err != nil {
		return result{}, err
	}
	rounds := b.rounds
	if e.once {
		rounds = 1
	}
	var measured measurements
	for round := range rounds {
		for i := range subjects {
			s := subjects[(round+i)%len(subjects)]
			got, err := s.measure(ctx)
			if err = errors.Join(err, ctx.Err()); err != nil {
				return result{}, fmt.Errorf("%s: %w", s.name, err)
			}
			measured.add(s.name, got)
			fmt.Fprintf(b.log, "  %d/%d %-28s %s\n", round+1, rounds, s.name, got)
		}
	}
	return result{Name: e.name, What: e.what, Measured: measured, Comparisons: measured.compare(e.goals)}, nil
}

// image publishes an image with layers of these sizes, once, and its copy.
func (b *bench) image(ctx context.Context, tag string, sizes ...int64) (image, error) {
	if img, ok := b.images[tag]; ok {
		return img, nil
	}
	fmt.Fprintf(b.log, "making and publishing image %s\n", tag)
	if b.short {
		sizes = slices.Clone(sizes)
		for i := range sizes {
			sizes[i] /= 10
		}
	}
	img, err := newImage(b.lab.Dir, tag, sizes)
	if err != nil {
		return image{}, err
	}
	err = errors.Join(b.upstream.push(ctx, signedRepository, tag, img.signed), b.upstream.push(ctx, copyRepository, tag, img.copy))
	b.images[tag] = img
	return img, err
}

// pull pulls an image and notes what that showed of the server that is called name.
func (b *bench) pull(ctx context.Context, name string, client *puller, repository, tag string, want lab.Release) (sample, error) {
	got, err := client.pull(ctx, repository, tag, want)
	b.compared[name] += got.objects
	return sample{seconds: got.took.Seconds(), firstByte: got.firstByte.Seconds()}, err
}

// long is for how long a server is loaded.
func (b *bench) long(d time.Duration) time.Duration {
	if b.short {
		return d / 10
	}
	return d
}

func names(experiments []experiment) (all []string) {
	for _, e := range experiments {
		all = append(all, e.name)
	}
	return all
}
