package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const registriesConf = "etc/containers/registries.conf"

// containers judges podman, skopeo and buildah, or CRI-O, which all read
// registries.conf. A user's own file takes the place of the system's.
func (c *checker) containers(client string) func(context.Context, string) Finding {
	configs := []*registries{c.registries(registriesConf, registriesConf+".d")}
	if client == Podman {
		homes, _ := fs.Glob(c.Node, "home/*")
		for _, home := range append(homes, "root") {
			own := path.Join(home, ".config/containers/registries.conf")
			switch {
			case c.exists(own):
				configs = append(configs, c.registries(own, own+".d"))
			case c.exists(own + ".d"):
				configs = append(configs, c.registries(registriesConf, registriesConf+".d", own+".d"))
			}
		}
	}
	return func(ctx context.Context, registry string) Finding {
		var found []Finding
		for _, r := range configs {
			found = append(found, r.judge(ctx, registry))
		}
		return worstOf(found)
	}
}

// registry is a [[registry]] table.
type registry struct {
	prefix, location string
	blocked          bool
	digestOnly       bool
	insecure         bool
	mirrors          []place
	file             string
	line             int
}

// place is where an image may come from.
type place struct {
	location   string
	insecure   bool
	digestOnly bool
	line       int
}

// registries is what a file and its drop-ins come to: what is read later replaces
// what has the same prefix.
type registries struct {
	*checker
	main     string
	byPrefix map[string]registry
	wrong    *Finding
}

func (c *checker) registries(main string, folders ...string) *registries {
	r := &registries{checker: c, main: main, byPrefix: make(map[string]registry)}
	files := []string{main}
	for _, folder := range folders {
		entries, err := fs.ReadDir(c.Node, folder)
		if err != nil && !isNotExist(err) {
			f := unreadable(folder, err)
			r.wrong = &f
		}
		for _, entry := range entries {
			if !entry.IsDir() && strings.HasSuffix(entry.Name(), ".conf") {
				files = append(files, path.Join(folder, entry.Name()))
			}
		}
	}
	for _, file := range files {
		if r.wrong == nil {
			r.load(file)
		}
	}
	return r
}

func (r *registries) load(file string) {
	text, err := r.read(file)
	if isNotExist(err) {
		return
	}
	if err != nil {
		f := unreadable(file, err)
		r.wrong = &f
		return
	}
	d, line, err := parseTOML(text)
	if err != nil {
		r.fail(MalformedConfig, file, line, "This is not TOML (%s), so nothing can be pulled.", firstLine(err))
		return
	}
	if _, old := d.get("registries").(map[string]any); old {
		r.fail(UnknownField, file, d.line("registries"), "The file has the format of version 1, which has no mirrors; doctor doesn't judge it.")
		return
	}
	tables, _ := d.get("registry").([]any)
	inThisFile := make(map[string]bool)
	for i, t := range tables {
		table, ok := t.(map[string]any)
		if !ok {
			r.fail(MalformedConfig, file, d.line("registry"), "registry is not a list of tables, so nothing can be pulled.")
			return
		}
		entry, ok := readRegistry(table, &d, i, file)
		if !ok {
			r.fail(UnknownField, file, entry.line, "doctor doesn't understand all that this table says.")
			return
		}
		if !inThisFile[entry.prefix] { // of several in a file, the first counts
			r.byPrefix[entry.prefix] = entry
		}
		inThisFile[entry.prefix] = true
	}
}

func (r *registries) fail(trap Trap, file string, line int, format string, args ...any) {
	r.wrong = &Finding{State: Unknown, Trap: trap, File: file, Line: line, Sentence: fmt.Sprintf(format, args...)}
}

// readRegistry reads a table; false if there is something that isn't understood.
func readRegistry(table map[string]any, d *document, i int, file string) (registry, bool) {
	at := []string{"registry", fmt.Sprint(i)}
	r := registry{file: file, line: d.line(at...)}
	for name, value := range table {
		var ok bool
		switch name {
		case "prefix":
			r.prefix, ok = value.(string)
		case "location":
			r.location, ok = value.(string)
		case "blocked":
			r.blocked, ok = value.(bool)
		case "insecure":
			r.insecure, ok = value.(bool)
		case "mirror-by-digest-only":
			r.digestOnly, ok = value.(bool)
		case "mirror":
			r.mirrors, ok = readMirrors(value, d, at)
		}
		if !ok {
			return r, false
		}
	}
	r.location = strings.TrimRight(r.location, "/")
	r.prefix = strings.TrimRight(r.prefix, "/")
	if r.prefix == "" {
		r.prefix = r.location
	}
	return r, r.prefix != "" && (r.location != "" || strings.HasPrefix(r.prefix, "*."))
}

func readMirrors(value any, d *document, at []string) ([]place, bool) {
	var mirrors []place
	tables, ok := value.([]any)
	for i, t := range tables {
		table, isTable := t.(map[string]any)
		m := place{line: d.line(append(slices.Clone(at), "mirror", fmt.Sprint(i))...)}
		for name, value := range table {
			var understood bool
			switch name {
			case "location":
				m.location, understood = value.(string)
			case "insecure":
				m.insecure, understood = value.(bool)
			case "pull-from-mirror":
				understood = value == "all" || value == "digest-only"
				m.digestOnly = value == "digest-only"
			}
			ok = ok && understood
		}
		m.location = strings.TrimRight(m.location, "/")
		mirrors = append(mirrors, m)
		ok = ok && isTable && m.location != ""
	}
	return mirrors, ok
}
