package status

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// luminance is a colour's relative luminance (WCAG 2.2).
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// Text is readable on what it stands on, in the light and in the dark
// (WCAG 2.2, 1.4.3: a contrast of 4.5 to 1).
func TestContrast(t *testing.T) {
	raw, err := staticFiles.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	colour := regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`)
	schemes := strings.SplitN(string(raw), ":root {", 3)
	if len(schemes) != 3 {
		t.Fatal("the style has no colours for light and dark")
	}
	for i, name := range []string{"light", "dark"} {
		colours := map[string]string{}
		block, _, _ := strings.Cut(schemes[i+1], "}")
		for _, m := range colour.FindAllStringSubmatch(block, -1) {
			colours[m[1]] = m[2]
		}
		for text, grounds := range map[string][]string{
			"ink": {"page", "card", "good-soft", "warn-soft", "bad-soft"}, "soft": {"page", "card", "good-soft", "bad-soft"},
			"link": {"page", "card", "good-soft", "warn-soft", "bad-soft"}, "bad": {"page", "card", "bad-soft"}, "warn": {"page", "card"}, "good": {"page", "card"}, "wait": {"card"},
		} {
			for _, ground := range grounds {
				if colours[text] == "" || colours[ground] == "" {
					t.Fatalf("%s: there is no colour %s or %s", name, text, ground)
				}
				a, b := luminance(t, colours[text]), luminance(t, colours[ground])
				if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
					t.Errorf("%s: %s on %s has a contrast of %.2f", name, text, ground, ratio)
				}
			}
		}
	}
}
