package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	caYears  = 10
	leafDays = 397 // the longest that clients commonly take of a server's certificate
)

func newCACommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make a CA and certificates for a lab",
		Long: `Ca makes a certificate authority and certificates for trying things out: for a
mirror that answers as docker.io, and for clients that have to show one. In
production bring your own: whoever has ca.key can be any server to the clients
that trust ca.crt, so it doesn't belong on a mirror. Nothing is ever overwritten.`,
		Example: `  trustmirror ca init --dir ca
  trustmirror ca issue --dir ca --server mirror.example,registry-1.docker.io,index.docker.io
  trustmirror ca issue --dir ca --server public.ecr.aws
  trustmirror ca issue --dir ca --client node-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCAInitCommand(), newCAIssueCommand())
	return cmd
}

func newCAInitCommand() *cobra.Command {
	var dir, name string
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make a CA: ca.crt, which clients are given, and ca.key, which nobody is",
		Example: `  trustmirror ca init --dir ca`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := wallClock()
			template := &x509.Certificate{
				Subject: pkix.Name{CommonName: name}, NotAfter: now.AddDate(caYears, 0, 0),
				IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			}
			if err := os.MkdirAll(dir, 0o750); err != nil {
				return fmt.Errorf("%s can't be made (%w); name another with --dir", dir, cause(err))
			}
			return issueTo(cmd.OutOrStdout(), filepath.Join(dir, "ca"), template, nil)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder for the CA; it is made if need be")
	cmd.Flags().StringVar(&name, "name", "trustmirror lab CA", "the CA's common name")
	return cmd
}

func newCAIssueCommand() *cobra.Command {
	var dir, out, client string
	var servers []string
	cmd := &cobra.Command{
		Use:   "issue (--server NAME,… | --client NAME)",
		Short: "Issue a certificate for a server's names, or for a client",
		Long: `Issue writes a certificate and its key. For listen.tls of a mirror, --server takes
the names, or IP addresses, that clients will ask for; for a client that has to
show a certificate (listen.tls.client_ca: ca.crt), --client takes its name.`,
		Example: `  trustmirror ca issue --dir ca --server mirror.example,192.0.2.10
  trustmirror ca issue --dir ca --client node-1 --out /etc/trustmirror/node-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ca, err := loadCA(dir)
			if err != nil {
				return err
			}
			template := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, NotAfter: wallClock().AddDate(0, 0, leafDays)}
			names := servers
			if client != "" {
				names = []string{client}
			}
			if len(names) == 0 {
				return errors.New("no name is given; write --server NAME,… or --client NAME")
			}
			if client != "" {
				template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			} else if err := serverNames(template, servers); err != nil {
				return err
			}
			template.Subject.CommonName = names[0]
			if template.NotAfter.After(ca.Leaf.NotAfter) {
				template.NotAfter = ca.Leaf.NotAfter
			}
			if out == "" {
				out = filepath.Join(dir, strings.NewReplacer("/", "_", ":", "_").Replace(names[0]))
			}
			return issueTo(cmd.OutOrStdout(), out, template, ca)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder of the CA")
	cmd.Flags().StringSliceVar(&servers, "server", nil, "names and IP addresses of a server")
	cmd.Flags().StringVar(&client, "client", "", "name of a client")
	cmd.Flags().StringVar(&out, "out", "", "path of the files to write, without .crt and .key (default: the first name, beside the CA)")
	cmd.MarkFlagsMutuallyExclusive("server", "client")
	cmd.MarkFlagsOneRequired("server", "client")
	return cmd
}

var dnsName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// serverNames puts a server's names and addresses into its certificate.
func serverNames(template *x509.Certificate, names []string) error {
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		switch ip := net.ParseIP(name); {
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case dnsName.MatchString(name):
			template.DNSNames = append(template.DNSNames, name)
		default:
			return fmt.Errorf("%q is neither a host's name nor an IP address; write it without scheme and port, as in mirror.example", name)
		}
	}
	return nil
}

func loadCA(dir string) (*tls.Certificate, error) {
	files := KeyPair{Certificate: filepath.Join(dir, "ca.crt"), Key: filepath.Join(dir, "ca.key")}
	ca, err := files.load()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("there is no CA in %s; make one with trustmirror ca init --dir %[1]s", dir)
	case err != nil:
		return nil, err
	case !ca.Leaf.IsCA:
		return nil, fmt.Errorf("%s is no CA's certificate; make a CA with trustmirror ca init in another folder", files.Certificate)
	}
	return &ca, nil
}

// issueTo makes a key and a certificate for it, signed by a CA or by itself (nil),
// and writes them to path.crt and path.key, which must not be there.
func issueTo(w io.Writer, path string, template *x509.Certificate, ca *tls.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return err
	}
	template.NotBefore = wallClock().Add(-5 * time.Minute) // clocks differ
	parent, signer := template, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeNew(path+".key", 0o600, "PRIVATE KEY", private); err != nil {
		return err
	}
	if err := writeNew(path+".crt", 0o644, "CERTIFICATE", der); err != nil {
		return errors.Join(err, os.Remove(path+".key"))
	}
	fmt.Fprintf(w, "%s.crt: %s, valid until %s\n%[1]s.key: its key, which this user alone may read\n",
		path, template.Subject.CommonName, template.NotAfter.UTC().Format(time.DateOnly))
	return nil
}

// writeNew writes a PEM file that wasn't there before.
func writeNew(file string, mode os.FileMode, kind string, der []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	switch {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%s is there already, and is left as it is; name another place, or move it away", file)
	case err != nil:
		return fmt.Errorf("%s can't be written (%w)", file, cause(err))
	}
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("%s can't be written (%w)", file, cause(err)), os.Remove(file))
	}
	return nil
}
