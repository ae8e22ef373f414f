package proxy

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
)

// maxPage is how many entries a page has at most, and how many it has when the
// client names no number.
const maxPage = 1000

// page is the part of a list that a request asks for: at most n entries that
// come after last.
type page struct {
	n    int
	last string
}

// readPage reads ?n= and ?last=. A number above maxPage means maxPage: a
// registry may return fewer entries than asked for, with a Link to the rest (OCI
// distribution specification, "Listing Tags").
func readPage(query url.Values) (page, error) {
	p := page{n: maxPage, last: query.Get("last")}
	if !query.Has("n") {
		return p, nil
	}
	n, err := strconv.ParseUint(query.Get("n"), 10, 64)
	if err != nil {
		return page{}, errPageNumber
	}
	p.n = int(min(n, maxPage))
	return p, nil
}

// of cuts the page out of a sorted list, and tells whether more entries follow.
// An empty page is never followed by more.
func (p page) of(sorted []string) (entries []string, more bool) {
	start, found := slices.BinarySearch(sorted, p.last)
	if found {
		start++
	}
	rest := sorted[start:]
	if p.n >= len(rest) {
		return append([]string{}, rest...), false
	}
	return append([]string{}, rest[:p.n]...), p.n > 0
}

// next is the Link header that leads to what follows the entries (RFC 5988). It
// is relative, and names the same registry as the request did.
func (p page) next(x *exchange, entries []string) string {
	query := url.Values{"n": {strconv.Itoa(p.n)}, "last": {entries[len(entries)-1]}}
	if ns := x.query.Get("ns"); ns != "" {
		query.Set("ns", ns)
	}
	return fmt.Sprintf(`<%s?%s>; rel="next"`, x.r.URL.EscapedPath(), query.Encode())
}
