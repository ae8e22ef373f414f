package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

const tagPage = "/images/docker.io/nicolas/webdis/tags/0.1.19"

// pagePaths are all pages, and apiPaths all documents of the API.
var (
	pagePaths = []string{"/", "/images/" + hubName, tagPage, "/refusals", "/pulls", "/cache"}
	apiPaths  = []string{
		"/api/v1/status", "/api/v1/images", "/api/v1/images/" + hubName, "/api/v1" + tagPage,
		"/api/v1/refusals", "/api/v1/pulls", "/api/v1/cache",
	}
)

// has checks that a page says all of something.
func has(t *testing.T, rec *httptest.ResponseRecorder, wanted ...string) {
	t.Helper()
	page := html.UnescapeString(rec.Body.String())
	for _, w := range wanted {
		if !strings.Contains(page, w) {
			_, main, _ := strings.Cut(page, "<main")
			t.Errorf("the page doesn't say %q:\n%.3000s", w, main)
		}
	}
}

func hasNot(t *testing.T, rec *httptest.ResponseRecorder, unwanted ...string) {
	t.Helper()
	for _, w := range unwanted {
		if strings.Contains(rec.Body.String(), w) {
			t.Errorf("the page says %q", w)
		}
	}
}

func TestPagesAreGuarded(t *testing.T) {
	s := newSample()
	for _, path := range append(append([]string{"/static/style.css", "/static/icon.svg", "/nothing", "/api/v1/nothing"}, pagePaths...), apiPaths...) {
		rec := s.get(t, path)
		if want := map[bool]int{false: 200, true: 404}[strings.Contains(path, "nothing")]; rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
		h := rec.Header()
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Set-Cookie": "",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if want := map[bool]string{true: "application/json", false: "text/html; charset=utf-8"}[strings.HasPrefix(path, "/api")]; !strings.HasPrefix(path, "/static") && h.Get("Content-Type") != want {
			t.Errorf("%s: %s", path, h.Get("Content-Type"))
		}
		if strings.HasPrefix(path, "/api") && !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%s: %s", path, rec.Body)
		}
	}
}

// What the policy forbids isn't there, so nothing is missing where it holds.
func TestPagesNeedNothingElse(t *testing.T) {
	s := newSample()
	forbidden := regexp.MustCompile(`(?i)<script|<style|\sstyle=|\son[a-z]+=|(src|href)="(https?:)?//|@import|url\(`)
	for _, path := range append([]string{"/static/style.css"}, pagePaths...) {
		if found := forbidden.FindString(s.get(t, path).Body.String()); found != "" {
			t.Errorf("%s has %q", path, found)
		}
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	s := newSample()
	for _, path := range append(pagePaths, apiPaths...) {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
			rec := httptest.NewRecorder()
			s.handler(t).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, path, nil))
			if rec.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, rec.Code)
			}
		}
	}
}

func TestFront(t *testing.T) {
	day := int64(24 * 60 * 60)
	tests := map[string]struct {
		change func(*sample)
		level  string
		says   []string
	}{
		"well": {func(*sample) {}, levelOK, []string{
			"Protected: only what its publisher signed is served.", "1 image, 12 signed tags.", "1 request refused",
			"https://notary.docker.io", "Refreshed", "3 minutes ago", "13 days left", "Pinned keys", ecrName, "0.1.22", "All 12 signed tags",
		}},
		"nothing refused":  {func(s *sample) { s.refusals = nil }, levelOK, []string{"Nothing refused in the last 24 hours."}},
		"refused long ago": {func(s *sample) { s.refusals[0].At = s.now.Add(-25 * time.Hour) }, levelOK, []string{"Nothing refused in the last 24 hours."}},
		"trust expires": {func(s *sample) {
			s.images[0].Trust.Expires[0] = Expiry{Role: "targets", At: s.now.Add(72 * time.Hour), Left: 3 * day, Warning: true}
		}, levelAttention, []string{"something needs attention", "The targets of docker.io/nicolas/webdis expires on 2026-06-04, 3 days left"}},
		"trust has expired": {func(s *sample) {
			s.images[0].Trust.Expires[0] = Expiry{Role: "targets", At: s.now.Add(-72 * time.Hour), Left: -3 * day, Warning: true}
			s.images[0].Error = "the targets expired"
		}, levelProblem, []string{"Nothing can be pulled. Nothing unverified is served either.", "expired 3 days ago", "the targets expired"}},
		"one of two can't be pulled": {func(s *sample) {
			s.images = append(s.images, Image{Name: "docker.io/a/b", Error: "no service"})
		}, levelProblem, []string{"Protected, but some images can't be pulled."}},
		"refreshing fails": {func(s *sample) { s.images[0].Trust.RefreshError = "no route to host" }, levelAttention, []string{
			"Refreshing fails.", "no route to host", "What was verified holds until it expires.",
		}},
		"no images": {func(s *sample) { s.images = nil }, levelAttention, []string{"Nothing is served yet", "No image is known yet."}},
		"an archive": {func(s *sample) {
			s.images[0].Trust = Trust{Source: "archive", From: "webdis.tar", GUN: hubName, AsOf: &s.now}
		}, levelOK, []string{"in the archive", "webdis.tar", "as of 2026-06-01", "Nothing expires."}},
		"digests": {func(s *sample) { s.images[0].Trust = Trust{Source: "digests"} }, levelOK, []string{"Digests pinned by hand in the configuration"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSample()
			test.change(s)
			rec := s.get(t, "/")
			has(t, rec, append(test.says, `class="verdict `+test.level+`"`)...)
			var o Overview
			if err := json.Unmarshal(s.get(t, "/api/v1/status").Body.Bytes(), &o); err != nil || o.Level != test.level {
				t.Errorf("the API says %q, %v", o.Level, err)
			}
		})
	}
}

