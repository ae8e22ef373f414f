// Screenshots makes the pictures of the status page that the documentation shows.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/chromedp/chromedp"

	"github.com/trustmirror/trustmirror/e2e/browser"
	"github.com/trustmirror/trustmirror/e2e/lab"
)

// picture is a page to take.
type picture struct {
	file          string
	path          string
	width, height int64
	dark          bool
}

func pictures() []picture {
	return []picture{
		{"status-light.png", "", 1180, 700, false},
		{"status-phone.png", "", 390, 844, false},
		{"chain-dark.png", "images/" + lab.HubName + "/tags/0.1.22", 1340, 800, true},
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: screenshots FOLDER")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "screenshots: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, folder string) (err error) {
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Remove()) }()
	site, err := browser.NewSite(ctx, l, os.Stderr)
	if err != nil {
		return err
	}
	for _, wrong := range site.Wrong {
		if site.Pull(ctx, wrong.Image) == nil {
			return fmt.Errorf("%s should have been refused", wrong.Image)
		}
	}
	chromium, err := browser.Open(ctx)
	if err != nil {
		return err
	}
	defer chromium.Close()
	for _, p := range pictures() {
		if err := chromium.Do(browser.Look(p.width, p.height, p.dark), chromedp.Navigate(site.Mirror.AdminURL+"/"+p.path)); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		png, err := browser.See(chromium, chromedp.CaptureScreenshot())
		if err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		file := filepath.Join(folder, p.file)
		if err := write(file, png); err != nil {
			return err
		}
		fmt.Printf("%s: %d bytes\n", file, len(png))
	}
	return nil
}

func write(file string, content []byte) error {
	f, err := os.Create(file) //nolint:gosec // whoever runs it names the folder
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
