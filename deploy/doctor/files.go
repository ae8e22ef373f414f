package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxFile is how many bytes of a file are read.
const maxFile = 1 << 20

// read returns a file's text. Paths are the node's, with or without the slash in front.
func (c *checker) read(name string) ([]byte, error) {
	name = nodePath(name)
	info, err := fs.Stat(c.Node, name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is a folder")}
	}
	if !info.Mode().IsRegular() { // a pipe or a device may have no end
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is no regular file")}
	}
	if info.Size() > maxFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is larger than 1 MiB")}
	}
	return fs.ReadFile(c.Node, name)
}

// nodePath turns a path on the node into one of its file system.
func nodePath(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return name
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// unreadable is the finding for a file that is there but can't be read.
func unreadable(name string, err error) Finding {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return Finding{State: Unknown, Trap: Unreadable, File: name,
		Sentence: fmt.Sprintf("The file can't be read (%v), so what it says can't be told.", err),
		Fix:      "Run doctor as a user who may read it, and on the node itself if it is a link that leads elsewhere."}
}

// systemRoots reads the certificates that a Go program on the node trusts.
func (c *checker) systemRoots() []byte {
	for _, name := range []string{"etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt",
		"etc/ssl/ca-bundle.pem", "etc/pki/tls/cacert.pem", "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/ssl/cert.pem"} {
		if text, err := c.read(name); err == nil {
			return text
		}
	}
	return []byte{}
}
