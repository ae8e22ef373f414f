package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// minColumn is how wide a repository's tree has to be to stand beside another.
const minColumn = 56

// drawing draws chains of trust for people.
type drawing struct {
	width int              // columns of the terminal
	now   func() time.Time // what dates are told against
}

// chain draws the trust that an image rests on, then the trees of its
// repositories: side by side where they fit, else one after the other.
func (d drawing) chain(w io.Writer, c *chain) error {
	lines := []string{c.Image, ""}
	if c.Trust != nil {
		lines = append(append(lines, d.trust(c.Trust)...), "")
	}
	var trees [][]string
	column := d.width
	if n := len(c.Repositories); n > 0 && (d.width-3*(n-1))/n >= minColumn {
		column = (d.width - 3*(n-1)) / n
	}
	for _, r := range c.Repositories {
		trees = append(trees, d.repository(r, column))
	}
	if column < d.width {
		lines = append(append(lines, beside(trees, column)...), "")
	} else {
		for _, t := range trees {
			lines = append(append(lines, t...), "")
		}
	}
	lines = append(lines, wrap(d.conclusion(c), "", "  ", d.width)...)
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

func (d drawing) conclusion(c *chain) string {
	if c.Verdict == verified {
		names := []string{}
		for _, r := range c.Repositories {
			names = append(names, r.Name)
		}
		return "✔ verified: " + strings.Join(names, " and ")
	}
	return fmt.Sprintf("%s %s: %s", c.mark(), c.Verdict, c.because())
}

func (o outcome) mark() string {
	switch o.Verdict {
	case verified:
		return "✔"
	case refused:
		return "✘"
	}
	return "?"
}

func (o outcome) because() string {
	if o.Reason == "" {
		return o.Message
	}
	return fmt.Sprintf("%s: %s", o.Reason, o.Message)
}

// trust draws what is signed, by whom, and until when.
func (d drawing) trust(t *trust) []string {
	b := branch{text: t.mark() + " " + t.title()}
	if t.Verdict != verified {
		b.notes = []string{t.because()}
	}
	for _, r := range t.Roles {
		role := branch{text: r.Role + "  nothing published yet"}
		if r.Version > 0 {
			role.text = fmt.Sprintf("%s  version %d, %s", r.Role, r.Version, d.expiry(r.Expires))
		}
		for _, k := range r.Keys {
			role.notes = append(role.notes, k.standing()+" key "+k.ID)
		}
		b.children = append(b.children, role)
	}
	if t.Digest != "" {
		b.children = append(b.children, branch{
			text:  fmt.Sprintf("tag %s  %s", t.Tag, t.signedBy()),
			notes: []string{t.Digest.String()},
		})
	}
	return b.draw(d.width)
}

// title says where what is signed is known from.
func (t *trust) title() string {
	switch t.Source {
	case kindArchive:
		return fmt.Sprintf("signatures of %s in the archive %s, as of %s", t.GUN, t.Service, t.Moment.Format(time.DateOnly))
	case kindDigests:
		return "digests pinned in " + cmp.Or(t.Service, "the configuration")
	}
	return fmt.Sprintf("signatures of %s at %s", t.GUN, t.Service)
}

func (t *trust) signedBy() string {
	if t.Source == kindDigests {
		return strings.Join(t.Signers, ", ")
	}
	return "signed by " + strings.Join(t.Signers, ", ")
}

// standing says whether the key is pinned, or the trust service's own.
func (k roleKey) standing() string {
	if k.Pinned {
		return "pinned"
	}
	return "server"
}

// expiry tells when something expires or has expired, and how far off that is.
func (d drawing) expiry(t time.Time) string {
	left := t.Sub(d.now())
	day := t.UTC().Format(time.DateOnly)
	if left < 0 {
		return fmt.Sprintf("expired %s, %s ago", day, span(-left))
	}
	return fmt.Sprintf("expires %s, in %s", day, span(left))
}

// span tells a length of time in its largest unit.
func span(t time.Duration) string {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{365 * day, "years"}, {30 * day, "months"}, {day, "days"}, {time.Hour, "hours"}} {
		if n := t / unit.size; n >= 2 {
			return fmt.Sprintf("%d %s", n, unit.name)
		}
	}
	return fmt.Sprintf("%d minutes", t/time.Minute)
}

