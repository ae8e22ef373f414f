package e2e

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// TestPull pulls releases of every shape, under both names, by tag and by
// digest, from a cold and from a warm mirror, with every client.
func TestPull(t *testing.T) {
	s := newSite(t)
	releases := []struct {
		shape, tag string
		published  lab.Published
	}{
		{"several architectures", "0.1.19", multi(t, "0.1.19")},
		{"one architecture with equal digests", "0.1.12", singleAlike(t, "0.1.12")},
		{"one architecture with one config", "0.1.18", singleDiffering(t, "0.1.18")},
	}
	for _, release := range releases {
		s.push(t, release.tag, release.published)
	}
	for _, client := range s.clients(t) {
		if strings.HasSuffix(client.name, "CRI") {
			continue // its daemon pulls for ctr, too; TestClients has it pull both names
		}
		for _, release := range releases {
			for name, published := range map[string]lab.Release{lab.HubName: release.published.Hub, lab.ECRName: release.published.ECR} {
				for by, image := range map[string]string{
					"tag":             name + ":" + release.tag,
					"digest":          name + "@" + published.Top().Digest().String(),
					"platform digest": name + "@" + ownImage(t, published).Manifest.Digest().String(),
				} {
					if by == "platform digest" && published.Index == nil {
						continue // its digest is the release's
					}
					t.Run(strings.Join([]string{client.name, release.shape, name, by}, "/"), func(t *testing.T) {
						s.serve(t)
						s.pullColdAndWarm(t, client, image, imageID(t, release.published.Hub))
					})
				}
			}
		}
	}
}

// pullColdAndWarm pulls image twice onto an empty node: the mirror fetches what
// it hasn't got once, and the second time nothing at all.
func (s *site) pullColdAndWarm(t *testing.T, client client, image string, want digest.Digest) {
	s.upstreamRequests()
	for _, cache := range []string{"cold", "warm"} {
		check(t, client.Clear(t.Context()))
		if err := client.Pull(t.Context(), image); err != nil {
			t.Fatalf("%s: %v", cache, err)
		}
		got, err := client.ImageID(t.Context(), image)
		check(t, err)
		if got != want {
			t.Errorf("%s: the image ID is %s, want %s", cache, got, want)
		}
		asked := s.upstreamRequests()
		switch {
		case cache == "cold" && len(asked) == 0:
			t.Error("cold: nothing was asked of any upstream, so nothing was tested")
		case cache == "cold":
			onceEach(t, asked)
		case len(asked) > 0:
			t.Errorf("warm: upstreams were asked: %q", asked)
		}
		s.nobodyAskedOrigin(t)
	}
	check(t, client.Clear(t.Context()))
}

// onceEach checks that no blob and no manifest was fetched twice, not even once
// from each registry.
func onceEach(t *testing.T, asked []string) {
	t.Helper()
	counts := map[string]int{}
	for _, request := range asked {
		if strings.HasPrefix(request, "GET /v2/"+lab.Repository+"/") && strings.Contains(request, "sha256:") {
			counts[request]++
		}
	}
	for request, count := range counts {
		if count > 1 {
			t.Errorf("cold: %s was asked %d times", request, count)
		}
	}
}

// TestMovedTag moves a signed tag on the registry: the mirror serves what is
// signed, whatever the tag says.
func TestMovedTag(t *testing.T) {
	s := newSite(t)
	signed, moved := multi(t, "0.1.19"), multi(t, "0.1.19-moved")
	s.push(t, "0.1.19", signed)
	check(t, s.world.Hub.Push(t.Context(), lab.Repository, "0.1.19", moved.Hub))
	s.serve(t)
	skopeo := s.skopeo(t)
	image := lab.HubName + ":0.1.19"
	check(t, skopeo.Pull(t.Context(), image))
	got, err := skopeo.ImageID(t.Context(), image)
	check(t, err)
	if want := imageID(t, signed.Hub); got != want {
		t.Errorf("the image ID is %s, want the signed %s", got, want)
	}
}

