package status

import (
	"errors"
	"html"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// evils are what others could choose as a name, a tag or a user agent.
func evils() []string {
	return []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</title></svg><script>alert(1)</script>`,
		`javascript:alert(1)`, `{{.}}{{template "main"}}`, `--><!--`, `]]>`, "`${alert(1)}`", `&lt;script&gt;`,
		"safe\u202egnp.exe", "\u2066\u2069\u200f\u200b\ufeff", "a\x00b\x1b[31mc\r\nd\x7f\u0085\u2028", "\xff\xfe\xc0\xaf", "../../etc/passwd", "?q=1#x", "%3Cscript%3E",
		strings.Repeat("long", 25_000),
	}
}

// hostile is a sample in which everything that others choose is evil.
func hostile(evil string) *sample {
	s := newSample()
	s.images[0].Copies = []string{evil}
	t := &s.images[0].Trust
	t.From, t.GUN, t.RefreshError = evil, evil, evil
	t.Keys[0].Role, t.Keys[0].ID = evil, evil
	t.Expires[0].Role, t.Expires[0].Warning = evil, true
	s.images[0].Tags[0] = Tag{Tag: evil, Digest: digest.Digest(evil), Signers: []string{evil}}
	s.images = append(s.images, Image{Name: evil, Error: evil, Tags: s.images[0].Tags[:1], Trust: Trust{Source: evil}})
	s.refusals = []Refusal{{At: s.now, Name: evil, Reference: evil, Image: evil, Client: evil, UserAgent: evil, Reason: verify.Reason(evil), Sentence: evil, TraceID: evil}}
	s.refusals = append(s.refusals, s.refusals[0])
	s.refusals[1].Image, s.refusals[1].Reference = hubName, "0.1.19"
	s.pulls = []Pull{{Began: s.now, Object: evil, Kind: evil, Client: evil, UserAgent: evil, TraceID: evil, Sent: -1, Size: 1}}
	s.chain.Tag, s.chain.Digest, s.chain.Signers = evil, digest.Digest(evil), []string{evil}
	s.chain.Sides[1].Name = evil
	for _, side := range s.chain.Sides {
		side.Root.Each(func(l *verify.Link) {
			l.Digest, l.Platform, l.DiffID, l.Reason, l.Detail, l.State = digest.Digest(evil), evil, digest.Digest(evil), verify.Reason(evil), evil, verify.StateRefused
		})
	}
	return s
}

// elements are the elements, with their attributes' names, that the templates
// have: a page of evil has no others.
func elements(page string) map[string]bool {
	found := map[string]bool{}
	for _, tag := range regexp.MustCompile(`<[a-zA-Z/!][^<>]*>`).FindAllString(page, -1) {
		name := regexp.MustCompile(`^</?[a-zA-Z!]+`).FindString(tag)
		found[name] = true
		for _, attribute := range regexp.MustCompile(`\s([a-zA-Z:-]+)(=|\s|>|/)`).FindAllStringSubmatch(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(tag, `""`), -1) {
			found[name+" "+attribute[1]] = true
		}
	}
	return found
}

func TestHostileTextIsEscaped(t *testing.T) {
	link := regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
	paths := append([]string{"/refusals?reason=unsigned_tag", "/images/" + hubName + "?tag=0"}, pagePaths...)
	known := map[string]bool{}
	harmless := hostile("harmless")
	for _, err := range []error{nil, errors.New("no chain")} {
		harmless.chainErr = err
		for _, path := range paths {
			for e := range elements(harmless.get(t, path).Body.String()) {
				known[e] = true
			}
		}
	}
	for _, evil := range evils() {
		s := hostile(evil)
		for _, path := range paths {
			rec := s.get(t, path)
			page := rec.Body.String()
			if rec.Code != 200 {
				t.Fatalf("%.40q, %s: %d %.300s", evil, path, rec.Code, page)
			}
			for e := range elements(page) {
				if !known[e] {
					t.Errorf("%.40q, %s: the page has %q", evil, path, e)
				}
			}
			for _, r := range page {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028') {
					t.Errorf("%.40q, %s: the page has %U", evil, path, r)
					break
				}
			}
			for _, found := range link.FindAllStringSubmatch(page, -1) {
				if to := html.UnescapeString(found[1]); !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "#") && !strings.HasPrefix(to, "?") || strings.HasPrefix(to, "//") {
					t.Errorf("%.40q, %s: a link leads to %.80q", evil, path, to)
				}
			}
			if len(page) > 200<<10 {
				t.Errorf("%.40q, %s: the page has %d bytes", evil, path, len(page))
			}
		}
	}
}

// What a reader types into the address is escaped too.
func TestHostileQueriesAreEscaped(t *testing.T) {
	s := newSample()
	for _, path := range []string{
		"/refusals?reason=%3Cscript%3E&image=%22%3E%3Cscript%3E", "/images/" + hubName + "?tag=%22%3E%3Cscript%3E", "/images/%3Cscript%3E",
		"/images/" + hubName + "/tags/%3Cscript%3Ealert(1)%3C/script%3E", "/refusals?page=%3Cscript%3E", "/refusals?image=%E2%80%AE",
	} {
		if page := s.get(t, path).Body.String(); strings.Contains(page, "<script") || strings.Contains(page, "\u202e") {
			t.Errorf("%s: %s", path, page)
		}
	}
}

// Names keep their parts when they become addresses.
func TestPathsLeadBack(t *testing.T) {
	for _, name := range []string{"127.0.0.1:5000/a/b", hubName, "docker.io/a/tags/b"} {
		s := newSample()
		s.images[0].Name = name
		if rec := s.get(t, imagePath(name)); rec.Code != 200 || !strings.Contains(rec.Body.String(), "<h1 class=\"name\"><bdi>"+name) {
			t.Errorf("%s: %d", name, rec.Code)
		}
		if rec := s.get(t, tagPath(name, "v1.0")); rec.Code != 200 || !strings.Contains(rec.Body.String(), "Chain of trust of <bdi>v1.0") {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
}
