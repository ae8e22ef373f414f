package verify

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Reason is a stable code for why something isn't served. Codes are part of the
// public interface: they appear in responses, logs and metrics, and don't change.
type Reason string

// Why a Refusal refuses.
const (
	NoPolicy         Reason = "no_policy"          // no image rule covers the repository
	UnsignedTag      Reason = "unsigned_tag"       // the trust source vouches for no such tag
	Malformed        Reason = "malformed"          // not strict JSON of the expected shape
	SignatureInvalid Reason = "signature_invalid"  // too few valid signatures, or a key that isn't what it says
	KeyNotPinned     Reason = "key_not_pinned"     // metadata lists a key that the policy doesn't
	Rollback         Reason = "rollback"           // older than what was accepted before
	MetadataExpired  Reason = "metadata_expired"   // signed metadata is past its date
	RolesDisagree    Reason = "roles_disagree"     // signers name different digests for one tag
	DigestMismatch   Reason = "digest_mismatch"    // bytes don't hash to their digest
	SizeMismatch     Reason = "size_mismatch"      // bytes aren't as many as the descriptor says
	AmbiguousDoc     Reason = "ambiguous_document" // a document that can be read in two ways
	MediaType        Reason = "media_type"         // a type that isn't accepted there
	BadDescriptor    Reason = "descriptor"         // a descriptor that breaks the rules
	PlatformMismatch Reason = "platform_mismatch"  // the index and the config disagree
	ConfigMismatch   Reason = "config_mismatch"    // a copy whose config isn't the signed one
	ExtraPlatform    Reason = "extra_platform"     // a copy's platform that the signed index lacks, or one twice
	LayerMismatch    Reason = "layer_mismatch"     // a layer that isn't what the config says
	Annotation       Reason = "annotation"         // a copy says more than the signed document
	NotAdmitted      Reason = "not_admitted"       // nothing signed leads to the digest
	Superseded       Reason = "superseded"         // what was signed once no longer is
)

// Why something could not be decided. These are never verdicts.
const (
	TrustUnavailable    Reason = "trust_unavailable"    // the trust service has not been reached yet
	UpstreamUnavailable Reason = "upstream_unavailable" // a registry can't be reached or answers nonsense
	RateLimited         Reason = "rate_limited"         // a registry asks to be left alone for a while
	StorageUnavailable  Reason = "storage_unavailable"  // storage is full or fails
	NotFound            Reason = "not_found"            // the registry no longer has a signed image's object
)

// Refusal is the verdict that something must not be served.
type Refusal struct {
	Ref    Ref    // what was asked for; may be filled in by the Gate
	Reason Reason // stable
	Detail string // a sentence that a person can act on
	Err    error  // the cause, may be nil
}

// Refuse makes a Refusal; the Gate fills in which reference was asked for.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	err := fmt.Errorf(format, args...)
	return &Refusal{Reason: reason, Detail: sentence(err), Err: errors.Unwrap(err)}
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

func (r *Refusal) Unwrap() error { return r.Err }

// NotFoundError says that a registry does not have an object (HTTP 404), or that
// a trust service knows no such repository.
type NotFoundError struct {
	Ref    Ref
	Detail string
	Err    error // may be nil
}

func (e *NotFoundError) Error() string { return string(NotFound) + ": " + e.Detail }

func (e *NotFoundError) Unwrap() error { return e.Err }

// UnavailableError says that a question could not be answered now; asking again
// later may.
type UnavailableError struct {
	Reason     Reason        // TrustUnavailable, UpstreamUnavailable, RateLimited or StorageUnavailable
	Detail     string        // a sentence that a person can act on
	RetryAfter time.Duration // 0: unknown
	Err        error         // may be nil
}

func (e *UnavailableError) Error() string { return string(e.Reason) + ": " + e.Detail }

func (e *UnavailableError) Unwrap() error { return e.Err }

// Unavailable makes an UnavailableError without a time to retry.
func Unavailable(reason Reason, format string, args ...any) *UnavailableError {
	err := fmt.Errorf(format, args...)
	return &UnavailableError{Reason: reason, Detail: sentence(err), Err: errors.Unwrap(err)}
}

// maxSentence is how many bytes a sentence has at most: refusals are remembered,
// and a registry may have chosen a part of it.
const maxSentence = 4 << 10

// sentence is an error's text, cut and printable.
func sentence(err error) string {
	s := Printable(err.Error())
	if len(s) > maxSentence {
		s = strings.ToValidUTF8(s[:maxSentence], "") + "…"
	}
	return s
}

// Printable is a string that somebody else chose, for logs and terminals: whatever
// isn't printed, as what steers a terminal or turns the text round, is replaced.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// ReasonOf returns the reason code that err carries, or "" for an error that is
// none of this package's.
func ReasonOf(err error) Reason {
	if err == nil { // most often, and what follows allocates
		return ""
	}
	var (
		refusal     *Refusal
		notFound    *NotFoundError
		unavailable *UnavailableError
	)
	switch {
	case errors.As(err, &refusal):
		return refusal.Reason
	case errors.As(err, &notFound):
		return NotFound
	case errors.As(err, &unavailable):
		return unavailable.Reason
	}
	return ""
}
