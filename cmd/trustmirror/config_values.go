package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// The functions below read single values. Their errors say what is wrong and
// what to write instead.

func parseText(s string) (string, error) { return s, nil }

// parseAddress reads host:port.
func parseAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, numeric := strconv.Atoi(s); numeric == nil {
			return "", fmt.Errorf("%q is no address; write \":%s\"", s, s)
		}
		return "", fmt.Errorf("%q is no address; write host and port, as in \"127.0.0.1:5000\", or \":5000\" for every interface", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > math.MaxUint16 {
		return "", fmt.Errorf("%q is no port; write a number from 1 to 65535, as in \"%s:5000\"", port, host)
	}
	if strings.ContainsAny(host, "/ *") {
		return "", fmt.Errorf("%q is no host; write an IP address or a name, or only \":%s\" for every interface", host, port)
	}
	return s, nil
}

// parseDuration reads a duration in Go's form.
func parseDuration(s string) (time.Duration, error) {
	t, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no duration; write a number with its unit, as in 90s, 10m or 1h30m", s)
	case t < 0:
		return 0, fmt.Errorf("%s is negative; write a duration such as 10m", s)
	}
	return t, nil
}

// parseGrace reads how long what ceased to be signed is served.
func parseGrace(s string) (time.Duration, error) {
	t, err := parseDuration(s)
	if err == nil && t > verify.MaxGrace {
		return 0, fmt.Errorf("%s is longer than what ceased to be signed is remembered; write at most 24h", s)
	}
	return t, err
}

// parseInterval reads how often something is done.
func parseInterval(s string) (time.Duration, error) {
	t, err := parseDuration(s)
	if err == nil && t < time.Second {
		return 0, fmt.Errorf("%s is too often; write at least 1s, as in 10m", s)
	}
	return t, err
}

// parseScrub reads how long it takes to read once all that is stored.
func parseScrub(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	t, err := parseDuration(s)
	if err == nil && t > 0 && t < time.Minute {
		return 0, fmt.Errorf("%s is too short to read all that is stored; write at least 1m, as in 168h, or 0 for not at all", s)
	}
	return t, err
}

// parseSize reads a number of bytes with its unit.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTiB ")
	factor, known := map[string]float64{
		"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[strings.TrimSpace(s[len(digits):])]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || !(n > 0) || n*factor >= math.MaxInt64 || strings.ContainsAny(digits, "xXpP_") {
		return 0, fmt.Errorf("%q is no size; write a number with B, KiB, MiB, GiB or TiB, as in 50GiB", s)
	}
	return int64(n * factor), nil
}

// parseMaxSize reads how large storage may get.
func parseMaxSize(s string) (int64, error) {
	n, err := parseSize(s)
	if err == nil && n < 1<<20 {
		err = fmt.Errorf("%s is too small for images; write 1MiB or more", s)
	}
	return n, err
}

// parseThreads reads how many storage operations may run at once.
func parseThreads(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 25 {
		return 0, fmt.Errorf("%q is too few or no number; write 25 or more", s)
	}
	return n, nil
}

// parseURL reads the address of a server.
func parseURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case !strings.Contains(s, "://"):
		return "", fmt.Errorf("%q has no scheme; write https://%s", s, s)
	case err != nil || u.Host == "":
		return "", fmt.Errorf("%q is no URL; write https:// and the host, as in https://registry.example", s)
	case u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("%s is not a scheme that registries speak; write https://%s", u.Scheme, u.Host)
	case u.User != nil:
		return "", fmt.Errorf("the URL holds a user's name; write %s://%s and put the user under credentials", u.Scheme, u.Host)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("the URL goes on after the host; write %s://%s", u.Scheme, u.Host)
	}
	return u.Scheme + "://" + u.Host, nil
}

// parseRealm reads the URL of a token server.
func parseRealm(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%q is no URL of a token server; write it as the registry names it, as in https://auth.example/token", s)
	}
	return s, nil
}

