package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const (
	containerdConfig = "/etc/containerd/config.toml"
	containerdCerts  = "/etc/containerd/certs.d"
)

// containerd judges what the kubelet pulls through containerd's CRI plugin, or,
// where that is switched off, what others pull that read the same certs.d.
func (c *checker) containerd() func(context.Context, string) Finding {
	r := &criConfig{checker: c}
	r.load()
	if r.disabled != "" {
		if !c.exists(nodePath(containerdCerts)) {
			c.report.Notes = append(c.report.Notes, fmt.Sprintf("containerd is not judged: its CRI plugin is switched off in %s, and there is no %s for others to read.", r.disabled, containerdCerts))
			return nil
		}
		r.wrong, r.roots = nil, []string{containerdCerts}
	}
	return func(ctx context.Context, registry string) Finding {
		if r.wrong != nil {
			return *r.wrong
		}
		return hostsReader{checker: c, version: c.version}.judge(ctx, r.roots, registry)
	}
}

// criConfig is what config.toml and the files it imports say about registries.
type criConfig struct {
	*checker
	disabled string   // where the plugin is switched off
	wrong    *Finding // why hosts.toml files aren't read
	roots    []string // the folders they are read from

	configPath string
	file       string // that sets configPath last
	line       int
	mirrors    *Finding
}

// load reads the files in containerd's order; what comes later wins.
func (r *criConfig) load() {
	pending := []string{containerdConfig}
	if !r.exists(nodePath(containerdConfig)) {
		pending = nil
		if r.version.from(version{2, 2}) {
			pending = r.glob("/etc/containerd/conf.d/*.toml")
		}
	}
	r.file = containerdConfig
	loaded := make(map[string]bool)
	for len(pending) > 0 && r.wrong == nil {
		file := pending[0]
		pending = pending[1:]
		if !loaded[file] {
			loaded[file] = true
			pending = append(pending, r.loadFile(file)...)
		}
	}
	if r.wrong == nil {
		r.conclude()
	}
}

// loadFile takes over what one file says, and returns what it imports.
func (r *criConfig) loadFile(file string) []string {
	text, err := r.read(file)
	if err != nil {
		f := unreadable(file, err)
		r.wrong = &f
		return nil
	}
	d, line, err := parseTOML(text)
	if err != nil {
		r.fail(Unknown, MalformedConfig, file, line, "This is not TOML (%s); containerd doesn't start with it, and what runs may have been configured otherwise.", firstLine(err))
		return nil
	}
	disabled, _ := stringsOf(d.get("disabled_plugins"))
	for _, plugin := range disabled {
		if plugin == "cri" || plugin == "io.containerd.grpc.v1.cri" || plugin == "io.containerd.cri.v1.images" {
			r.disabled = fmt.Sprintf("%s:%d", file, d.line("disabled_plugins"))
		}
	}
	r.section(file, &d)
	return r.imports(file, &d)
}

// section takes over the part about registries, whose name depends on the file's version.
func (r *criConfig) section(file string, d *document) {
	const old, current = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"
	var plugin string
	fileVersion, _ := d.get("version").(int64)
	switch {
	case fileVersion <= 1:
		plugin = "cri"
		for _, name := range []string{old, current} {
			if d.get("plugins", name, "registry") == nil {
				continue
			}
			if name == old && r.version.from(version{2, 0}) { // which takes full names here, too
				plugin = old
				continue
			}
			r.fail(Open, ConfigVersion, file, d.line("plugins", name, "registry"),
				"The file has no \"version = 2\" line, so containerd 1.x ignores this section and asks the registries themselves.")
			return
		}
	case fileVersion == 2 || r.version.before(version{2, 0}): // 1.x goes by the section's name alone
		plugin = old
	default:
		plugin = current
	}
	if fileVersion > 2 && !r.version.from(version{2, 0}) && d.get("plugins", current, "registry") != nil {
		state := Open
		if !r.version.known() {
			state = Unknown
		}
		r.fail(state, ConfigVersion, file, d.line("plugins", current, "registry"),
			"containerd before 2.0 doesn't know this section of version %d, so it ignores it and asks the registries themselves.", fileVersion)
		r.wrong.Fix = fmt.Sprintf("Say --containerd-version if it is 2.0 or later; for others write the file of version 2 that `%s` prints or writes, and restart containerd.", r.command(Containerd))
		return
	}
	at := []string{"plugins", plugin}
	if d.get(at...) == nil {
		return
	}
	registry := append(at, "registry")
	if mirrors, ok := d.get(append(registry, "mirrors")...).(map[string]any); ok && len(mirrors) > 0 {
		r.mirrors = &Finding{State: Open, Trap: LegacyMirrors, origin: true, File: file, Line: d.line(append(registry, "mirrors")...),
			Sentence: "The mirrors setting of the CRI plugin asks the registries themselves after every refusal."}
	}
	configPath, isSet := d.get(append(registry, "config_path")...).(string)
	switch {
	case isSet && configPath != "":
		r.configPath, r.file, r.line = configPath, file, d.line(append(registry, "config_path")...)
	case r.configPath != "" && !r.version.from(version{2, 0}):
		r.fail(Open, ConfigPathReplaced, file, d.line(at...),
			"This section replaces that of %s:%d in containerd 1.x, and has no config_path, so the registries themselves are asked.", r.file, r.line)
	}
}

