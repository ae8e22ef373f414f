package status

import "github.com/trustmirror/trustmirror/verify"

// advice says what an operator can do about a refusal; empty for a reason that
// isn't verify's.
func advice(reason verify.Reason) string {
	switch reason {
	case verify.NoPolicy:
		return "If this image is meant to be pulled, add its repository to images in the configuration, as signed or as a copy. If nobody means it to be, look who asked."
	case verify.UnsignedTag:
		return "Pull a tag that is signed: the image's page lists them. If the release is new, its publisher has not signed it yet; ask the publisher."
	case verify.Malformed:
		return "Nothing to do here: what was delivered isn't what its format demands. Tell its publisher, or whoever runs the registry or trust service."
	case verify.SignatureInvalid:
		return "Take it seriously: the metadata's signatures don't hold. Don't change the pinned keys. Ask the publisher, and look what is between the mirror and the trust service."
	case verify.KeyNotPinned:
		return "The publisher may have changed a key, or somebody else signed. Have the new key ID confirmed by the publisher in another way, and only then add it to the configuration."
	case verify.Rollback:
		return "The trust service offers something older than it did before. If it was restored from a backup, wait until it is published anew; otherwise take it for an attack."
	case verify.MetadataExpired:
		return "The publisher or the trust service has to sign anew. Until then, name an archive made with trustmirror trust export as trust.archive, or pin digests by hand."
	case verify.RolesDisagree:
		return "Ask the publisher which digest is right. If one role's word is to count, say so with role_order in the configuration."
	case verify.DigestMismatch:
		return "The registry delivers other bytes than were signed. Try another repository of the image; if it stays so, tell the registry's operator and take it for an attack."
	case verify.SizeMismatch:
		return "The registry delivers more or fewer bytes than were signed. A download cut short passes by itself; if it stays so, tell the registry's operator."
	case verify.AmbiguousDoc:
		return "This document could be read in two ways, so that clients might not run what was checked. The publisher has to push it anew with one clear type."
	case verify.MediaType:
		return "This type of document or layer can't be verified. The publisher has to push the image as Docker schema 2 or OCI, with gzip, zstd or plain layers."
	case verify.BadDescriptor:
		return "The document names content in a way that isn't allowed, such as by URL. The publisher has to push the image anew."
	case verify.PlatformMismatch:
		return "The index lists an image for another platform than it was built for. The publisher has to push the index anew."
	case verify.ConfigMismatch:
		return "The copy holds another image than the publisher signed. Pull the signed name instead, don't run the copy's, and tell whoever fills the copy."
	case verify.ExtraPlatform:
		return "The copy offers a platform that the publisher didn't sign. Pull the signed name instead, and tell whoever fills the copy."
	case verify.LayerMismatch:
		return "The copy's layer holds other files than the publisher signed. Pull the signed name instead, don't run the copy's, and tell whoever fills the copy."
	case verify.Annotation:
		return "The copy says more than the publisher signed, and clients might act on that. Push the copy anew without the annotation."
	case verify.NotAdmitted:
		return "Nothing that is signed leads to this digest. If it was copied from an old deployment, pull by tag or use a digest that is still signed."
	case verify.Superseded:
		return "The publisher has signed something newer for the tag. Pull the tag again, and update what is pinned to the old digest."
	case verify.TrustUnavailable:
		return "Look whether the mirror reaches the trust service: name resolution, firewall, certificates. It is tried again by itself."
	case verify.UpstreamUnavailable:
		return "Look whether the mirror reaches the registry. What was pulled before is served meanwhile."
	case verify.RateLimited:
		return "Give the registry's credentials as upstreams.<registry>.credentials, or wait. What was pulled before is served meanwhile."
	case verify.StorageUnavailable:
		return "Look at the disk: is it full, is it mounted, may the mirror write to it? With storage.s3: can the bucket be reached?"
	case verify.NotFound:
		return "The registry no longer has this object, though it is signed. Ask the publisher, or add a copy that has it."
	}
	return ""
}
