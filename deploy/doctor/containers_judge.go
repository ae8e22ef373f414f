package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// judge judges a registry by every table that its images can fall under.
func (r *registries) judge(ctx context.Context, name string) Finding {
	if r.wrong != nil {
		return *r.wrong
	}
	var found []Finding
	if _, ok := r.covering(name); !ok {
		found = append(found, Finding{State: Open, Trap: NotConfigured, origin: true, File: r.main,
			Sentence: fmt.Sprintf("No [[registry]] table covers %s, so it is asked itself.", name)})
	}
	for _, prefix := range slices.Sorted(maps.Keys(r.byPrefix)) {
		entry := r.byPrefix[prefix]
		if covers(prefix, name) || covers(name, prefix) {
			found = append(found, r.entry(ctx, entry, name))
		}
	}
	return worstOf(found)
}

// covers is true if a name is a prefix's, or below it.
func covers(prefix, name string) bool {
	if domain, ok := strings.CutPrefix(prefix, "*"); ok {
		host, _, _ := strings.Cut(name, "/")
		return strings.HasSuffix(host, domain)
	}
	return name == prefix || strings.HasPrefix(name, prefix+"/") || strings.HasPrefix(name, prefix+":")
}

// covering is the table with the longest prefix that covers a name.
func (r *registries) covering(name string) (found registry, ok bool) {
	for prefix, entry := range r.byPrefix {
		if covers(prefix, name) && (!ok || len(prefix) > len(found.prefix)) {
			found, ok = entry, true
		}
	}
	return found, ok
}

// entry judges one table: each place that it names is asked in turn.
func (r *registries) entry(ctx context.Context, entry registry, name string) Finding {
	location := entry.location
	if location == "" {
		location = name // a wildcard leaves names as they are
	}
	primary := place{location: location, insecure: entry.insecure, line: entry.line}
	var found []Finding
	for _, m := range entry.mirrors {
		found = append(found, r.place(ctx, entry, m, name))
	}
	found = append(found, r.place(ctx, entry, primary, name))
	found = slices.DeleteFunc(found, func(f Finding) bool { return f.Sentence == "" })
	if len(found) == 0 {
		return Finding{State: Closed, File: entry.file, Line: entry.line, Sentence: fmt.Sprintf("%s is blocked, and nothing else is asked: it can't be pulled from.", entry.prefix)}
	}
	return worstOf(found)
}

// place judges one place. Whether it is blocked is decided by its own name, which
// need not be that of the table. There is no sentence if it is.
func (r *registries) place(ctx context.Context, entry registry, p place, name string) Finding {
	f := Finding{File: entry.file, Line: p.line}
	if by, ok := r.covering(p.location); ok && by.blocked {
		return f
	}
	host, rest, _ := strings.Cut(p.location, "/")
	e := endpoint{scheme: "https", host: strings.ToLower(host), path: "/v2"}
	if !strings.HasPrefix(entry.prefix, "*.") {
		e.below = strings.TrimPrefix(strings.TrimPrefix(entry.prefix, name), "/")
	}
	if rest != "" {
		e.path += "/" + rest
	}
	if e.isOrigin(name) {
		return r.origin(f, entry, name)
	}
	if (entry.digestOnly || p.digestOnly) && p.location != entry.location {
		f.State, f.Trap = Unknown, DigestOnly
		f.Sentence = fmt.Sprintf("%s isn't asked for tags, only for digests, so no tag can be pulled.", p.location)
		return f
	}
	t, wrong := r.trustOf(e.host)
	if wrong != nil {
		return *wrong
	}
	t.skipVerify = p.insecure
	v := r.ask(ctx, e, name, byPath, t)
	if p.insecure {
		f.Warning = "insecure is set: whoever is on the way can answer in the mirror's place."
		if v.trap == Unreachable {
			e.scheme = "http"
			v = r.ask(ctx, e, name, byPath, t)
		}
	}
	f.State, f.Trap, f.Sentence = v.state, v.trap, v.only()
	return f
}

// origin says why the registry itself is asked.
func (r *registries) origin(f Finding, entry registry, name string) Finding {
	f.State, f.origin = Open, true
	switch {
	case entry.blocked:
		f.Trap = BlockedElsewhere
		f.Sentence = fmt.Sprintf("blocked counts for names that begin with %q, which the location %q doesn't, so %s itself is asked.", entry.prefix, entry.location, name)
	case slices.ContainsFunc(entry.mirrors, func(m place) bool { return m.digestOnly }) || entry.digestOnly && len(entry.mirrors) > 0:
		f.Trap = DigestOnly
		f.Sentence = fmt.Sprintf("The mirror is asked for digests only, so for every tag %s itself is asked.", name)
	case len(entry.mirrors) > 0:
		f.Trap = NotBlocked
		f.Sentence = fmt.Sprintf("%s isn't blocked, so it is asked itself after every refusal.", name)
	default:
		f.Trap = OriginHost
		f.Sentence = fmt.Sprintf("The table has no mirror and isn't blocked, so %s itself is asked.", name)
	}
	return f
}

// trustOf reads the certificates that are trusted for a host.
func (r *registries) trustOf(host string) (trust, *Finding) {
	var t trust
	for _, folder := range []string{"etc/containers/certs.d", "etc/docker/certs.d"} {
		folder = path.Join(folder, host)
		entries, err := fs.ReadDir(r.Node, folder)
		if isNotExist(err) {
			continue
		}
		if err != nil {
			f := unreadable(folder, err)
			return t, &f
		}
		for _, entry := range entries {
			file := path.Join(folder, entry.Name())
			text, err := r.read(file)
			if err != nil {
				continue // what isn't trusted shows when the mirror is asked
			}
			switch path.Ext(file) {
			case ".crt":
				if !x509.NewCertPool().AppendCertsFromPEM(text) {
					return t, &Finding{State: Unknown, Trap: CAMissing, File: file,
						Sentence: "The file holds no certificate, so nothing can be pulled."}
				}
				t.cas = append(append(t.cas, text...), '\n')
			case ".cert":
				t.pair[0] = text
			case ".key":
				t.pair[1] = text
			}
		}
		break
	}
	return t, nil
}