// TestByTheMirrorsName pulls by names that begin with the mirror's own, as
// people do by hand: nothing can fall back from there.
func TestByTheMirrorsName(t *testing.T) {
	s := newSite(t)
	release := multi(t, "0.1.19")
	s.push(t, "0.1.19", release)
	check(t, s.world.Push(t.Context(), "0.1.11", release)) // and not signed
	s.serve(t)
	dockerd := s.dockerd(t)
	for _, name := range []string{lab.Repository, lab.HubName, lab.ECRName} {
		t.Run(name, func(t *testing.T) {
			check(t, dockerd.Clear(t.Context()))
			image := mirrorName + "/" + name + ":0.1.19"
			check(t, dockerd.Pull(t.Context(), image))
			got, err := dockerd.ImageID(t.Context(), image)
			check(t, err)
			if want := imageID(t, release.Hub); got != want {
				t.Errorf("the image ID is %s, want %s", got, want)
			}
			if err := dockerd.Pull(t.Context(), mirrorName+"/"+name+":0.1.11"); err == nil {
				t.Error("a tag that isn't signed was pulled")
			}
		})
	}
}

// TestEverythingStopped pulls from a warm mirror while Docker Hub, ECR and the
// notary server are down, and after a restart of the mirror too.
func TestEverythingStopped(t *testing.T) {
	s := newSite(t)
	release := multi(t, "0.1.19")
	s.push(t, "0.1.19", release)
	s.serve(t)
	images := []string{lab.HubName + ":0.1.19", lab.ECRName + ":0.1.19"}
	clients := s.clients(t)
	pullAll := func(t *testing.T) {
		for _, client := range clients {
			for _, image := range images {
				check(t, client.Clear(t.Context()))
				check(t, client.Pull(t.Context(), image))
				got, err := client.ImageID(t.Context(), image)
				check(t, err)
				if want := imageID(t, release.Hub); got != want {
					t.Errorf("%s: %s has the image ID %s, want %s", client.name, image, got, want)
				}
			}
		}
	}
	t.Run("while all is up", pullAll)
	s.world.Hub.Stop()
	s.world.ECR.Stop()
	s.world.Notary.Stop()
	t.Run("while all is down", pullAll)
	s.mirror.Process.Stop()
	check(t, s.mirror.Start(t.Context()))
	t.Run("after a restart while all is down", pullAll)
	s.nobodyAskedOrigin(t)
}

// ownImage is the release's image for this machine.
func ownImage(t *testing.T, release lab.Release) lab.Image {
	t.Helper()
	own := slices.IndexFunc(release.Images, func(image lab.Image) bool { return image.Platform.Architecture == runtime.GOARCH })
	if own < 0 {
		t.Fatalf("the lab has no image for %s", runtime.GOARCH)
	}
	return release.Images[own]
}

// imageID is the config digest of the release's image for this machine.
func imageID(t *testing.T, release lab.Release) digest.Digest {
	t.Helper()
	return ownImage(t, release).Config.Digest()
}

// multi is a release as of 0.1.19: an index with two platforms, and on ECR
// another with the same configs.
func multi(t *testing.T, version string) lab.Published {
	t.Helper()
	release, err := lab.NewRelease(version)
	check(t, err)
	return release
}

// singleAlike is a release as before 0.1.19: one manifest, the same on both.
func singleAlike(t *testing.T, version string) lab.Published {
	t.Helper()
	release, err := lab.ForHub().Single(ownBuild(t, version))
	check(t, err)
	return lab.Published{Hub: release, ECR: release}
}

// singleDiffering has one manifest on each registry, with the config in common.
func singleDiffering(t *testing.T, version string) lab.Published {
	t.Helper()
	hub, err := lab.ForHub().Single(ownBuild(t, version))
	check(t, err)
	ecr, err := lab.ForECR().Single(ownBuild(t, version))
	check(t, err)
	return lab.Published{Hub: hub, ECR: ecr}
}

func ownBuild(t *testing.T, version string) lab.Build {
	t.Helper()
	builds, err := lab.Builds(version, "")
	check(t, err)
	own := slices.IndexFunc(builds, func(build lab.Build) bool { return build.Platform.Architecture == runtime.GOARCH })
	if own < 0 {
		t.Fatalf("the lab has no image for %s", runtime.GOARCH)
	}
	return builds[own]
}
