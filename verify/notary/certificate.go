package notary

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// checkRootOf tells why a key isn't a root key of the GUN (T3); nil if it is.
// What makes it one is a certificate: the first of its chain, the only one that is
// no CA, and issued to the GUN. Whether it is in date is judged apart, since that
// changes with time.
func (k *Key) checkRootOf(gun string) error {
	if len(k.certificates) == 0 {
		return fmt.Errorf("its type is %s, not a certificate", k.keyType)
	}
	for i, cert := range k.certificates {
		if cert.IsCA == (i == 0) {
			return errors.New("its chain has to begin with the only certificate that is no CA")
		}
	}
	leaf := k.certificates[0]
	switch leaf.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1, x509.MD5WithRSA, x509.MD2WithRSA:
		return fmt.Errorf("its certificate is signed with %s", leaf.SignatureAlgorithm)
	}
	if leaf.Subject.CommonName != gun {
		return fmt.Errorf("its certificate is that of %.200q", leaf.Subject.CommonName)
	}
	return nil
}

func inDate(cert *x509.Certificate, now time.Time) bool {
	return !now.Before(cert.NotBefore) && !now.After(cert.NotAfter)
}
