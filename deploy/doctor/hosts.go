package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// hostsReader judges the folders with hosts.toml that containerd's resolver reads;
// k3s, RKE2 and Docker use the same code.
type hostsReader struct {
	*checker
	version version
	// generated is true for files that k3s and RKE2 write without a server line.
	generated bool
}

// judge judges what the first of the folders that knows the registry says.
func (h hostsReader) judge(ctx context.Context, roots []string, registry string) Finding {
	for _, root := range roots {
		for _, name := range []string{folderOf(registry), registry, "_default"} {
			folder := path.Join(root, name)
			if !h.exists(nodePath(folder)) {
				continue
			}
			return h.folder(ctx, folder, registry)
		}
	}
	return Finding{State: Open, Trap: NotConfigured, origin: true, File: path.Join(roots[0], registry, "hosts.toml"),
		Sentence: fmt.Sprintf("There is no folder for %s, so it is asked itself.", registry)}
}

// folderOf is the name that a registry's folder has if there is a port.
func folderOf(registry string) string {
	if host, port, ok := strings.Cut(registry, ":"); ok {
		return host + "_" + port + "_"
	}
	return registry
}

func (h hostsReader) folder(ctx context.Context, folder, registry string) Finding {
	file := path.Join(folder, "hosts.toml")
	text, err := h.read(file)
	switch {
	case isNotExist(err):
		return Finding{State: Open, Trap: NoHostsFile, origin: true, File: file,
			Sentence: fmt.Sprintf("The folder has no hosts.toml, so %s is asked itself, whatever _default says.", registry)}
	case err != nil:
		return unreadable(file, err)
	case len(text) == 0:
		return Finding{State: Open, Trap: EmptyHostsFile, origin: true, File: file,
			Sentence: fmt.Sprintf("The file is empty, so %s is asked itself.", registry)}
	}
	d, line, err := parseTOML(text)
	if err != nil {
		return Finding{State: Open, Trap: MalformedTOML, origin: true, File: file, Line: line,
			Sentence: fmt.Sprintf("This is not TOML (%s), so the file is ignored and %s is asked itself.", firstLine(err), registry)}
	}
	f := &hostsFile{hostsReader: h, document: d, file: file, folder: folder, registry: registry}
	f.all(ctx)
	return worstOf(f.found)
}

// worstOf is the first of the worst findings, with the first warning of any.
func worstOf(found []Finding) Finding {
	worst := slices.MinFunc(found, func(a, b Finding) int {
		switch {
		case a.State == b.State:
			return 0
		case a.State.worse(b.State) == a.State:
			return -1
		}
		return 1
	})
	for _, f := range found {
		if worst.Warning == "" {
			worst.Warning = f.Warning
		}
	}
	return worst
}

// hostsFile collects what is to be said about one hosts.toml.
type hostsFile struct {
	hostsReader
	document
	file, folder, registry string
	found                  []Finding
}

// ignored says that containerd can't use the file, which makes it ask the origin.
func (f *hostsFile) ignored(trap Trap, line int, format string, args ...any) {
	f.found = append(f.found, Finding{State: Open, Trap: trap, origin: true, File: f.file, Line: line,
		Sentence: fmt.Sprintf(format, args...) + fmt.Sprintf(", so the file is ignored and %s is asked itself.", f.registry)})
}

func (f *hostsFile) unclear(trap Trap, line int, format string, args ...any) {
	f.found = append(f.found, Finding{State: Unknown, Trap: trap, File: f.file, Line: line, Sentence: fmt.Sprintf(format, args...)})
}

func (f *hostsFile) all(ctx context.Context) {
	f.fields(nil, "server", "host")
	table, _ := f.get("host").(map[string]any)
	if table == nil && f.get("host") != nil {
		f.ignored(MalformedTOML, f.line("host"), "host is not a table")
	}
	if table == nil && !f.version.from(version{2, 0}) {
		f.ignored(NoHostTable, max(f.line("server"), 1), "There is no [host] table, which containerd before 2.0 needs")
	}
	for name := range table {
		f.fields([]string{"host", name})
		f.host(ctx, name, []string{"host", name})
	}
	slices.SortStableFunc(f.found, func(a, b Finding) int { return a.Line - b.Line })
	f.server(ctx)
}

