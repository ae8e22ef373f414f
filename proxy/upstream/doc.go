// Package upstream makes every outgoing HTTP request of trustmirror: to
// registries (Client, a verify.Fetcher) and to Notary v1 services (Notary).
// It verifies nothing, and sees to it that asking does no harm:
//
//   - Only configured servers are dialled, their token realms, and where they
//     redirect to; never an address further inside the network than the server
//     itself (redirect.go, address.go).
//   - Credentials go to the server and its token realm only, and over plain http
//     only to loopback (auth.go, realm.go).
//   - Every answer is bounded: documents in bytes, all bodies in silence and in
//     slowness, requests in number (body.go, retry.go).
//
// The way of a request by files: registry.go, blob.go or notary.go → fetch.go →
// auth.go → retry.go → redirect.go → endpoint.go → body.go, and errors.go on the
// way back.
package upstream