func parseUsername(s string) (string, error) {
	if strings.Contains(s, ":") {
		return "", errors.New("a user's name has no colon; write the name alone, and the password into password_file")
	}
	return s, nil
}

var hexadecimal = regexp.MustCompile(`^[0-9a-f]+$`)

// parseKeyID reads a TUF key ID.
func parseKeyID(s string) (string, error) {
	id := strings.ToLower(strings.TrimPrefix(s, "sha256:"))
	switch {
	case !hexadecimal.MatchString(id):
		return "", fmt.Errorf("%q is no key ID; write the 64 hexadecimal digits that `docker trust inspect` prints", s)
	case len(id) != 64:
		return "", fmt.Errorf("%q has %d digits where a key ID has 64; write all that `docker trust inspect` prints without --pretty", s, len(id))
	case id != s:
		return "", fmt.Errorf("%q is not in the form in which key IDs are compared; write %s", s, id)
	}
	return s, nil
}

// parseSHA256 reads the SHA-256 of a file.
func parseSHA256(s string) (string, error) {
	sum := strings.ToLower(strings.TrimPrefix(s, "sha256:"))
	switch {
	case !hexadecimal.MatchString(sum) || len(sum) != 64:
		return "", fmt.Errorf("%q is no SHA-256; write the 64 hexadecimal digits that `sha256sum` prints", s)
	case sum != s:
		return "", fmt.Errorf("%q is not in the usual form; write %s", s, sum)
	}
	return s, nil
}

// parseDigest reads the digest of a manifest or an index.
func parseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if err := verify.ValidateDigest(d); err != nil {
		return "", fmt.Errorf("%q is no digest; write sha256: and 64 hexadecimal digits, as `docker trust inspect` or a registry prints them", s)
	}
	return d, nil
}

// parseRegistry reads a registry's name and returns the canonical one.
func parseRegistry(s string) (string, error) {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return "", fmt.Errorf("%q is a URL; write the registry's name, %s", s, strings.Trim(rest, "/"))
	}
	ref, err := verify.NewRef(s, "any/any", "")
	if err != nil || !namesHost(s) {
		return "", fmt.Errorf("%q is no registry; write a name such as docker.io or registry.example:5000", s)
	}
	return ref.Registry, nil
}

// namesHost tells whether the first part of a name is a registry rather than a
// part of a repository on Docker Hub.
func namesHost(s string) bool { return strings.ContainsAny(s, ".:") || s == "localhost" }

// parseName reads a repository's name, of which one component may be "*", and
// returns the canonical one.
func parseName(s string) (string, error) {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return "", fmt.Errorf("%q is a URL; write the name without its scheme, %s", s, rest)
	}
	if strings.HasSuffix(s, "/") {
		return "", fmt.Errorf("%q ends in a slash; write %s, or %s* for every repository right below", s, strings.TrimRight(s, "/"), s)
	}
	registry, repository, ok := strings.Cut(s, "/")
	if strings.Contains(s, "*") {
		return parsePattern(s, registry, repository)
	}
	ref, err := verify.ParseRef(s)
	switch {
	case err != nil && strings.ToLower(s) != s:
		return "", fmt.Errorf("%q has upper-case letters, which names of repositories don't have; write %s", s, strings.ToLower(s))
	case err != nil:
		return "", fmt.Errorf("%q is no name of a repository; write one such as docker.io/nicolas/webdis", s)
	case ref.Tag != "" || ref.Digest != "":
		return "", fmt.Errorf("%q names one image; write the repository alone, %s (which tags may be served is what the signatures say)", s, ref.Name())
	case !ok || !namesHost(registry):
		return "", fmt.Errorf("%q doesn't name a registry; write %s", s, ref.Name())
	}
	return ref.Name(), nil
}

