package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// TestRunWebdis pulls a genuine Webdis under both names and runs it.
func TestRunWebdis(t *testing.T) {
	root, err := lab.WebdisRoot(t.Context(), os.Stdout)
	check(t, err)
	builds, err := lab.WebdisBuilds(root)
	check(t, err)
	release, err := lab.PackageMulti(builds)
	check(t, err)
	s := newSite(t)
	s.push(t, "0.1.19", release)
	s.serve(t)
	containerd := s.containerd2(t)
	for i, name := range []string{lab.HubName, lab.ECRName} {
		t.Run(name, func(t *testing.T) {
			image := name + ":0.1.19"
			check(t, containerd.Clear(t.Context()))
			check(t, containerd.Pull(t.Context(), image))
			got, err := containerd.ImageID(t.Context(), image)
			check(t, err)
			if want := imageID(t, release.Hub); got != want {
				t.Errorf("the image ID is %s, want %s", got, want)
			}
			container, err := containerd.RunImage(s.lab, image, fmt.Sprintf("webdis-%d", i))
			check(t, err)
			defer container.Stop()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var answer string
			check(t, container.WaitUntil(ctx, func(ctx context.Context) error {
				body, status, err := get(ctx, http.DefaultClient, "http://127.0.0.1:7379/PING")
				if err == nil && status != http.StatusOK { // webdis is up, redis not yet
					err = fmt.Errorf("webdis answered %d: %s", status, body)
				}
				answer = body
				return err
			}))
			if want := `{"PING":[true,"PONG"]}`; answer != want {
				t.Errorf("webdis answered %s, want %s", answer, want)
			}
		})
	}
	s.nobodyAskedOrigin(t)
}

// get returns the body and the status of the answer.
func get(ctx context.Context, client *http.Client, address string) (string, int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), response.StatusCode, err
}
