package status

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/trustmirror/trustmirror/verify"
)

// pageRefusals is how many refusals a page shows.
const pageRefusals = 50

// filter chooses among refusals.
type filter struct {
	Reason verify.Reason
	Image  string
	Page   int
}

// paging says which part of a list a page shows.
type paging struct {
	Page, Pages, Total int // pages count from 1
	from, to           int
}

// newPaging reads the page that a request asks for; one that isn't there is the
// nearest that is.
func newPaging(total, size int, r *http.Request) paging {
	asked, err := strconv.Atoi(r.FormValue("page"))
	if err != nil {
		asked = 1
	}
	p := paging{Pages: max(1, (total+size-1)/size), Total: total}
	p.Page = min(p.Pages, max(1, asked))
	p.from = (p.Page - 1) * size
	p.to = min(total, p.from+size)
	return p
}

// Prev and Next are the pages beside it; 0 where there is none.
func (p paging) Prev() int { return p.Page - 1 }

func (p paging) Next() int {
	if p.Page == p.Pages {
		return 0
	}
	return p.Page + 1
}

// chosen are the refusals that a request asks for, and which of them are shown.
func (s *server) chosen(r *http.Request) (f filter, all, shown []Refusal, p paging) {
	f = filter{Reason: verify.Reason(r.FormValue("reason")), Image: r.FormValue("image")}
	all = s.Refusals()
	chosen := make([]Refusal, 0, len(all))
	for _, refusal := range all {
		if (f.Reason == "" || refusal.Reason == f.Reason) && (f.Image == "" || refusal.Image == f.Image) {
			chosen = append(chosen, refusal)
		}
	}
	p = newPaging(len(chosen), pageRefusals, r)
	f.Page = p.Page
	return f, all, advised(chosen[p.from:p.to]), p
}

// advised returns refusals with what to do about them.
func advised(refusals []Refusal) []Refusal {
	list := slices.Clone(refusals)
	for i := range list {
		list[i].Advice = advice(list[i].Reason)
	}
	return list
}

func (s *server) refusals(w http.ResponseWriter, r *http.Request) {
	f, all, shown, p := s.chosen(r)
	reasons, images := map[string]bool{string(f.Reason): true}, map[string]bool{f.Image: true}
	for _, refusal := range all {
		reasons[string(refusal.Reason)] = true
		images[refusal.Image] = true
	}
	s.render(w, http.StatusOK, "refusals", map[string]any{
		"Title": "Refusals", "Here": "/refusals", "Filter": f, "Remembered": len(all), "Refusals": shown, "Paging": p,
		"Reasons": options(reasons), "Images": options(images),
		"PrevPath": refusalsPath(filter{f.Reason, f.Image, p.Prev()}), "NextPath": refusalsPath(filter{f.Reason, f.Image, p.Next()}),
	})
}

// options are what can be chosen, sorted, but nothing.
func options(of map[string]bool) []string {
	list := []string{}
	for name := range of {
		if name != "" {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}