func (d drawing) repository(r *repository, width int) []string {
	header := wrap(fmt.Sprintf("%s (%s)", r.Name, r.Role), "", "  ", width)
	return append(header, branchOf(r.Root, r.Role == roleCopy).draw(width)...)
}

// branchOf says of a node what it is and why it may be served.
func branchOf(n *node, copied bool) branch {
	kind := string(n.Kind)
	if kind == "" {
		kind = "image"
	}
	parts := []string{n.mark(), kind}
	if n.Platform != "" {
		parts = append(parts, n.Platform)
	}
	if n.Digest != "" {
		parts = append(parts, short(n.Digest))
	}
	if proof := n.proof(copied); proof != "" {
		parts = append(parts, " "+proof)
	}
	b := branch{text: strings.Join(parts, " ")}
	if n.Verdict != verified {
		b.notes = []string{n.because()}
	}
	for _, child := range n.Children {
		b.children = append(b.children, branchOf(child, copied))
	}
	return b
}

// proof says what a node rests on, where that isn't just the document above it.
func (n *node) proof(copied bool) string {
	switch {
	case n.Verdict != verified:
		return ""
	case n.Proof == storage.ProofSigned:
		return "the signed digest"
	case copied && n.InSigned:
		return "the same as signed"
	case n.Proof == storage.ProofSameConfig && n.Kind == storage.KindIndex:
		return "every entry has a signed config"
	case n.Proof == storage.ProofSameConfig:
		return "has the signed config"
	case n.Proof == storage.ProofSameLayer:
		return "the same as signed"
	case n.Proof == storage.ProofDiffID:
		return "decompresses to " + short(n.DiffID)
	}
	return ""
}

// short is a digest as Docker abbreviates it.
func short(d digest.Digest) string {
	hex := d.Encoded()
	return hex[:min(12, len(hex))]
}

// branch is a line of a tree with lines of its own below it, and branches.
type branch struct {
	text     string
	notes    []string
	children []branch
}

// draw returns the branch as lines of at most width columns.
func (b branch) draw(width int) []string { return b.lines("", "", width) }

// lines draws a branch: first stands before its own line, rest before all others.
func (b branch) lines(first, rest string, width int) []string {
	stem := rest
	if len(b.children) > 0 {
		stem += "│"
	}
	lines := wrap(b.text, first, pad(stem, len([]rune(rest))+4), width)
	for _, note := range b.notes {
		indent := pad(stem, len([]rune(rest))+2)
		lines = append(lines, wrap(note, indent, indent, width)...)
	}
	for i, child := range b.children {
		if i < len(b.children)-1 {
			lines = append(lines, child.lines(rest+"├─ ", rest+"│  ", width)...)
		} else {
			lines = append(lines, child.lines(rest+"└─ ", rest+"   ", width)...)
		}
	}
	return lines
}

// wrap breaks a text between words; a word longer than a line stays whole.
func wrap(text, first, rest string, width int) []string {
	var lines []string
	line := first
	empty := true
	for _, word := range strings.SplitAfter(text, " ") {
		visible := strings.TrimRight(word, " ")
		if !empty && utf8.RuneCountInString(line)+utf8.RuneCountInString(visible) > width {
			lines = append(lines, strings.TrimRight(line, " "))
			line, empty = rest, true
		}
		if empty && visible == "" {
			continue
		}
		line += word
		empty = false
	}
	return append(lines, strings.TrimRight(line, " "))
}

// beside sets trees next to each other in columns.
func beside(trees [][]string, column int) []string {
	height := 0
	for _, t := range trees {
		height = max(height, len(t))
	}
	lines := make([]string, height)
	for i, t := range trees {
		for y := range lines {
			cell := ""
			if y < len(t) {
				cell = t[y]
			}
			if i > 0 {
				lines[y] = pad(lines[y], i*(column+3)-3) + " │ "
			}
			lines[y] += cell
		}
	}
	for y := range lines {
		lines[y] = strings.TrimRight(lines[y], " ")
	}
	return lines
}

// pad fills a text up with spaces.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}
