package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// base tells a client that this is a registry (OCI distribution specification,
// "Determining Support").
func (s *server) base(x *exchange) error {
	return x.writeJSON(struct{}{})
}

func (s *server) manifest(x *exchange) error {
	if err := s.understand(x, s.naming.manifestRef); err != nil {
		return err
	}
	ctx := x.asked()
	s.pulls.Begin(&ctx.pull)
	defer s.pulls.End(&ctx.pull)
	content, admission, err := open(ctx, x.ref, s.gate.Manifest)
	if err != nil {
		return err
	}
	defer content.Close()
	return x.writeContent(content, admission.MediaType, &ctx.pull)
}

func (s *server) blob(x *exchange) error {
	if err := s.understand(x, s.naming.blobRef); err != nil {
		return err
	}
	ctx := x.asked()
	s.pulls.Begin(&ctx.pull)
	defer s.pulls.End(&ctx.pull)
	content, admission, err := open(ctx, x.ref, s.gate.Blob)
	if err != nil {
		return err
	}
	defer content.Close()
	if content.RedirectURL != nil && admission.Kind == storage.KindLayer {
		return x.redirect(content)
	}
	return x.writeContent(content, "application/octet-stream", &ctx.pull)
}

// open asks the gate, and takes no other digest than the one asked for.
func open(
	ctx context.Context, ref verify.Ref,
	from func(context.Context, verify.Ref) (*storage.Content, storage.Admission, error),
) (*storage.Content, storage.Admission, error) {
	content, admission, err := from(ctx, ref)
	if err != nil {
		return nil, storage.Admission{}, err
	}
	for _, want := range []digest.Digest{ref.Digest, admission.Digest} {
		if want != "" && content.Digest != want {
			content.Close()
			return nil, storage.Admission{}, fmt.Errorf("the gate opened %s for %s, admitted as %s", content.Digest, ref, want)
		}
	}
	return content, admission, nil
}

// tags lists the signed tags (OCI distribution specification, "Listing Tags").
func (s *server) tags(x *exchange) error {
	ref, err := s.naming.ref(x, "")
	if err != nil {
		return err
	}
	x.ref = ref
	asked, err := readPage(x.query)
	if err != nil {
		return err
	}
	all, err := s.gate.Tags(x.asked(), ref)
	if err != nil {
		return err
	}
	tags, more := asked.of(all)
	if more {
		x.w.Header().Set("Link", asked.next(x, tags))
	}
	return x.writeJSON(struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{x.name, tags})
}

// catalog lists the configured repositories, each by a name that can be pulled
// from here: with its registry.
func (s *server) catalog(x *exchange) error {
	asked, err := readPage(x.query)
	if err != nil {
		return err
	}
	repositories, more := asked.of(s.gate.Repositories())
	if more {
		x.w.Header().Set("Link", asked.next(x, repositories))
	}
	return x.writeJSON(struct {
		Repositories []string `json:"repositories"`
	}{repositories})
}

// writeJSON answers 200 with a small document.
func (x *exchange) writeJSON(document any) error {
	body, err := json.Marshal(document)
	if err != nil {
		return err
	}
	x.w.Header().Set("Cache-Control", "no-cache")
	return x.writeBody(http.StatusOK, body)
}

// writeBody sends a JSON body; for HEAD all but the body.
func (x *exchange) writeBody(status int, body []byte) error {
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err := x.w.Write(body)
	return err
}
