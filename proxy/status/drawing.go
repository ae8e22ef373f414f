package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// The measures of a drawing, in its own units: columns of boxes with gaps between
// them, in which the edges' labels stand.
const (
	boxWidth   = 172
	boxHeight  = 62
	gap        = 104
	column     = boxWidth + gap
	layerLeft  = 26 // layers stand further in than their manifest
	layerRow   = 60
	layerBox   = 40
	bandGap    = 30
	firstBand  = 160
	tagHeight  = 44
	tagTop     = 56
	maxBands   = 32 // platforms that are drawn; the list below the drawing has all
	maxLayers  = 5  // layers of a manifest that are drawn one by one
	titleChars = 18 // of the first line in a box
	lineChars  = 20 // of the others
	headerSize = 52 // characters of a repository's name above its half
)

// Drawing is the chain of trust of a tag: the signed side on the left, a copy on
// the right, and in the middle the configs that both lead to.
type Drawing struct {
	Width, Height int
	ID            string // for the parts of the page that belong to it
	Title, Desc   string
	Headers       []text
	Edges         []edge
	Boxes         []box
	Omitted       int // platforms that aren't drawn
}

type text struct {
	X, Y   int
	Anchor string // "start", "middle" or "end"
	Text   string
	Class  string
}

// box is an object.
type box struct {
	X, Y, W, H int
	State      verify.State
	Title      string
	Size       string // beside the title; may be empty
	Lines      []string
	Hint       string // all of what is said in short
}

// edge leads from what vouches to what is vouched for.
type edge struct {
	Path  string // SVG path data
	State verify.State
	Label text
}

// artist draws one drawing.
type artist struct {
	*Drawing
	y int // where the next band begins
}

// draw draws the signed side of a chain and, unless it is nil, one copy.
func draw(chain *verify.Chain, other *verify.Side) Drawing {
	signed := chain.Sides[0]
	a := &artist{Drawing: &Drawing{Width: 3*column - gap, ID: "alone"}, y: firstBand}
	a.Title = "Chain of trust of " + signed.Name + ":" + chain.Tag
	a.Desc = "From the signature over the tag to the layers."
	if other != nil {
		a.Width = 5*column - gap
		a.ID = fmt.Sprintf("copy-%s", digest.FromString(other.Name).Encoded()[:8])
		a.Desc = "On the left what " + strings.Join(chain.Signers, ", ") + " signed, on the right the copy " + other.Name + ", in the middle the configs that both lead to."
	}
	left := a.half(chain, signed, false)
	var right half
	if other != nil {
		right = a.half(chain, *other, true)
	}
	bands := pair(left.manifests, right.manifests)
	a.Omitted = max(0, len(bands)-maxBands)
	for _, b := range bands[:min(maxBands, len(bands))] {
		a.band(left, right, b)
	}
	a.Height = max(a.y-bandGap, firstBand+boxHeight) + 8
	// What is refused is drawn over the rest.
	slices.SortStableFunc(a.Edges, func(x, y edge) int { return gravity(x.State) - gravity(y.State) })
	return *a.Drawing
}

// half is one side of a drawing.
type half struct {
	mirrored  bool
	root      *verify.Link
	index     *box           // nil where the tag is a manifest itself
	manifests []*verify.Link // in the index's order
}

// x is where a column of a half begins; columns count from the half's edge.
func (a *artist) x(mirrored bool, at int) int {
	if mirrored {
		return a.Width - boxWidth - at*column
	}
	return at * column
}

// half draws a side's name, its tag and its topmost object.
func (a *artist) half(chain *verify.Chain, side verify.Side, mirrored bool) half {
	h := half{mirrored: mirrored, root: side.Root}
	who, vouch, state := "signed by "+strings.Join(chain.Signers, ", "), "signature", verify.StateVerified
	name := text{X: 0, Y: 16, Anchor: "start", Text: "Signed", Class: "side"}
	if !side.Signed {
		who, vouch, state = "not signed itself", rootProof(side.Root), side.Root.State
		name = text{X: a.Width, Y: 16, Anchor: "end", Text: "Copy", Class: "side"}
	}
	below := name
	below.Y, below.Text, below.Class = 38, cutTo(headerSize, side.Name), "name"
	a.Headers = append(a.Headers, name, below)
	tag := box{
		X: a.x(mirrored, 0), Y: tagTop, W: boxWidth, H: tagHeight, State: state, Title: "tag " + chain.Tag, Lines: []string{who},
		Hint: side.Name + ":" + chain.Tag + ", " + who,
	}
	if side.Root.Kind == storage.KindManifest {
		tag.Y, tag.H = firstBand, boxHeight
		h.manifests = []*verify.Link{side.Root}
		a.across(tag, box{X: a.x(mirrored, 1), W: boxWidth}, firstBand+boxHeight/2, mirrored, side.Root.State, vouch)
		a.add(tag)
		return h
	}
	index := objectBox(side.Root, a.x(mirrored, 0), firstBand, boxWidth, boxHeight)
	h.index, h.manifests = &index, side.Root.Children
	middle := index.X + boxWidth/2
	label := text{X: middle + 8, Y: (tagTop+tagHeight+firstBand)/2 + 4, Anchor: "start", Text: vouch}
	if mirrored {
		label.X, label.Anchor = middle-8, "end"
	}
	a.Edges = append(a.Edges, edge{Path: fmt.Sprintf("M%d %dV%d", middle, tagTop+tagHeight, firstBand), State: side.Root.State, Label: label})
	a.add(tag)
	a.add(index)
	return h
}

// rootProof says what proves a copy's topmost object.
func rootProof(root *verify.Link) string {
	switch {
	case root.State == verify.StateRefused:
		return "not proven"
	case root.State == verify.StateVerified && root.Proof == storage.ProofSameConfig && root.Kind == storage.KindIndex:
		return "all entries proven"
	}
	return proofOf(root)
}

// gravity orders states for drawing.
func gravity(s verify.State) int {
	switch s {
	case verify.StateRefused:
		return 2
	case verify.StateVerified:
		return 1
	}
	return 0
}

// edgeState is how the edge from a document to what it names is drawn: it proves
// nothing where the document isn't verified itself.
func edgeState(parent, child *verify.Link) verify.State {
	if child.State == verify.StateVerified && parent.State != verify.StateVerified {
		return verify.StateWaiting
	}
	return child.State
}

// band are the manifests of both sides for one platform.
type band struct{ left, right *verify.Link }

// pair sets each manifest of a copy beside the signed one with the same config,
// else the one for the same platform.
func pair(left, right []*verify.Link) []band {
	var bands []band
	for _, l := range left {
		bands = append(bands, band{left: l})
	}
	for _, r := range right {
		best := -1
		for i, b := range bands {
			if b.left == nil || b.right != nil {
				continue
			}
			lc, rc := configOf(b.left), configOf(r)
			switch {
			case lc != nil && rc != nil && lc.Digest == rc.Digest, b.left.Digest == r.Digest:
				best = i
			case best < 0 && (lc == nil || rc == nil) && b.left.Platform == r.Platform:
				best = i
				continue
			default:
				continue
			}
			break
		}
		if best < 0 {
			bands = append(bands, band{right: r})
		} else {
			bands[best].right = r
		}
	}
	return bands
}

func configOf(manifest *verify.Link) *verify.Link {
	if manifest != nil && len(manifest.Children) > 0 && manifest.Children[0].Kind == storage.KindConfig {
		return manifest.Children[0]
	}
	return nil
}
