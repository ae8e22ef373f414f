package status

import (
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// visible replaces what would be invisible or would turn the order of other text
// (control characters, marks of direction) by its code, in a whole page, so that
// nobody's choice of a name can disguise what a page says.
func visible(page []byte) []byte {
	clean := make([]byte, 0, len(page))
	for len(page) > 0 {
		r, size := utf8.DecodeRune(page)
		switch {
		case r == utf8.RuneError && size == 1:
			clean = append(clean, "[?]"...)
		case r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'):
			clean = fmt.Appendf(clean, "[U+%04X]", r)
		default:
			clean = append(clean, page[:size]...)
		}
		page = page[size:]
	}
	return clean
}

// maxText is how many characters are shown of what others chose.
const maxText = 300

// cut shortens a text that is extremely long.
func cut(text any) string { return cutTo(maxText, text) }

func cutTo(n int, text any) string {
	s := fmt.Sprint(text)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// short is a digest as Docker abbreviates it.
func short(d digest.Digest) string {
	_, hex, ok := strings.Cut(string(d), ":")
	if !ok {
		hex = string(d)
	}
	return hex[:min(12, len(hex))]
}

// brief abbreviates the digests in a text.
func (s *server) brief(text string) string { return s.digests.ReplaceAllString(text, "$1…") }

// span tells a length of time in its largest unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{365 * day, "year"}, {30 * day, "month"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := d / unit.size; n >= 1 {
			return count(int(n), unit.name)
		}
	}
	return count(int(d/time.Second), "second")
}

// size tells a number of bytes.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		value /= 1 << 10
		if value < 1000 || unit == "TiB" {
			digits := 1
			if value >= 100 {
				digits = 0
			}
			return fmt.Sprintf("%.*f %s", digits, value, unit)
		}
	}
	return ""
}

// number groups a number's digits by thousands.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count tells how many there are: "1 tag", "2 tags".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return number(n) + " " + what + "s"
}

// stamp is a moment as people of any country read it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// ago tells how long ago something was.
func (s *server) ago(t time.Time) string {
	since := s.Clock().Sub(t)
	if since < time.Second {
		return "just now"
	}
	return span(since) + " ago"
}

// left tells how long something still lasts.
func left(seconds int64) string {
	const most = 200 * 365 * 24 * 60 * 60 // more doesn't fit into a Duration
	d := time.Duration(min(most, max(-most, seconds))) * time.Second
	if d <= 0 {
		return "expired " + span(-d) + " ago"
	}
	return span(d) + " left"
}

// lifetime is how long a role's metadata are signed for, as the bar that runs out
// shows it: what Docker's trust service and client do.
func lifetime(role string) time.Duration {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	switch role {
	case "timestamp":
		return 14 * day
	case "root", "root certificate":
		return 10 * year
	}
	return 3 * year
}

// percent is how full the bar of something that expires is: 0 to 100.
func percent(e Expiry) int {
	return int(min(100, max(0, 100*float64(e.Left)/lifetime(e.Role).Seconds())))
}

// share is which part of a whole has been sent, in percent.
func share(part, whole int64) int {
	if whole <= 0 {
		return 0
	}
	return int(min(100, max(0, 100*float64(part)/float64(whole))))
}

// imagePath and tagPath are where an image and a tag have their pages; names are
// others' choice, so each part is escaped, and what is too long leads nowhere.
func imagePath(name string) string {
	parts := strings.Split(cut(name), "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/images/" + strings.Join(parts, "/")
}

func tagPath(name, tag string) string { return imagePath(name) + "/tags/" + url.PathEscape(cut(tag)) }

// refusalsPath is where refusals of an image, or for a reason, are listed.
func refusalsPath(f filter) string {
	q := url.Values{}
	if f.Reason != "" {
		q.Set("reason", cut(string(f.Reason)))
	}
	if f.Image != "" {
		q.Set("image", cut(f.Image))
	}
	if f.Page > 1 {
		q.Set("page", fmt.Sprint(f.Page))
	}
	if len(q) == 0 {
		return "/refusals"
	}
	return "/refusals?" + q.Encode()
}
