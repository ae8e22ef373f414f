// Install builds the tools it is asked for, where the cache doesn't have them,
// and prints their folders, one a line.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/trustmirror/trustmirror/e2e/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, name := range os.Args[1:] {
		dir, err := tools.Dir(ctx, name, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(dir)
	}
}
