package status

import (
	"fmt"
	"strings"
	"time"
)

// The levels of an Overview.
const (
	levelOK        = "ok"        // all is well
	levelAttention = "attention" // all is served, and something has to be done in time
	levelProblem   = "problem"   // something can't be pulled
)

// lately is how far back refusals count on the front page.
const lately = 24 * time.Hour

// Overview answers whether the fleet is protected.
type Overview struct {
	At       time.Time `json:"at"`
	Version  string    `json:"version"`
	Level    string    `json:"level"` // "ok", "attention" or "problem"
	Headline string    `json:"headline"`
	Notes    []string  `json:"notes"` // sentences: what needs attention, the gravest first
	Images   int       `json:"images"`
	Tags     int       `json:"tags"`             // signed now
	Refused  int       `json:"refused_last_day"` // refusals within the last 24 hours, as far as they are remembered
	Pulls    int       `json:"pulls_under_way"`
}

func (s *server) overview(images []Image, refusals []Refusal) Overview {
	now := s.Clock()
	o := Overview{At: now.UTC(), Version: s.Version, Level: levelOK, Notes: []string{}, Images: len(images), Pulls: len(s.Pulls())}
	for _, r := range refusals {
		if now.Sub(r.At) <= lately {
			o.Refused++
		}
	}
	var problems, warnings []string
	for _, image := range images {
		o.Tags += len(image.Tags)
		if image.Error != "" {
			problems = append(problems, fmt.Sprintf("%s can't be pulled: %s.", image.Name, sentence(image.Error)))
		}
		warnings = append(warnings, image.warnings()...)
	}
	for _, e := range s.Certificates() {
		if warning := certificateWarning(e); warning != "" {
			warnings = append(warnings, warning)
		}
	}
	o.Notes = append(append(o.Notes, problems...), warnings...)
	switch {
	case len(images) == 0:
		o.Level, o.Headline = levelAttention, "Nothing is served yet: nothing is known to be signed."
	case len(problems) == len(images):
		o.Level, o.Headline = levelProblem, "Nothing can be pulled. Nothing unverified is served either."
	case len(problems) > 0:
		o.Level, o.Headline = levelProblem, "Protected, but some images can't be pulled."
	case len(warnings) > 0:
		o.Level, o.Headline = levelAttention, "Protected, but something needs attention."
	default:
		o.Headline = "Protected: only what its publisher signed is served."
	}
	return o
}

// warnings are sentences about what has to be done in time.
func (i Image) warnings() []string {
	var all []string
	if i.Trust.RefreshError != "" {
		all = append(all, fmt.Sprintf("The trust service of %s could not be asked for news: %s. What was verified holds until it expires.", i.Name, sentence(i.Trust.RefreshError)))
	}
	for _, e := range i.Trust.Expires {
		switch {
		case e.Left <= 0:
			all = append(all, fmt.Sprintf("The %s of %s expired on %s.", e.Role, i.Name, day(e.At)))
		case e.Warning:
			all = append(all, fmt.Sprintf("The %s of %s expires on %s, %s. If nobody signs anew, make an archive with trustmirror trust export.", e.Role, i.Name, day(e.At), left(e.Left)))
		}
	}
	return all
}

// certificateWarning is a sentence about a certificate that has to be renewed;
// empty where that has time.
func certificateWarning(e Expiry) string {
	switch {
	case e.Left <= 0:
		return fmt.Sprintf("The %s expired on %s, and clients refuse it. Put a new one in its place.", e.Role, day(e.At))
	case e.Warning:
		return fmt.Sprintf("The %s expires on %s, %s. Put a new one in its place.", e.Role, day(e.At), left(e.Left))
	}
	return ""
}

// sentence is an error's text without what ends a sentence.
func sentence(text string) string { return strings.TrimRight(text, ". ") }
