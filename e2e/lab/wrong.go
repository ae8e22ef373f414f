package lab

import "context"

// Wrong is an image that must not be had, though the registries offer it.
type Wrong struct {
	What   string // "a tag that isn't signed"
	Image  string // "docker.io/nicolas/webdis:0.1.11"
	Reason string // the reason code of the refusal
}

// PublishWrong publishes releases with each of which something is wrong, signs
// those that are to be signed, and returns what must be refused.
func (w *World) PublishWrong(ctx context.Context) ([]Wrong, error) {
	var all []Wrong
	for _, publish := range []func(context.Context) (Wrong, error){
		w.unsignedTag, w.changedIndex, w.otherConfig, w.replacedLayer,
	} {
		wrong, err := publish(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, wrong)
	}
	return all, w.Publish(ctx)
}

func (w *World) unsignedTag(ctx context.Context) (Wrong, error) {
	const tag = "0.1.11"
	release, err := NewRelease(tag)
	if err != nil {
		return Wrong{}, err
	}
	return Wrong{"a tag that isn't signed", HubName + ":" + tag, "unsigned_tag"}, w.Push(ctx, tag, release)
}

// changedIndex has the Hub answer with the index of another build, under the
// tag and under the signed digest alike.
func (w *World) changedIndex(ctx context.Context) (Wrong, error) {
	const tag = "0.1.20"
	release, err := w.pushSigned(ctx, tag)
	if err != nil {
		return Wrong{}, err
	}
	builds, err := Builds(tag, " with a backdoor")
	if err != nil {
		return Wrong{}, err
	}
	changed, err := ForHub().Multi(builds...)
	if err != nil {
		return Wrong{}, err
	}
	if err := w.Hub.Push(ctx, Repository, "", changed); err != nil {
		return Wrong{}, err
	}
	lie := Lie{changed.Top().MediaType, changed.Top().Content}
	w.Hub.Lie(ManifestPath(Repository, tag), lie)
	w.Hub.Lie(ManifestPath(Repository, release.Hub.Top().Digest().String()), lie)
	return Wrong{"an index changed on the Hub", HubName + ":" + tag, "digest_mismatch"}, nil
}

func (w *World) otherConfig(ctx context.Context) (Wrong, error) {
	const tag = "0.1.21"
	if _, err := w.pushSigned(ctx, tag); err != nil {
		return Wrong{}, err
	}
	builds, err := Builds(tag, " with a backdoor")
	if err != nil {
		return Wrong{}, err
	}
	other, err := ForECR().Multi(builds...)
	if err != nil {
		return Wrong{}, err
	}
	return Wrong{"an ECR image with another config", ECRName + ":" + tag, "config_mismatch"}, w.ECR.Push(ctx, Repository, tag, other)
}

// replacedLayer keeps the signed config on ECR, but not the layer that it names.
func (w *World) replacedLayer(ctx context.Context) (Wrong, error) {
	const tag = "0.1.22"
	if _, err := w.pushSigned(ctx, tag); err != nil {
		return Wrong{}, err
	}
	good, err := Builds(tag, "")
	if err != nil {
		return Wrong{}, err
	}
	bad, err := Builds(tag, " with a backdoor")
	if err != nil {
		return Wrong{}, err
	}
	for i := range good {
		last := len(good[i].Layers) - 1
		good[i].Layers[last] = bad[i].Layers[last]
	}
	replaced, err := ForECR().Multi(good...)
	if err != nil {
		return Wrong{}, err
	}
	return Wrong{"an ECR layer replaced", ECRName + ":" + tag, "layer_mismatch"}, w.ECR.Push(ctx, Repository, tag, replaced)
}

// pushSigned publishes a good release under tag and signs it.
func (w *World) pushSigned(ctx context.Context, tag string) (Published, error) {
	release, err := NewRelease(tag)
	if err != nil {
		return Published{}, err
	}
	if err := w.Push(ctx, tag, release); err != nil {
		return Published{}, err
	}
	return release, w.Sign(ctx, tag, release)
}
