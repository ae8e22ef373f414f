package status

import (
	"cmp"
	"fmt"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// band draws one platform: its manifests, the config in the middle, and below them
// the layers.
func (a *artist) band(left, right half, b band) {
	top, middle := a.y, a.y+boxHeight/2
	lc, rc := configOf(b.left), configOf(b.right)
	config := box{X: a.x(false, 2), Y: top, W: boxWidth, H: boxHeight}
	for _, s := range []struct {
		half     half
		manifest *verify.Link
		config   *verify.Link
	}{{left, b.left, lc}, {right, b.right, rc}} {
		if s.manifest == nil {
			continue
		}
		m := objectBox(s.manifest, a.x(s.half.mirrored, 1), top, boxWidth, boxHeight)
		if s.half.index != nil {
			a.branch(*s.half.index, m, middle, s.half.mirrored, edgeState(s.half.root, s.manifest), listedBy(s.manifest))
		}
		if s.config != nil {
			state, label := edgeState(s.manifest, s.config), proofOf(s.config)
			if s.manifest.Proof == storage.ProofSameConfig {
				state, label = s.config.State, "same config"
			}
			a.across(m, config, middle, s.half.mirrored, state, label)
		}
		a.add(m)
	}
	if shown := cmp.Or(lc, rc); shown != nil {
		if lc != nil && rc != nil && rc.State == verify.StateVerified {
			shown = rc // verified under either name, it is the same config
		}
		config = objectBox(shown, config.X, top, boxWidth, boxHeight)
		a.add(config)
	}
	a.y = top + boxHeight
	for _, r := range layerRows(b) {
		a.layers(left, right, b, r, top+boxHeight, config.State)
	}
	a.y += bandGap
}

// listedBy labels the edge from a document to what it names; that of a copy lists
// things that something else proves.
func listedBy(l *verify.Link) string {
	switch l.Proof {
	case storage.ProofSameConfig, storage.ProofSameLayer, storage.ProofDiffID:
		return "lists it"
	}
	return proofOf(l)
}

// row are layers at the same positions of both sides.
type row struct {
	first, last int // positions, from 1
	left, right *layers
}

// layers are one layer of a side, or several that came out alike.
type layers struct {
	link *verify.Link // the first
	size int64
}

// layerRows lists a band's layers by position; where there are many, neighbours
// that came out alike share a row.
func layerRows(b band) []row {
	left, right := layersOf(b.left), layersOf(b.right)
	n := max(len(left), len(right))
	var rows []row
	for i := range n {
		r := row{first: i + 1, last: i + 1, left: at(left, i), right: at(right, i)}
		if last := len(rows) - 1; n > maxLayers && last >= 0 && alike(rows[last].left, r.left) && alike(rows[last].right, r.right) {
			rows[last].last = r.last
			rows[last].left.grow(r.left)
			rows[last].right.grow(r.right)
			continue
		}
		rows = append(rows, r)
	}
	return rows
}

func layersOf(manifest *verify.Link) []*verify.Link {
	if configOf(manifest) == nil {
		return nil
	}
	return manifest.Children[1:]
}

func at(links []*verify.Link, i int) *layers {
	if i >= len(links) {
		return nil
	}
	return &layers{link: links[i], size: links[i].Size}
}

func alike(a, b *layers) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.link.State == b.link.State && a.link.Proof == b.link.Proof && a.link.State != verify.StateRefused
}

func (l *layers) grow(more *layers) {
	if l != nil {
		l.size += more.size
	}
}

// layers draws one row of layers below the manifests, whose lower edge is at top.
// config is the state of the config between them.
func (a *artist) layers(left, right half, b band, r row, top int, config verify.State) {
	y := a.y + layerRow - layerBox
	middle := y + layerBox/2
	name := fmt.Sprintf("layer %d", r.first)
	if r.last > r.first {
		name = fmt.Sprintf("layers %d–%d", r.first, r.last)
	}
	if r.right != nil { // below those boxes' edges
		a.bridge(right, r, y, middle, config)
	}
	for _, s := range []struct {
		half     half
		manifest *verify.Link
		layers   *layers
	}{{left, b.left, r.left}, {right, b.right, r.right}} {
		if s.layers == nil {
			continue
		}
		l := s.layers.link
		x := a.x(s.half.mirrored, 1)
		rail, to := x+layerLeft/2, x+layerLeft
		label := text{X: rail + 6, Y: y - 5, Anchor: "start", Text: listedBy(l)}
		if s.half.mirrored {
			rail, to = x+boxWidth-layerLeft/2, x+boxWidth-layerLeft
			label.X, label.Anchor = rail-6, "end"
		} else {
			x = to
		}
		a.Edges = append(a.Edges, edge{Path: fmt.Sprintf("M%d %dV%dH%d", rail, top, middle, to), State: edgeState(s.manifest, l), Label: label})
		shown := objectBox(l, x, y, boxWidth-layerLeft, layerBox)
		shown.Title = name
		if r.last > r.first {
			shown.Lines = []string{size(s.layers.size) + ", " + stateText(l)}
		} else {
			shown.Size = size(l.Size)
		}
		a.add(shown)
	}
	a.y += layerRow
}

