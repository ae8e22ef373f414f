package status

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trustmirror/trustmirror/verify"
)

const (
	// frontTags is how many tags of an image the front page shows.
	frontTags = 5
	// pageTags is how many tags a page about one image shows.
	pageTags = 100
	// lookTimeout bounds how long a page waits for storage to tell how tags stand.
	lookTimeout = 2 * time.Second
	// lookAtOnce is how many tags are looked up at the same time.
	lookAtOnce = 8
)

// tagRow is a tag with how it stands in each repository of its image.
type tagRow struct {
	Tag
	image string // the signed repository
	Path  string
	Sides []verify.Side // nil where it could not be told in time
}

// card is an image as pages show it.
type card struct {
	Image
	Path    string
	Repos   []repo
	Rows    []tagRow // some of Tags
	Refused int      // lately
}

// repo is a repository of an image.
type repo struct {
	Name    string
	Signed  bool
	Refused int // refusals lately
}

func (s *server) front(w http.ResponseWriter, r *http.Request) {
	images, refusals := s.Images(r.Context()), s.Refusals()
	refused := s.refusedLately(refusals)
	cards := make([]card, len(images))
	var rows []*tagRow
	for i, image := range images {
		cards[i] = newCard(image, refused, image.Tags[:min(frontTags, len(image.Tags))])
		for j := range cards[i].Rows {
			rows = append(rows, &cards[i].Rows[j])
		}
	}
	s.look(r.Context(), rows)
	s.render(w, http.StatusOK, "front", map[string]any{
		"Title": "Images", "Here": "/", "Overview": s.overview(images, refusals), "Images": cards,
	})
}

// refusedLately counts by repository.
func (s *server) refusedLately(refusals []Refusal) map[string]int {
	counts, now := map[string]int{}, s.Clock()
	for _, r := range refusals {
		if now.Sub(r.At) <= lately {
			counts[r.Repository]++
		}
	}
	return counts
}

func newCard(image Image, refused map[string]int, tags []Tag) card {
	c := card{Image: image, Path: imagePath(image.Name)}
	for i, name := range append([]string{image.Name}, image.Copies...) {
		c.Repos = append(c.Repos, repo{Name: name, Signed: i == 0, Refused: refused[name]})
		c.Refused += refused[name]
	}
	for _, t := range tags {
		c.Rows = append(c.Rows, tagRow{Tag: t, image: image.Name, Path: tagPath(image.Name, t.Tag)})
	}
	return c
}

// look fills in how tags stand, as far as storage tells in time.
func (s *server) look(ctx context.Context, rows []*tagRow) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(lookAtOnce)
	for _, row := range rows {
		group.Go(func() error {
			ref, err := verify.ParseRef(row.image)
			if err != nil {
				return err
			}
			chain, err := s.Roots(ctx, ref, row.Tag.Tag)
			if err == nil {
				row.Sides = chain.Sides
			}
			return err
		})
	}
	_ = group.Wait() // what could not be told is shown as that
}
