package browser

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

const tagPath = "/images/" + lab.HubName + "/tags/"

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a mirror and a browser. Whatever the browser objected to fails the
// test.
func start(t *testing.T) (*Site, *Browser) {
	t.Helper()
	b, err := Open(t.Context())
	if errors.Is(err, ErrNoChromium) && os.Getenv("CI") == "" {
		t.Skip("SKIPPED: the status page isn't looked at in a browser:", err)
	}
	check(t, err)
	t.Cleanup(b.Close)
	l, err := lab.New()
	check(t, err)
	t.Cleanup(func() { check(t, l.Remove()) })
	s, err := NewSite(t.Context(), l, os.Stdout)
	check(t, err)
	t.Cleanup(func() {
		if said := b.Complaints(); said != "" {
			t.Errorf("the browser objected:\n%s", said)
		}
		if t.Failed() {
			t.Logf("trustmirror's log ends with:\n%s", s.Mirror.Process.LogTail())
		}
	})
	return s, b
}

// says checks what one element says.
func (b *Browser) says(t *testing.T, selector string, wanted ...string) {
	t.Helper()
	text, err := See(b, chromedp.TextContent(chromedp.CSS(selector)))
	check(t, err)
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%s says %q, and not %q", selector, text, w)
		}
	}
}

// count checks how many elements there are.
func (b *Browser) count(t *testing.T, selector string, want int) {
	t.Helper()
	got, err := See(b, chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", selector)))
	check(t, err)
	if got != want {
		t.Errorf("there are %d of %s, want %d", got, selector, want)
	}
}

// TestStatusPage walks through the page as an operator does.
func TestStatusPage(t *testing.T) {
	s, b := start(t)
	check(t, b.Do(Look(1280, 900, false), chromedp.Navigate(s.Mirror.AdminURL)))
	b.says(t, ".verdict h1", "Protected")
	b.says(t, ".verdict", "1 image, 4 signed tags", "Nothing refused in the last 24 hours")
	b.says(t, "article", lab.HubName, lab.ECRName, "timestamp", "root certificate", "Pinned keys", "signer "+lab.Signer, "Repo Admin", "Refreshed")
	b.count(t, "article tbody tr", 4)

	t.Run("the chain of trust of a tag", func(t *testing.T) {
		check(t, b.Do(chromedp.Click(chromedp.CSS(fmt.Sprintf(`a[href=%q]`, tagPath+Tag))), chromedp.WaitVisible(chromedp.CSS("svg.chain"))))
		b.says(t, "svg.chain", "signed by Repo Admin", "signature", "listed digest", "same config", "diff ID", "all entries proven", "linux/amd64", "linux/arm64/v8")
		// Two tags and indexes; for each platform two manifests, a config, two layers
		// on each side and their diff IDs.
		b.count(t, "svg.chain .object.verified", 4+2*(2+1+4+2))
		b.count(t, "svg.chain .object:not(.verified)", 0)
		b.count(t, ".tree li", 2*(1+2*4))
		outside, err := See(b, chromedp.Evaluate[bool](`(() => {
			const svg = document.querySelector("svg.chain").getBoundingClientRect();
			return [...document.querySelectorAll("svg.chain text, svg.chain rect")].some(e => {
				const r = e.getBoundingClientRect();
				return r.left < svg.left || r.right > svg.right || r.top < svg.top || r.bottom > svg.bottom;
			});
		})()`))
		check(t, err)
		if outside {
			t.Error("something of the drawing lies outside of it")
		}
	})

	t.Run("refusals that have just happened", func(t *testing.T) {
		for _, wrong := range s.Wrong {
			if s.Pull(t.Context(), wrong.Image) == nil {
				t.Fatalf("%s was served", wrong.Image)
			}
			check(t, b.Do(chromedp.Navigate(s.Mirror.AdminURL+"/refusals")))
			b.says(t, ".refusal", wrong.Reason, "What to do:", "127.0.0.1", "go-containerregistry", lab.HubName)
		}
		b.count(t, ".refusal", len(s.Wrong))
		last := s.Wrong[len(s.Wrong)-1]
		check(t, b.Do(
			chromedp.SetValue(chromedp.CSS("#reason"), last.Reason),
			chromedp.Click(chromedp.CSS("form.filter button")),
			chromedp.WaitVisible(chromedp.CSS(`form.filter a[href="/refusals"]`)),
		))
		b.count(t, ".refusal", 1)
		b.says(t, ".refusal", last.Reason)
	})

	t.Run("the chain of trust of what was refused", func(t *testing.T) {
		check(t, b.Do(chromedp.Navigate(s.Mirror.AdminURL+tagPath+"0.1.22")))
		b.says(t, "svg.chain", "layer_mismatch", "not proven")
		b.says(t, ".tree .bad", "refused, layer_mismatch")
		check(t, b.Do(chromedp.Navigate(s.Mirror.AdminURL+tagPath+"0.1.20")))
		b.says(t, "svg.chain", "digest_mismatch")
	})

	t.Run("every page on a phone and in the dark", func(t *testing.T) {
		for _, path := range []string{"/", "/images/" + lab.HubName, tagPath + Tag, tagPath + "0.1.22", "/refusals", "/pulls", "/cache", "/nothing"} {
			var colours [2]string
			for i, dark := range []bool{false, true} {
				check(t, b.Do(Look(360, 740, dark), chromedp.Navigate(s.Mirror.AdminURL+path)))
				wide, err := See(b, chromedp.Evaluate[bool]("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
				check(t, err)
				colours[i], err = See(b, chromedp.Evaluate[string]("getComputedStyle(document.body).backgroundColor"))
				check(t, err)
				if wide {
					t.Errorf("%s is wider than a phone", path)
				}
			}
			if colours[0] == colours[1] {
				t.Errorf("%s is as bright in the dark: %s", path, colours[0])
			}
		}
		if said := b.Complaints(); strings.Count(said, "\n") != 1 || strings.Count(said, "404") != 2 { // of /nothing, twice
			t.Errorf("the browser objected: %s", said)
		}
	})

	// The proof that a breach of the page's own policy would be noticed.
	t.Run("the policy is in force", func(t *testing.T) {
		_, err := See(b, chromedp.Evaluate[bool](`document.body.setAttribute("style", "color: red"), true`))
		check(t, err)
		if said := b.Complaints(); !strings.Contains(said, "Content Security Policy") {
			t.Errorf("an inline style passes without a word: %q", said)
		}
	})

	t.Run("nothing of it where clients pull", func(t *testing.T) {
		for _, path := range []string{"/", "/images/" + lab.HubName, tagPath + Tag, "/refusals", "/pulls", "/cache", "/api/v1/status", "/metrics", "/healthz", "/readyz", "/static/style.css"} {
			if status := statusOf(t, s.Mirror.AdminURL+path); status != http.StatusOK {
				t.Errorf("%s at the admin address: %d", path, status)
			}
			if status := statusOf(t, s.Mirror.URL+path); status != http.StatusNotFound {
				t.Errorf("%s at the clients' address: %d", path, status)
			}
		}
	})
}

func statusOf(t *testing.T, address string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, address, nil)
	check(t, err)
	response, err := http.DefaultClient.Do(r)
	check(t, err)
	check(t, response.Body.Close())
	return response.StatusCode
}
