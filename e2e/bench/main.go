// Bench starts trustmirror, built from this tree, beside others that deliver the same
// images on the same machine in the same run: distribution's registry as a pull-through
// proxy, nginx over the same files, and the upstream itself. It prints how they compare,
// round by round in turn, since a figure of one machine says nothing about another:
//
//	go run ./bench                            everything; about half an hour
//	go run ./bench -run '^warm/' -rounds 9    some of it, more often
//	go run ./bench -short                     a tenth of the bytes, to see that it works
//
// Upstreams are behind a shim that gives each connection a round-trip time and a
// bandwidth. Everything is on loopback, and everything that was started is ended, on
// Ctrl-C too. A goal that is missed is printed, and no failure.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	rows    *regexp.Regexp // which experiments are run
	rounds  int
	short   bool // a tenth of the bytes, and of the time that servers are loaded for
	million bool // measure with a million admissions, too
	through link
}

func run(ctx context.Context, args []string, out, log io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(log)
	var (
		rows      = flags.String("run", "", "only the rows whose names match this `regexp`, such as warm/manifest")
		rounds    = flags.Int("rounds", 5, "how often each is measured, in turn with the others")
		short     = flags.Bool("short", false, "with a tenth of the bytes, clients and time")
		million   = flags.Bool("million", false, "measure latency with a million admissions: 8 GB of small files, quicker with TMPDIR=/dev/shm")
		rtt       = flags.Duration("rtt", 25*time.Millisecond, "the round-trip time to upstreams")
		bandwidth = flags.Float64("bandwidth", 20, "the bandwidth of each connection to upstreams, in `MB/s`")
		file      = flags.String("json", "", "write the results to this `file` as JSON, too")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	matching, err := regexp.Compile(*rows)
	if err != nil {
		return err
	}
	if *rounds < 1 || flags.NArg() > 0 {
		return errors.New("there is at least one round, and no argument but flags: see -help")
	}
	results, err := measure(ctx, options{matching, *rounds, *short, *million, link{*rtt, int64(*bandwidth * mb)}}, log)
	if err != nil {
		return err
	}
	if *file != "" {
		raw, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(*file, append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	return results.print(out)
}
