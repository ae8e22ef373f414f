package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/storage"
)

// S3 is a bucket, of Amazon's S3 or of something that speaks as it does. Fields are
// named as the parameters of distribution's s3 driver.
type S3 struct {
	// Bucket is its name. Required.
	Bucket string
	// Region is where it is, as in eu-central-1. Required without RegionEndpoint.
	// Default: "us-east-1", which most others than Amazon expect.
	Region string
	// RegionEndpoint is the URL of another service than Amazon's. Default: "",
	// Amazon's for the region.
	RegionEndpoint string
	// RootDirectory is the prefix of all keys. Default: "", the whole bucket.
	RootDirectory string
	// AccessKey is the ID of the key to sign requests with. Default: "", what the AWS
	// SDK finds: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, the
	// role of a service account or of the machine.
	AccessKey string
	// SecretKeyFile holds that key. Required with AccessKey.
	SecretKeyFile string
	// Secure tells whether https is spoken, which RegionEndpoint says, too. Default:
	// as there; true without.
	Secure bool
	// ForcePathStyle names the bucket in the path, not in the host's name. Default:
	// true with RegionEndpoint, false without.
	ForcePathStyle bool
	// Encrypt has the service encrypt what it stores. Default: false, as the bucket
	// says.
	Encrypt bool
	// KeyID is the KMS key for that. Default: "", the service's own.
	KeyID string
	// StorageClass is that of the objects; NONE doesn't mention any. Default: STANDARD.
	StorageClass string
	// Redirect sends clients that may have a layer to the bucket for it, by a signed URL
	// that is valid for storage.RedirectFor. Default: false.
	Redirect bool
	// RedirectEndpoint is the URL at which clients reach the service, if they do so by
	// another than the mirror. Default: "", as the mirror.
	RedirectEndpoint string
}

const defaultS3Region = "us-east-1"

func (d *decoder) s3(path string, n *yaml.Node, to *S3) {
	wrong := len(d.mistakes)
	seen := d.mapping(path, n, fields{
		"bucket":         scalar(d, &to.Bucket, parseBucket),
		"region":         scalar(d, &to.Region, parseText),
		"regionendpoint": scalar(d, &to.RegionEndpoint, parseURL),
		"rootdirectory":  scalar(d, &to.RootDirectory, parsePrefix),
		"accesskey":      scalar(d, &to.AccessKey, parseText),
		"secretkey_file": scalar(d, &to.SecretKeyFile, parsePasswordFile),
		"secretkey": func(path string, n *yaml.Node) {
			d.wrong(n, "%s: secrets don't belong here; write secretkey_file: FILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment and leave accesskey out", path)
		},
		"secure":         d.flag(&to.Secure),
		"forcepathstyle": d.flag(&to.ForcePathStyle),
		"encrypt":        d.flag(&to.Encrypt),
		"keyid":          scalar(d, &to.KeyID, parseText),
		"storageclass":   scalar(d, &to.StorageClass, parseText),

		"redirect":         d.flag(&to.Redirect),
		"redirectendpoint": scalar(d, &to.RedirectEndpoint, parseURL),
	})
	if len(d.mistakes) > wrong {
		return
	}
	d.compareS3(path, seen, to)
	if len(d.mistakes) > wrong {
		return
	}
	if _, err := storage.NewDriver(context.Background(), driverS3, to.parameters()); err != nil {
		d.blame(path, "%v; for a region that isn't known here write regionendpoint: https://s3.REGION.amazonaws.com, too", err)
	}
}

// compareS3 fills in the defaults that depend on other fields, and finds fields that
// don't fit together.
func (d *decoder) compareS3(path string, seen []string, c *S3) {
	d.require(path, seen, "bucket", "bucket: NAME")
	plain := strings.HasPrefix(c.RegionEndpoint, "http:")
	if !slices.Contains(seen, "secure") {
		c.Secure = !plain
	}
	if !slices.Contains(seen, "forcepathstyle") {
		c.ForcePathStyle = c.RegionEndpoint != ""
	}
	if c.RegionEndpoint != "" && c.Region == "" {
		c.Region = defaultS3Region
	}
	switch {
	case c.Region == "":
		d.blame(path, "it says neither where the bucket is nor who else has it; add region: NAME, as in eu-central-1, or regionendpoint: URL for another service than Amazon's")
	case c.Secure == plain:
		d.blame(path+".secure", "the scheme of regionendpoint says whether https is spoken (https, if there is none); remove secure")
	case c.AccessKey != "" && c.SecretKeyFile == "":
		d.blame(path+".accesskey", "its secret is missing; add secretkey_file: FILE")
	case c.AccessKey == "" && c.SecretKeyFile != "":
		d.blame(path+".secretkey_file", "the key that it belongs to is missing; add accesskey: ID")
	case c.KeyID != "" && !c.Encrypt:
		d.blame(path+".keyid", "nothing is encrypted with it; add encrypt: true, or remove it")
	case c.RedirectEndpoint != "" && !c.Redirect:
		d.blame(path+".redirectendpoint", "nobody is sent there; add redirect: true, or remove it")
	}
}

// parameters are what the driver is set up with. They hold no secret.
func (c *S3) parameters() map[string]any {
	params := map[string]any{"secure": c.Secure, "forcepathstyle": c.ForcePathStyle, "encrypt": c.Encrypt, storage.RedirectParameter: c.Redirect}
	for name, value := range map[string]string{
		"bucket": c.Bucket, "region": c.Region, "regionendpoint": c.RegionEndpoint, "rootdirectory": c.RootDirectory,
		"accesskey": c.AccessKey, storage.SecretKeyFile: c.SecretKeyFile, "keyid": c.KeyID, "storageclass": c.StorageClass,
		"redirectendpoint": c.RedirectEndpoint,
	} {
		if value != "" {
			params[name] = value
		}
	}
	return params
}

// flag reads true or false.
func (d *decoder) flag(to *bool) reader {
	return func(path string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
			d.wrong(n, "%s is %s; write true or false", path, describe(n))
			return
		}
		*to = n.Value == "true"
	}
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	keyPrefix  = regexp.MustCompile(`^/?[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?$`)
)

func parseBucket(s string) (string, error) {
	if !bucketName.MatchString(s) {
		return "", fmt.Errorf("%q is no name of a bucket; write 3 to 63 lower-case letters, digits, dots and hyphens, without a URL around them", s)
	}
	return s, nil
}

// parsePrefix reads what keys begin with.
func parsePrefix(s string) (string, error) {
	if s != "/" && !keyPrefix.MatchString(s) {
		return "", errors.New("write letters, digits, dots, hyphens and underscores, with / between, as in /trustmirror")
	}
	return s, nil
}