// server judges the server line: what is asked last.
func (f *hostsFile) server(ctx context.Context) {
	server, isString := f.get("server").(string)
	switch {
	case f.get("server") != nil && !isString:
		f.ignored(MalformedTOML, f.line("server"), "server is not a string")
	case server == "" && f.generated && f.get("server") == nil && len(f.found) > 0:
		f.unclear(GeneratedServer, 0, "There is no server line. The containerd that k3s and RKE2 bring asks nobody else then, any other asks %s itself; which one runs can't be told.", f.registry)
	case server == "":
		f.found = append(f.found, Finding{State: Open, Trap: NoServer, origin: true, File: f.file, Line: f.line("server"),
			Sentence: fmt.Sprintf("There is no server line, so %s itself is asked after every refusal.", f.registry)})
	default:
		f.host(ctx, server, nil)
	}
}

// host judges one host: that of [host."NAME"], or the server, whose settings are at the top.
func (f *hostsFile) host(ctx context.Context, name string, at []string) {
	line := f.line(at...)
	if at == nil {
		line = f.line("server")
	}
	e, err := f.endpoint(name, at)
	if err != nil {
		f.ignored(MalformedTOML, line, "%q is no URL", name)
		return
	}
	if e.host == "" || e.isOrigin(f.registry) {
		f.found = append(f.found, Finding{State: Open, Trap: OriginHost, origin: true, File: f.file, Line: line,
			Sentence: fmt.Sprintf("%s itself is asked too: %q is its own address.", f.registry, name)})
		return
	}
	if e.scheme != "https" && e.scheme != "http" {
		f.unclear(UnknownField, line, "%q is neither http nor https.", name)
		return
	}
	t, ok := f.trust(at)
	if !ok {
		return
	}
	v := f.ask(ctx, e, f.registry, byQuery, t)
	found := Finding{State: v.state, Trap: v.trap, File: f.file, Line: line, Sentence: v.only()}
	switch {
	case e.scheme == "http":
		found.Warning = "It is asked over plain http: whoever is on the way can answer in its place."
	case t.skipVerify:
		found.Warning = "skip_verify is set: whoever is on the way can answer in the mirror's place."
	}
	f.found = append(f.found, found)
}

// endpoint makes of a host's name what containerd makes of it.
func (f *hostsFile) endpoint(name string, at []string) (endpoint, error) {
	if !strings.HasPrefix(name, "http") {
		name = "https://" + name
	}
	u, err := url.Parse(name)
	if err != nil {
		return endpoint{}, err
	}
	e := endpoint{scheme: u.Scheme, host: strings.ToLower(u.Host), path: "/v2"}
	override, _ := f.get(append(at, "override_path")...).(bool)
	if u.Path != "" {
		e.path = path.Clean(u.Path)
		if !strings.HasSuffix(e.path, "/v2") && !override {
			e.path += "/v2"
		}
	} else if override {
		e.path = ""
	}
	return e, nil
}

// trust reads which certificates are trusted, and the client's own; false if that
// is a finding.
func (f *hostsFile) trust(at []string) (t trust, ok bool) {
	t.skipVerify, _ = f.get(append(at, "skip_verify")...).(bool)
	for _, name := range f.listOf(append(at, "ca")) {
		text, err := f.read(f.absolute(name))
		if err != nil || !x509.NewCertPool().AppendCertsFromPEM(text) {
			return t, f.missing(append(at, "ca"), "%s is not there or holds no certificate", f.absolute(name))
		}
		t.cas = append(append(t.cas, text...), '\n')
	}
	names, ok := clientPair(f.get(append(at, "client")...))
	if !ok {
		f.unclear(UnknownField, f.line(append(at, "client")...), "client has more than one certificate, of which doctor can't choose one.")
		return t, false
	}
	for i, name := range names {
		text, err := f.read(f.absolute(name))
		if err != nil {
			return t, f.missing(append(at, "client"), "%s is not there", f.absolute(name))
		}
		t.pair[i] = text
	}
	return t, true
}

