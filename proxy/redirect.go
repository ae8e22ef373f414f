package proxy

import (
	"net/http"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// redirect sends the client to where content is stored, once it has been admitted as
// for serving it. The URL lets whoever has it read the content for a while, so nobody
// may keep it; a Range goes there with the client.
func (x *exchange) redirect(content *storage.Content) error {
	url, err := content.RedirectURL(x.r)
	if err == nil && url == "" {
		return verify.Unavailable(verify.StorageUnavailable, "the bucket has no URL for %s", content.Digest)
	}
	if err != nil {
		return verify.Unavailable(verify.StorageUnavailable, "no URL can be signed for %s: %w", content.Digest, err)
	}
	h := x.w.Header()
	h.Set("Docker-Content-Digest", content.Digest.String())
	h.Set("Location", url)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}
