package activity

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

const (
	maxSentence = 1 << 10 // bytes
	maxText     = 300     // bytes of what a client or a publisher chose
	maxSigners  = 16

	// chainTimeout bounds how long the chain of trust of one line is read.
	chainTimeout = 5 * time.Second
)

// line is a line of the decision log.
type line struct {
	Time    time.Time     `json:"time"`
	Verdict string        `json:"verdict"`         // "admitted", "refused", or "dropped" where lines were lost
	Image   string        `json:"image,omitempty"` // the signed repository
	Ref     string        `json:"ref,omitempty"`   // what was asked for, or admitted
	Kind    string        `json:"kind,omitempty"`  // admitted: index, manifest, config, layer; refused: manifest, blob, tags
	Digest  digest.Digest `json:"digest,omitempty"`

	// Of an admission.
	Tag     string        `json:"tag,omitempty"`
	Signed  digest.Digest `json:"signed,omitempty"`  // the digest that is signed for Tag
	Signers []string      `json:"signers,omitempty"` // who signs it
	Chain   []link        `json:"chain,omitempty"`   // from the object upwards

	// Of a refusal.
	Reason    verify.Reason `json:"reason,omitempty"`
	Sentence  string        `json:"sentence,omitempty"`
	Name      string        `json:"name,omitempty"`      // as the request has it, where it named no configured registry
	Reference string        `json:"reference,omitempty"` // likewise
	Repeated  uint64        `json:"repeated,omitempty"`  // how often the line above with the same ref, reason and client came again

	Client    string `json:"client,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
	TraceID   string `json:"trace_id,omitempty"`

	Dropped uint64 `json:"dropped,omitempty"` // lines that were lost since the last one that was written
}

// link is an edge of a chain of trust.
type link struct {
	Kind   storage.Kind  `json:"kind"`
	Digest digest.Digest `json:"digest"`
	Proof  storage.Proof `json:"proof"`
	DiffID digest.Digest `json:"diff_id,omitempty"`
}

// event is what is to be written: one of the two.
type event struct {
	refused  *entry
	admitted verify.Decision
	asked    proxy.Asked // with admitted
}

// line makes the line of an event.
func (e event) line() line {
	if e.refused != nil {
		return refusedLine(e.refused.Refusal)
	}
	a := e.admitted.Admission
	ctx, cancel := context.WithTimeout(context.Background(), chainTimeout)
	defer cancel()
	edges, signers := e.admitted.Chain(ctx)
	l := line{
		Time: e.admitted.At.UTC(), Verdict: "admitted", Image: e.admitted.Image, Ref: e.admitted.Ref.String(),
		Kind: string(a.Kind), Digest: a.Digest, Tag: cut(a.Tag, maxText), Signed: a.Signed,
		Client: e.asked.Client, UserAgent: e.asked.UserAgent, TraceID: e.asked.TraceID,
	}
	for _, signer := range signers[:min(len(signers), maxSigners)] {
		l.Signers = append(l.Signers, cut(signer, maxText))
	}
	for _, edge := range edges {
		l.Chain = append(l.Chain, link{Kind: edge.Kind, Digest: edge.Digest, Proof: edge.Proof, DiffID: edge.DiffID})
	}
	return l
}

func refusedLine(r Refusal) line {
	l := line{
		Time: r.At.UTC(), Verdict: "refused", Image: r.Image, Kind: r.Kind, Reason: r.Reason, Sentence: r.Sentence,
		Client: r.Client, UserAgent: r.UserAgent, TraceID: r.TraceID, Repeated: r.Repeated,
	}
	if r.Ref.Registry == "" {
		l.Name, l.Reference = r.Name, r.Reference
	} else {
		l.Ref, l.Digest = r.Ref.String(), r.Ref.Digest
	}
	return l
}

// encode writes a line with its end. JSON escapes whatever else could end it.
func (l line) encode() []byte {
	raw, err := json.Marshal(l)
	if err != nil { // cannot be: it is made of strings and numbers
		return nil
	}
	return append(raw, '\n')
}

// log writes a decision to the mirror's own log.
func (e event) log(ctx context.Context, log *slog.Logger) {
	asker := func(client, userAgent, traceID string) slog.Attr {
		attrs := []any{slog.String("client", client), slog.String("user_agent", userAgent)}
		if traceID != "" {
			attrs = append(attrs, slog.String("trace_id", traceID))
		}
		return slog.Group("", attrs...) // without a name: they stand for themselves
	}
	if e.refused != nil {
		r := e.refused.Refusal
		ref := r.Ref.String()
		if r.Ref.Registry == "" {
			ref = r.Name + " " + r.Reference
		}
		log.WarnContext(ctx, "decision", "verdict", "refused", "ref", ref, "reason", r.Reason, "detail", r.Sentence,
			"image", r.Image, asker(r.Client, r.UserAgent, r.TraceID))
		return
	}
	a := e.admitted.Admission
	log.InfoContext(ctx, "decision", "verdict", "admitted", "ref", e.admitted.Ref.String(), "kind", a.Kind, "digest", a.Digest,
		"proof", a.Proof, "tag", a.Tag, "signed", a.Signed, "parent", a.Parent,
		"image", e.admitted.Image, asker(e.asked.Client, e.asked.UserAgent, e.asked.TraceID))
}

// refusalOf keeps of a refusal what is shown, in memory of its own.
func refusalOf(d verify.Decision, asked proxy.Asked) Refusal {
	ref := d.Ref
	return Refusal{
		At: d.At,
		Ref: verify.Ref{
			Registry: strings.Clone(ref.Registry), Repository: strings.Clone(ref.Repository),
			Tag: strings.Clone(ref.Tag), Digest: digest.Digest(strings.Clone(ref.Digest.String())),
		},
		Kind: asked.Kind, Name: cut(asked.Name, maxText), Reference: cut(asked.Reference, maxText),
		Image: d.Image, Client: cut(asked.Client, maxText), UserAgent: cut(asked.UserAgent, maxText),
		Reason: d.Refusal.Reason, Sentence: cut(d.Refusal.Detail, maxSentence), TraceID: asked.TraceID,
	}
}

// cut bounds a string and makes it printable, and keeps nothing of a longer one in
// memory that it may be a part of: of a request's whole line, say.
func cut(s string, limit int) string {
	if s = verify.Printable(s); len(s) <= limit {
		return strings.Clone(s)
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
