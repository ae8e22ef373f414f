package status

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"net/http"
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// parsePages reads the templates: each page has the layout's parts and its own.
func (s *server) parsePages() (map[string]*template.Template, error) {
	pages := map[string]*template.Template{}
	for _, name := range []string{"front", "image", "tag", "nochain", "refusals", "pulls", "cache", "nothing"} {
		t, err := template.New("layout.html").Funcs(s.functions()).ParseFS(pageFiles, "pages/layout.html", "pages/parts.html", "pages/drawing.html", "pages/"+name+".html")
		if err != nil {
			return nil, err
		}
		pages[name] = t
	}
	return pages, nil
}

func (s *server) functions() template.FuncMap {
	return template.FuncMap{
		"add": func(a, b int) int { return a + b }, "lineY": func(i int) int { return 33 + 16*i },
		"ago": s.ago, "brief": s.brief, "bytes": size, "count": count, "cut": cut, "cutTo": cutTo, "day": day, "imagePath": imagePath, "join": strings.Join,
		"kind": kindOf, "left": left, "number": number, "percent": percent, "proof": proofOf, "share": share, "short": short,
		"since": func(name string) string { return refusalsPath(filter{Image: name}) }, "stamp": stamp, "tagPath": tagPath,
	}
}

// render makes a page whole before any of it is sent.
func (s *server) render(w http.ResponseWriter, status int, page string, data map[string]any) {
	data["Now"], data["Version"] = s.Clock(), s.Version
	var buf bytes.Buffer
	if err := s.pages[page].Execute(&buf, data); err != nil {
		http.Error(w, "This page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(visible(buf.Bytes())) // a browser that has gone away doesn't need the rest
}

func (s *server) nothing(w http.ResponseWriter, _ *http.Request) {
	s.render(w, http.StatusNotFound, "nothing", map[string]any{"Title": "Not found", "Here": ""})
}

func (s *server) pulls(w http.ResponseWriter, _ *http.Request) {
	s.render(w, http.StatusOK, "pulls", map[string]any{"Title": "Pulls", "Here": "/pulls", "Pulls": s.Pulls()})
}

func (s *server) cache(w http.ResponseWriter, r *http.Request) {
	usage, err := s.usage(r)
	data := map[string]any{"Title": "Cache", "Here": "/cache", "Usage": usage}
	if err != nil {
		data["Error"], data["Advice"] = detailOf(err), advice(verify.StorageUnavailable)
	}
	s.render(w, http.StatusOK, "cache", data)
}

// usage doesn't wait until all of storage was listed.
func (s *server) usage(r *http.Request) (Usage, error) {
	ctx, cancel := context.WithTimeout(r.Context(), lookTimeout)
	defer cancel()
	usage, err := s.Usage(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("it is being counted for the first time, which takes a while; look again later")
	}
	return usage, err
}

// detailOf is an error's sentence without its reason code.
func detailOf(err error) string {
	var refusal *verify.Refusal
	var unavailable *verify.UnavailableError
	switch {
	case errors.As(err, &refusal):
		return refusal.Detail
	case errors.As(err, &unavailable):
		return unavailable.Detail
	}
	return err.Error()
}
