package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CRI pulls as the kubelet does: it asks containerd's CRI plugin.
type CRI struct {
	images cri.ImageServiceClient
}

// CRI connects to the daemon's CRI plugin, which goes on starting when the daemon
// answers already. It is an error if the plugin doesn't start.
func (c *Containerd) CRI(ctx context.Context) (*CRI, error) {
	connection, err := grpc.NewClient("unix://"+c.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	k := &CRI{cri.NewImageServiceClient(connection)}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var missing error
	err = c.process.WaitUntil(ctx, func(ctx context.Context) error {
		_, err := k.Images(ctx)
		if status.Code(err) == codes.Unimplemented { // and will be
			missing, err = err, nil
		}
		return err
	})
	return k, errors.Join(missing, err)
}

// Pull implements Node.
func (k *CRI) Pull(ctx context.Context, image string) error {
	_, err := k.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}})
	return err
}

// ImageID implements Node.
func (k *CRI) ImageID(ctx context.Context, image string) (digest.Digest, error) {
	answer, err := k.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
	if err == nil && answer.Image == nil {
		err = fmt.Errorf("containerd's CRI plugin has no image %s", image)
	}
	if err != nil {
		return "", err
	}
	return digest.Digest(answer.Image.Id), nil
}

// Images implements Node.
func (k *CRI) Images(ctx context.Context) ([]string, error) {
	list, err := k.images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, image := range list.Images {
		ids = append(ids, image.Id)
	}
	return ids, nil
}

// Clear implements Node.
func (k *CRI) Clear(ctx context.Context) error {
	ids, err := k.Images(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := k.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: id}}); err != nil {
			return err
		}
	}
	return nil
}
