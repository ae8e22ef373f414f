package main

import (
	"os"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

// TestPullStraight pulls from the registries themselves: there everything is
// served, what is wrong too, so the demo's checks must tell the one from the other.
func TestPullStraight(t *testing.T) {
	l, err := lab.New()
	check(t, err)
	t.Cleanup(func() { check(t, l.Remove()) })
	notary, err := tools.Dir(t.Context(), "notary", os.Stdout)
	check(t, err)
	world, err := l.StartWorld(t.Context(), notary)
	check(t, err)
	release, err := lab.NewRelease(tag)
	check(t, err)
	check(t, world.Push(t.Context(), tag, release))

	got, err := pull(t.Context(), world.Hub.Address, lab.Repository+":"+tag)
	check(t, err)
	if _, err := compare(got, release.Hub); err != nil {
		t.Errorf("the Hub's release isn't itself: %v", err)
	}
	if _, err := compare(got, release.ECR); err == nil {
		t.Error("the Hub's release passes for ECR's")
	}
	one := release.Hub
	one.Images = one.Images[:1]
	if _, err := compare(got, one); err == nil {
		t.Error("more was served than published, and nobody noticed")
	}

	if _, err := refusalOf(nil); err == nil {
		t.Error("an image that was served passes for a refusal")
	}
	_, err = pull(t.Context(), world.Hub.Address, lab.Repository+":0.0.0")
	if _, err := refusalOf(err); err == nil {
		t.Error("an image that doesn't exist passes for a refusal")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
