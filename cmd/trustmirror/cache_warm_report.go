package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/warm"
)

// warmReport is what came of one image.
type warmReport struct {
	Image string `json:"image"`
	outcome
	warm.Sum              // of what is there
	New      *warm.Sum    `json:"new,omitempty"` // what wasn't there in that repository before; nil where a mirror was asked, which doesn't say
	Failed   []warmFailed `json:"failed"`
	Missing  []string     `json:"missing_platforms,omitempty"`
}

// warmFailed is an object that isn't there.
type warmFailed struct {
	Object string       `json:"object"`
	Kind   storage.Kind `json:"kind,omitempty"`
	outcome
}

// newWarmReport sums up; told says whether it is known what is new.
func newWarmReport(image *warm.Image, told bool) *warmReport {
	there, fresh := image.Sum()
	r := &warmReport{Image: image.Ref.String(), outcome: outcome{Verdict: verified}, Sum: there, Failed: []warmFailed{}}
	if told {
		r.New = &fresh
	}
	for _, o := range image.Failed() {
		f := warmFailed{o.Ref.String(), o.Kind, outcomeOf(o.Err)}
		f.Message = verify.Printable(f.Message)
		r.Failed = append(r.Failed, f)
		if r.Verdict.worse(f.Verdict) != r.Verdict {
			r.outcome = f.outcome
		}
	}
	for _, p := range image.Missing {
		r.Missing = append(r.Missing, p.String())
	}
	if missing := image.MissingText(); missing != "" && r.Verdict == verified {
		r.outcome = outcome{unclear, verify.NotFound, missing}
	}
	return r
}

func writeWarmReports(w io.Writer, format outputFormat, reports []*warmReport) error {
	if format == outputJSON {
		return writeJSON(w, reports)
	}
	for _, r := range reports {
		if err := r.write(w); err != nil {
			return err
		}
	}
	return nil
}

func (r *warmReport) write(w io.Writer) error {
	split := ""
	if r.New != nil {
		split = fmt.Sprintf(" (new: %d, %s)", r.New.Objects, sizeText(r.New.Bytes))
	}
	_, err := fmt.Fprintf(w, "%s %s: %s, %s%s\n", r.mark(), r.Image, countText(r.Objects, "object"), sizeText(r.Bytes), split)
	for _, f := range r.Failed {
		fmt.Fprintf(w, "  %s %s\n    %s\n", f.mark(), strings.TrimSpace(fmt.Sprintf("%s %s", f.Kind, f.Object)), f.because())
	}
	if len(r.Missing) > 0 {
		fmt.Fprintf(w, "  %s its index lists nothing for %s\n", outcome{Verdict: unclear}.mark(), strings.Join(r.Missing, ", "))
	}
	return err
}

// warmProgress tells how far a walk is: on one line of a terminal, elsewhere with a
// line when it is known how much an image is.
type warmProgress struct {
	*progress
	plain    io.Writer
	complete verify.Ref // of which that was told
}

func newWarmProgress(w io.Writer) *warmProgress {
	return &warmProgress{progress: newProgress(w), plain: w}
}

func (p *warmProgress) tell(at warm.Progress) {
	if p.w != nil {
		more := map[bool]string{false: "at least "}[at.Complete]
		p.say(fmt.Sprintf("%d of %s%s, %s of %s  %s", at.Objects, more, countText(at.Total, "object"), sizeText(at.Bytes), sizeText(at.TotalBytes), at.Ref))
		return
	}
	if at.Complete && p.complete != at.Ref {
		p.complete = at.Ref
		fmt.Fprintf(p.plain, "%s: %s, %s\n", at.Ref, countText(at.Total, "object"), sizeText(at.TotalBytes))
	}
}
