package status

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// find returns the image, and the tag if there is one, that a path below /images/
// names: only what Images knows is looked up any further.
func (s *server) find(ctx context.Context, path string) (image Image, tag string, ok bool) {
	images := s.Images(ctx)
	byName := func(name string) bool {
		i := slices.IndexFunc(images, func(i Image) bool { return i.Name == name })
		if i >= 0 {
			image = images[i]
		}
		return i >= 0
	}
	if byName(path) {
		return image, "", true
	}
	at := strings.LastIndex(path, "/tags/")
	if at < 0 || !byName(path[:at]) {
		return Image{}, "", false
	}
	tag = path[at+len("/tags/"):]
	return image, tag, tag != ""
}

// image shows one image with all its tags, or one of its tags.
func (s *server) image(w http.ResponseWriter, r *http.Request) {
	image, tag, ok := s.find(r.Context(), r.PathValue("name"))
	switch {
	case !ok:
		s.nothing(w, r)
		return
	case tag != "":
		s.tag(w, r, image, tag)
		return
	}
	search := r.FormValue("tag")
	tags := make([]Tag, 0, len(image.Tags))
	for _, t := range image.Tags {
		if strings.Contains(t.Tag, search) {
			tags = append(tags, t)
		}
	}
	paging := newPaging(len(tags), pageTags, r)
	card := newCard(image, s.refusedLately(s.Refusals()), tags[paging.from:paging.to])
	rows := []*tagRow{}
	for i := range card.Rows {
		rows = append(rows, &card.Rows[i])
	}
	s.look(r.Context(), rows)
	s.render(w, http.StatusOK, "image", map[string]any{
		"Title": image.Name, "Here": "/", "Image": card, "Search": search, "Paging": paging,
	})
}

// tag shows the chain of trust of a tag.
func (s *server) tag(w http.ResponseWriter, r *http.Request, image Image, tag string) {
	chain, err := s.chain(r.Context(), image, tag)
	if err != nil {
		s.render(w, statusOf(err), "nochain", map[string]any{
			"Title": image.Name + ":" + tag, "Here": "/", "Image": image, "Tag": tag,
			"Error": detailOf(err), "Reason": verify.ReasonOf(err), "Advice": advice(verify.ReasonOf(err)),
		})
		return
	}
	var refusals []Refusal
	for _, r := range s.Refusals() {
		if r.Image == image.Name && r.Reference == tag && len(refusals) < frontTags {
			refusals = append(refusals, r)
		}
	}
	drawings := []Drawing{}
	for _, side := range chain.Sides[1:] {
		drawings = append(drawings, draw(chain, &side))
	}
	if len(drawings) == 0 {
		drawings = append(drawings, draw(chain, nil))
	}
	s.render(w, http.StatusOK, "tag", map[string]any{
		"Title": image.Name + ":" + tag, "Here": "/", "Image": image, "Tag": tag, "Chain": chain, "Drawings": drawings,
		"Refusals": advised(refusals),
	})
}

func (s *server) chain(ctx context.Context, image Image, tag string) (*verify.Chain, error) {
	ref, err := verify.ParseRef(image.Name)
	if err != nil {
		return nil, err
	}
	return s.Chain(ctx, ref, tag)
}

// statusOf is the status of an answer that says why there is no chain of trust.
func statusOf(err error) int {
	switch verify.ReasonOf(err) {
	case verify.UnsignedTag, verify.NoPolicy:
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}
