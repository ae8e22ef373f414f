package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/registry/auth"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // the "htpasswd" controller
)

// newUsers reads a file of users and passwords; nil means that none is given.
// The file has to exist: distribution would make one and log its password.
func newUsers(file string) (auth.AccessController, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("proxy: the htpasswd file can't be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("proxy: the htpasswd file %s is not a file", file)
	}
	users, err := auth.GetAccessController("htpasswd", map[string]any{"realm": "trustmirror", "path": file})
	if err != nil {
		return nil, fmt.Errorf("proxy: the htpasswd file can't be used: %w", err)
	}
	// The file is only parsed when somebody asks; a mistake in it has to show now.
	nobody := &http.Request{Header: http.Header{}}
	nobody.SetBasicAuth("", "")
	var challenge auth.Challenge
	if _, err := users.Authorized(nobody); err != nil && !errors.As(err, &challenge) {
		return nil, fmt.Errorf("proxy: the htpasswd file %s can't be used: %w", file, err)
	}
	return users, nil
}

// authenticate lets a request pass that comes from a known user.
func (s *server) authenticate(x *exchange) error {
	if s.users == nil {
		return nil
	}
	_, err := s.users.Authorized(x.r)
	var challenge auth.Challenge
	if errors.As(err, &challenge) {
		challenge.SetHeaders(x.r, x.w)
		if x.r.Header.Get("Authorization") != "" {
			return errPassword
		}
		return errUnauthorized
	}
	if err != nil {
		return fmt.Errorf("check the user: %w", err)
	}
	return nil
}