// missing says that a file is, and is always false.
func (f *hostsFile) missing(keys []string, format, name string) bool {
	f.found = append(f.found, Finding{State: Unknown, Trap: CAMissing, File: f.file, Line: f.line(keys...),
		Sentence: fmt.Sprintf(format, name) + ", so nothing can be pulled."})
	return false
}

// absolute is a path as hosts.toml means it.
func (f *hostsFile) absolute(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return path.Join(f.folder, name)
}

// clientPair reads a client setting: a file with both, or a certificate and a key.
func clientPair(v any) (names []string, ok bool) {
	switch v := v.(type) {
	case nil:
		return nil, true
	case string:
		return []string{v, v}, true
	case []any:
		if len(v) != 1 {
			return nil, false
		}
		if s, isString := v[0].(string); isString {
			return []string{s, s}, true
		}
		names, ok = stringsOf(v[0])
		return names, ok && len(names) == 2
	}
	return nil, false
}

// listOf reads a string or a list of strings.
func (f *hostsFile) listOf(keys []string) []string {
	v := f.get(keys...)
	if s, ok := v.(string); ok {
		return []string{s}
	}
	list, _ := stringsOf(v)
	return list
}

// fields checks the types of a host's settings; the file is ignored if one is wrong.
func (f *hostsFile) fields(at []string, also ...string) {
	var table any = f.values
	if at != nil {
		table = f.get(at...)
	}
	settings, ok := table.(map[string]any)
	if !ok {
		f.ignored(MalformedTOML, f.line(at...), "%s is not a table", strings.Join(at, "."))
		return
	}
	for name, value := range settings {
		if slices.Contains(also, name) {
			continue
		}
		line := f.line(append(slices.Clone(at), name)...)
		switch name {
		case "capabilities":
			f.capabilities(value, line)
		case "dial_timeout":
			f.dialTimeout(value, line)
		case "ca":
			_, isString := value.(string)
			if _, isList := stringsOf(value); !isString && !isList {
				f.ignored(MalformedTOML, line, "ca is neither a file nor a list of files")
			}
		case "client": // trust reads it
		case "header":
			if _, ok := value.(map[string]any); !ok {
				f.ignored(MalformedTOML, line, "header is not a table")
			}
		case "skip_verify", "override_path":
			if _, ok := value.(bool); !ok {
				f.ignored(MalformedTOML, line, "%s is neither true nor false", name)
			}
		default:
			f.unclear(UnknownField, line, "doctor doesn't know what %s does here.", name)
		}
	}
}

func (f *hostsFile) capabilities(value any, line int) {
	list, ok := stringsOf(value)
	if !ok {
		f.ignored(MalformedTOML, line, "capabilities is not a list of strings")
	}
	for _, capability := range list {
		switch strings.ToLower(capability) {
		case "pull", "resolve", "push":
		case "referrers":
			if !f.version.from(version{2, 2}) {
				f.ignored(UnknownCapability, line, "containerd before 2.2 doesn't know the capability %q", capability)
			}
		default:
			f.ignored(UnknownCapability, line, "containerd doesn't know the capability %q", capability)
		}
	}
}

func (f *hostsFile) dialTimeout(value any, line int) {
	s, ok := value.(string)
	_, err := time.ParseDuration(s)
	if s == "" {
		err = nil
	}
	if (!ok || err != nil) && !f.version.before(version{2, 0}) {
		f.ignored(BadDialTimeout, line, "dial_timeout is no duration such as 5s")
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimPrefix(line, "toml: ")
}