// parsePattern reads a name with a "*".
func parsePattern(s, registry, repository string) (string, error) {
	components := strings.Split(repository, "/")
	stars := 0
	for _, c := range components {
		if c == "*" {
			stars++
		}
	}
	switch {
	case s == "*" || strings.Contains(registry, "*"):
		return "", fmt.Errorf("%q would cover more than one registry; write one registry and an organisation, as in docker.io/myorg/*", s)
	case strings.Contains(s, "**") || strings.Count(s, "*") > stars:
		return "", fmt.Errorf("%q has a * within a name; a * stands for one whole path component, as in docker.io/myorg/*", s)
	case stars > 1:
		return "", fmt.Errorf("%q has more than one *; only one path component may be open, as in docker.io/myorg/*", s)
	}
	ref, err := verify.NewRef(registry, strings.Replace(repository, "*", "any", 1), "")
	if err != nil || !namesHost(registry) {
		return "", fmt.Errorf("%q is no pattern for repositories; write a registry and a path, as in docker.io/myorg/*", s)
	}
	if ref.Registry == verify.DockerHub && repository == "*" {
		return verify.DockerHub + "/library/*", nil
	}
	return ref.Registry + "/" + repository, nil
}

var signerName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// checkSigner says whether a signer can have the name: that of a delegation
// below targets, as `docker trust signer add` gives it.
func checkSigner(s string) error {
	if name, ok := strings.CutPrefix(s, "targets/"); ok {
		return fmt.Errorf("%q is a role; write the signer's name, %s", s, name)
	}
	if !signerName.MatchString(s) {
		return fmt.Errorf("%q is no name of a signer; write it as `docker trust inspect` shows it, in lower case", s)
	}
	return nil
}

// parseRole reads the name of a role that may sign tags.
func parseRole(s string) (string, error) {
	if s == "targets" {
		return s, nil
	}
	if name, ok := strings.CutPrefix(s, "targets/"); !ok || checkSigner(name) != nil {
		return "", fmt.Errorf("%q is no role; write targets, targets/releases or targets/ and a signer's name", s)
	}
	return s, nil
}

// parseRelease reads when a blob is sent; true: while it arrives.
func parseRelease(s string) (streaming bool, err error) {
	switch s {
	case "verified", "streaming":
		return s == "streaming", nil
	}
	return false, fmt.Errorf("%q is unknown; write verified or streaming, or remove the field", s)
}

// parseFile insists that a file is there and can be read.
func parseFile(s string) (string, error) {
	_, err := readFile(s)
	return s, err
}

func readFile(s string) ([]byte, error) {
	info, err := os.Stat(s)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s; write the path of one (relative paths start at the working directory)", s)
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a folder; write the path of a file in it", s)
	}
	text, err := os.ReadFile(s)
	if err != nil {
		return nil, fmt.Errorf("%s can't be read (%w); give this user the right to read it", s, cause(err))
	}
	return text, nil
}

// readArchiveFile reads an archive, unless it is larger than archives are.
func readArchiveFile(s string) ([]byte, error) {
	if info, err := os.Stat(s); err == nil && info.Size() > notary.MaxArchive {
		return nil, fmt.Errorf("%s has %d bytes, which is more than an archive has; write the path of a file that `trustmirror trust export` wrote", s, info.Size())
	}
	return readFile(s)
}

func sha256Hex(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// parsePasswordFile insists on a file with something in it.
func parsePasswordFile(s string) (string, error) {
	text, err := readFile(s)
	if err == nil && len(bytes.TrimSpace(text)) == 0 {
		err = fmt.Errorf("%s is empty; write the password into it", s)
	}
	return s, err
}

// parseCAFile insists on a file with certificates.
func parseCAFile(s string) (string, error) {
	text, err := readFile(s)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
		err = fmt.Errorf("%s holds no certificate; it has to be PEM, with -----BEGIN CERTIFICATE-----", s)
	}
	return s, err
}

// parseHTPasswd insists on a file of users with bcrypt hashes.
func parseHTPasswd(s string) (string, error) {
	text, err := readFile(s)
	if err != nil {
		return s, err
	}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if user, hash, _ := strings.Cut(line, ":"); user == "" || !strings.HasPrefix(hash, "$2") {
			return s, fmt.Errorf("line %d of %s is not a user with a bcrypt hash; write the file with `htpasswd -B`", i+1, s)
		}
	}
	return s, nil
}