// bridge draws what proves a copy's layer: the config's diff ID, or the signed
// layer itself.
func (a *artist) bridge(right half, r row, y, middle int, config verify.State) {
	l := r.right.link
	from, to := a.x(false, 1)+boxWidth, a.x(right.mirrored, 1)
	switch {
	case l.Proof == storage.ProofDiffID || l.State == verify.StateRefused && l.DiffID != "":
		chip := box{X: a.x(false, 2) + layerLeft, Y: y, W: boxWidth - 2*layerLeft, H: layerBox, State: config, Title: "diff ID", Lines: []string{short(l.DiffID)}, Hint: "the layer has to decompress to " + string(l.DiffID)}
		if r.last > r.first {
			chip.Title, chip.Lines, chip.Hint = "diff IDs", []string{fmt.Sprintf("of %d layers", r.last-r.first+1)}, ""
		}
		a.Edges = append(a.Edges,
			edge{Path: fmt.Sprintf("M%d %dV%d", chip.X+chip.W/2, y-layerRow+layerBox, y), State: config},
			edge{Path: fmt.Sprintf("M%d %dH%d", chip.X+chip.W, middle, to), State: l.State, Label: text{X: (chip.X + chip.W + to) / 2, Y: middle - 6, Anchor: "middle", Text: "diff ID"}},
		)
		a.add(chip)
	case l.Shared && r.left != nil:
		a.Edges = append(a.Edges, edge{Path: fmt.Sprintf("M%d %dH%d", from, middle, to), State: l.State, Label: text{X: (from + to) / 2, Y: middle - 6, Anchor: "middle", Text: "same digest"}})
	}
}

// branch draws an edge from an index to one of its manifests.
func (a *artist) branch(index, m box, y int, mirrored bool, state verify.State, label string) {
	from, trunk, to := index.X+index.W, index.X+index.W+18, m.X
	if mirrored {
		from, trunk, to = index.X, index.X-18, m.X+m.W
	}
	a.Edges = append(a.Edges, edge{
		Path: fmt.Sprintf("M%d %dH%dV%dH%d", from, index.Y+index.H/2, trunk, y, to), State: state,
		Label: text{X: (trunk + to) / 2, Y: y - 6, Anchor: "middle", Text: label},
	})
}

// across draws a straight edge between two columns.
func (a *artist) across(from, to box, y int, mirrored bool, state verify.State, label string) {
	x1, x2 := from.X+from.W, to.X
	if mirrored {
		x1, x2 = from.X, to.X+to.W
	}
	a.Edges = append(a.Edges, edge{
		Path: fmt.Sprintf("M%d %dH%d", x1, y, x2), State: state,
		Label: text{X: (x1 + x2) / 2, Y: y - 6, Anchor: "middle", Text: label},
	})
}

func (a *artist) add(b box) {
	b.Title = cutTo(titleChars, b.Title)
	for i := range b.Lines {
		b.Lines[i] = cutTo(lineChars, b.Lines[i])
	}
	a.Boxes = append(a.Boxes, b)
}

// objectBox is the box of one object.
func objectBox(l *verify.Link, x, y, w, h int) box {
	b := box{X: x, Y: y, W: w, H: h, State: l.State, Title: kindOf(l), Hint: fmt.Sprintf("%s %s %s: %s", kindOf(l), l.Platform, l.Digest, stateText(l))}
	if l.Detail != "" {
		b.Hint += ", " + l.Detail
	}
	if l.Kind == storage.KindManifest && l.Platform != "" {
		b.Title = l.Platform
	}
	if l.Digest != "" {
		b.Lines = append(b.Lines, short(l.Digest))
	}
	if h > layerBox || l.State == verify.StateRefused && len(b.Lines) == 0 {
		b.Lines = append(b.Lines, lastLine(l))
	}
	if h == layerBox && l.State == verify.StateRefused {
		b.Lines = []string{string(l.Reason)}
	}
	return b
}

func lastLine(l *verify.Link) string {
	if l.State == verify.StateVerified {
		return size(l.Size)
	}
	return stateText(l)
}

// stateText is an object's state in words.
func stateText(l *verify.Link) string {
	switch l.State {
	case verify.StateVerified:
		return "verified"
	case verify.StateRefused:
		return string(l.Reason)
	}
	return "not pulled yet"
}

// kindOf is what an object is.
func kindOf(l *verify.Link) string {
	if l.Kind == "" {
		return "image"
	}
	return string(l.Kind)
}

// proofOf says in words what proves an object.
func proofOf(l *verify.Link) string {
	switch l.Proof {
	case storage.ProofSigned:
		return "signature"
	case storage.ProofListed:
		return "listed digest"
	case storage.ProofSameConfig:
		return "same config"
	case storage.ProofSameLayer:
		return "same digest"
	case storage.ProofDiffID:
		return "diff ID"
	}
	return "to be proven"
}