// conclude makes of config_path the folders that are read.
func (r *criConfig) conclude() {
	roots := slices.DeleteFunc(strings.Split(r.configPath, ":"), func(root string) bool { return root == "" })
	switch {
	case r.mirrors != nil && len(roots) > 0:
		r.mirrors.State, r.mirrors.origin = Unknown, false
		r.mirrors.Sentence = fmt.Sprintf("mirrors can't be set together with config_path (%s:%d): the CRI plugin doesn't start, and nothing can be pulled.", r.file, r.line)
		r.wrong = r.mirrors
	case r.mirrors != nil:
		r.wrong = r.mirrors
	case len(roots) == 0:
		r.fail(Open, ConfigPathUnset, r.file, 0, "config_path isn't set, so no hosts.toml is read and the registries themselves are asked.")
	case len(roots) > 1 && !r.version.before(version{2, 1}):
		r.fail(Open, ConfigPathList, r.file, r.line, "config_path names several folders, which containerd from 2.1 takes for a single one that doesn't exist; so the registries themselves are asked.")
	}
	r.roots = roots
}

func (r *criConfig) fail(state State, trap Trap, file string, line int, format string, args ...any) {
	r.wrong = &Finding{State: state, Trap: trap, origin: state == Open, File: file, Line: line, Sentence: fmt.Sprintf(format, args...)}
}

// imports finds the files that a file names.
func (r *criConfig) imports(file string, d *document) []string {
	patterns, _ := d.get("imports").([]any)
	var files []string
	for _, p := range patterns {
		pattern, ok := p.(string)
		if !ok {
			continue // containerd doesn't start with it
		}
		if path.IsAbs(pattern) {
			files = append(files, r.glob(pattern)...)
			continue
		}
		beside := r.glob(path.Join(path.Dir(file), pattern))
		if !strings.Contains(pattern, "*") || r.version.from(version{1, 7}) {
			files = append(files, beside...)
			continue
		}
		inWorkingDirectory := r.glob("/" + pattern) // as systemd sets it
		if !r.version.known() && !slices.Equal(beside, inWorkingDirectory) {
			r.fail(Unknown, UnknownField, file, d.line("imports"),
				"containerd before 1.7 looks for %q in its working directory, later ones beside this file; which one runs can't be told.", pattern)
			r.wrong.Fix = "Write where the files are in full, as in " + path.Join(path.Dir(file), pattern) + ", or say --containerd-version."
		}
		files = append(files, inWorkingDirectory...)
	}
	return files
}

// glob finds the files that a path in full means, which may have a * in it.
func (r *criConfig) glob(pattern string) []string {
	if !strings.Contains(pattern, "*") {
		return []string{path.Clean(pattern)}
	}
	matches, err := fs.Glob(r.Node, nodePath(pattern))
	if err != nil {
		return nil // containerd doesn't start with it
	}
	var files []string
	for _, match := range matches {
		files = append(files, "/"+match)
	}
	return files
}
