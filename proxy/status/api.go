package status

import (
	"encoding/json"
	"net/http"

	"github.com/trustmirror/trustmirror/verify"
)

// The documents of the API, version 1. docs/api.md describes each field; fields
// may be added, and none changes its meaning.
type (
	imagesDocument struct {
		Images []Image `json:"images"`
	}
	refusalsDocument struct {
		Total    int       `json:"total"` // that were chosen, of those that are remembered
		Page     int       `json:"page"`  // counted from 1
		Pages    int       `json:"pages"`
		Refusals []Refusal `json:"refusals"` // newest first
	}
	pullsDocument struct {
		Pulls []Pull `json:"pulls"`
	}
	errorDocument struct {
		Error  string        `json:"error"` // a sentence
		Reason verify.Reason `json:"reason,omitempty"`
	}
)

func (s *server) apiStatus(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, s.overview(s.Images(r.Context()), s.Refusals()))
}

func (s *server) apiImages(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, imagesDocument{Images: s.Images(r.Context())})
}

// apiImage answers about one image, or about one of its tags.
func (s *server) apiImage(w http.ResponseWriter, r *http.Request) {
	image, tag, ok := s.find(r.Context(), r.PathValue("name"))
	switch {
	case !ok:
		s.apiNothing(w, r)
		return
	case tag == "":
		answer(w, http.StatusOK, image)
		return
	}
	chain, err := s.chain(r.Context(), image, tag)
	if err != nil {
		answer(w, statusOf(err), errorDocument{Error: detailOf(err), Reason: verify.ReasonOf(err)})
		return
	}
	answer(w, http.StatusOK, chain)
}

func (s *server) apiRefusals(w http.ResponseWriter, r *http.Request) {
	_, _, shown, p := s.chosen(r)
	answer(w, http.StatusOK, refusalsDocument{Total: p.Total, Page: p.Page, Pages: p.Pages, Refusals: shown})
}

func (s *server) apiPulls(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, pullsDocument{Pulls: s.Pulls()})
}

func (s *server) apiCache(w http.ResponseWriter, r *http.Request) {
	usage, err := s.usage(r)
	if err != nil {
		answer(w, http.StatusServiceUnavailable, errorDocument{Error: detailOf(err), Reason: verify.StorageUnavailable})
		return
	}
	answer(w, http.StatusOK, usage)
}

func (s *server) apiNothing(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusNotFound, errorDocument{Error: "There is no such document; docs/api.md lists what there is."})
}

func answer(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document) // a client that has gone away doesn't need the rest
}