func TestCertificatesAreWarnedOf(t *testing.T) {
	c := newSample().config()
	c.Certificates = func() []Expiry { return []Expiry{{Role: "certificate server.crt", Left: 60, Warning: true}} }
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	has(t, rec, "The certificate server.crt expires on", `class="verdict attention"`)
}

func TestImagePage(t *testing.T) {
	s := newSample()
	s.images[0].Tags = nil
	for i := range 450 {
		tag := fmt.Sprintf("1.%d", i)
		s.images[0].Tags = append(s.images[0].Tags, Tag{Tag: tag, Digest: digest.FromString(tag), Signers: []string{"alice"}})
	}
	path := "/images/" + hubName
	rec := s.get(t, path)
	has(t, rec, "450 signed tags", "Page 1 of 5", tagPath(hubName, "1.99"), s.images[0].Trust.Keys[0].ID)
	hasNot(t, rec, tagPath(hubName, "1.100"))
	has(t, s.get(t, path+"?page=5"), "Page 5 of 5", tagPath(hubName, "1.449"))
	has(t, s.get(t, path+"?page=999"), "Page 5 of 5")
	rec = s.get(t, path+"?tag=1.44")
	has(t, rec, "11 signed tags", tagPath(hubName, "1.449"))
	hasNot(t, rec, tagPath(hubName, "1.1")+`"`)
}

func TestWhatIsNotThere(t *testing.T) {
	s := newSample()
	for _, path := range []string{"/images/docker.io/evil/webdis", "/images/docker.io/evil/webdis/tags/1", "/images/" + hubName + "/tags/", "/images/", "/v2/", "/api/v1/images/docker.io/evil/webdis"} {
		if rec := s.get(t, path); rec.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	for err, status := range map[error]int{
		verify.Refuse(verify.UnsignedTag, "no such tag"): 404, verify.Refuse(verify.MetadataExpired, "expired"): 503, errors.New("disk"): 503,
	} {
		s.chainErr = err
		for _, path := range []string{tagPage, "/api/v1" + tagPage} {
			rec := s.get(t, path)
			if rec.Code != status {
				t.Errorf("%s, %v: %d, want %d", path, err, rec.Code, status)
			}
			has(t, rec, detailOf(err))
		}
		has(t, s.get(t, "/"), "could not be told in time")
	}
}

func TestRefusalsAreChosenAndPaged(t *testing.T) {
	s := newSample()
	s.refusals = nil
	for i := range 130 {
		r := Refusal{At: s.now.Add(-time.Duration(i) * time.Second), Name: "nicolas/webdis", Reference: fmt.Sprintf("tag-%d", i), Image: hubName, Reason: verify.UnsignedTag, Sentence: "no"}
		if i%2 == 1 {
			r.Reason, r.Image = verify.ConfigMismatch, "docker.io/other/image"
		}
		s.refusals = append(s.refusals, r)
	}
	rec := s.get(t, "/refusals")
	has(t, rec, "Page 1 of 3, 130 refusals", "tag-0<", "tag-49<", "10", advice(verify.UnsignedTag), advice(verify.ConfigMismatch), `href="/refusals?page=2"`)
	hasNot(t, rec, "tag-50<", "Newer")
	rec = s.get(t, "/refusals?page=3")
	has(t, rec, "tag-129<", `href="/refusals?page=2"`)
	hasNot(t, rec, "Older")
	rec = s.get(t, "/refusals?reason=config_mismatch&image=docker.io/other/image&page=2")
	has(t, rec, "Page 2 of 2, 65 refusals", "tag-129<", `<option value="config_mismatch" selected>`, `<option value="docker.io/other/image" selected>`, "reason=config_mismatch")
	hasNot(t, rec, "tag-128<")
	has(t, s.get(t, "/refusals?reason=rollback"), "Nothing was refused that fits.")
	has(t, s.get(t, "/refusals?page=-1"), "Page 1 of 3")
	var doc refusalsDocument
	if err := json.Unmarshal(s.get(t, "/api/v1/refusals?reason=unsigned_tag&page=2").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Total != 65 || doc.Page != 2 || doc.Pages != 2 || len(doc.Refusals) != 15 || doc.Refusals[0].Advice == "" {
		t.Errorf("%+v", doc)
	}
}

// Every reason that there is has its advice.
func TestEveryReasonHasAdvice(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../verify/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	reasons := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != "Reason" {
			return true
		}
		for i, name := range spec.Names {
			reasons++
			code := strings.Trim(spec.Values[i].(*ast.BasicLit).Value, `"`)
			if len(advice(verify.Reason(code))) < 40 {
				t.Errorf("there is no advice for verify.%s (%s)", name.Name, code)
			}
		}
		return true
	})
	if reasons < 25 {
		t.Errorf("only %d reasons were found", reasons)
	}
	if advice("nonsense") != "" {
		t.Error("there is advice for a reason that doesn't exist")
	}
}

func TestPullsAndCache(t *testing.T) {
	s := newSample()
	has(t, s.get(t, "/pulls"), `value="25"`, "3.0 MiB of 12.0 MiB, 25 %", "being fetched and verified", "docker/28.0")
	s.pulls = nil
	has(t, s.get(t, "/pulls"), "Nobody is pulling right now.")
	has(t, s.get(t, "/cache"), "5.0 GiB of at most 8.0 GiB", "last evicted", "1,234", hubName, "3.0 MiB", "17")
	s.usageErr = errors.New("the disk is gone")
	has(t, s.get(t, "/cache"), "the disk is gone", advice(verify.StorageUnavailable))
	if rec := s.get(t, "/api/v1/cache"); rec.Code != http.StatusServiceUnavailable {
		t.Errorf("/api/v1/cache: %d", rec.Code)
	}
}

func TestTagPage(t *testing.T) {
	s := newSample()
	rec := s.get(t, tagPage)
	has(t, rec, "signed by Repo Admin", "not signed itself", "same config", "listed digest", "diff ID", "all entries proven", ">signature<", "<desc", `role="img"`,
		"linux/p0", "linux/p1", s.chain.Digest.String())

	copied := s.chain.Sides[1].Root
	at := s.now
	*copied.Children[1].Children[2] = verify.Link{Kind: storage.KindLayer, Digest: digest.FromString("bad"), State: verify.StateRefused, Reason: verify.LayerMismatch, Detail: "it isn't what its config says", At: &at}
	copied.Children[0].State = verify.StateWaiting
	s.refusals[0].Reference = "0.1.19"
	rec = s.get(t, tagPage)
	has(t, rec, `class="object refused"`, `class="edge refused"`, `class="object waiting"`, "layer_mismatch", "it isn't what its config says", "Refused lately", "not pulled yet")

	s.chain = &verify.Chain{Image: hubName, Tag: "0.1.19", Digest: "sha256:00", Sides: []verify.Side{
		{Name: hubName, Signed: true, Root: &verify.Link{Digest: "sha256:00", State: verify.StateWaiting, Proof: storage.ProofSigned}},
		{Name: ecrName, Root: &verify.Link{State: verify.StateRefused, Reason: verify.ConfigMismatch, Detail: "another image", At: &at}},
	}}
	has(t, s.get(t, tagPage), "config_mismatch", "another image", "not pulled yet")
	s.chain.Sides = s.chain.Sides[:1]
	has(t, s.get(t, tagPage), "not pulled yet")
}

// A drawing stays within its bounds however large the image is.
func TestDrawingIsBounded(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {2, 40}, {100, 127}} {
		c := sampleChain(size[0], size[1])
		d := draw(c, &c.Sides[1])
		for _, b := range d.Boxes {
			if b.X < 0 || b.Y < 0 || b.X+b.W > d.Width || b.Y+b.H > d.Height {
				t.Errorf("%v: a box lies outside: %+v of %dx%d", size, b, d.Width, d.Height)
			}
		}
		if d.Height > 12_000 || len(d.Boxes) > 1000 {
			t.Errorf("%v: %d boxes, %d high", size, len(d.Boxes), d.Height)
		}
		if d.Omitted != max(0, size[0]-maxBands) {
			t.Errorf("%v: %d omitted", size, d.Omitted)
		}
	}
}

// A refused layer among many is drawn by itself.
func TestRefusedLayerIsDrawnAmongMany(t *testing.T) {
	c := sampleChain(1, 40)
	bad := c.Sides[1].Root.Children[0].Children[17]
	bad.State, bad.Reason = verify.StateRefused, verify.LayerMismatch
	d := draw(c, &c.Sides[1])
	refused := 0
	for _, b := range d.Boxes {
		if b.State == verify.StateRefused && b.Title == "layer 17" {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("layer 17 is drawn as refused %d times", refused)
	}
}
