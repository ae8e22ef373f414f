package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unit writes the unit, with its drop-ins, to a folder where the program is.
func unit(t *testing.T, text string, dropIns ...string) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "trustmirror.service")
	write(t, file, strings.ReplaceAll(text, "/usr/local/bin/trustmirror", program))
	for _, name := range dropIns {
		write(t, filepath.Join(file+".d", name), read(t, "systemd/"+name))
	}
	return file
}

// verify returns what systemd has to say against a unit: nothing if all is well.
func verify(t *testing.T, file string) string {
	t.Helper()
	env := []string{"SYSTEMD_UNIT_PATH=" + filepath.Dir(file) + ":", "XDG_RUNTIME_DIR=" + t.TempDir()}
	out, status := said(t, env, "systemd-analyze", "verify", "--man=no", file)
	if status != 0 && out == "" {
		t.Errorf("systemd-analyze verify ended with %d and without a word", status)
	}
	return out
}

func TestSystemdVerifiesTheUnit(t *testing.T) {
	text := read(t, "systemd/trustmirror.service")
	for _, file := range []string{unit(t, text), unit(t, text, "low-ports.conf")} {
		if out := verify(t, file); out != "" {
			t.Errorf("systemd says:\n%s", out)
		}
	}
	// It does notice mistakes.
	for before, after := range map[string]string{
		"ProtectSystem=strict":       "ProtectSystems=strict",
		"[Service]\n":                "[Servise]\n",
		"RestartSec=5s":              "RestartSec=soon",
		"/usr/local/bin/trustmirror": "/usr/local/bin/none",
		"SystemCallFilter=@system-s": "SystemCallFilter=@sistem-s",
	} {
		if !strings.Contains(text, before) {
			t.Fatalf("the unit has no %s", before)
		}
		if out := verify(t, unit(t, strings.ReplaceAll(text, before, after))); out == "" {
			t.Errorf("systemd doesn't mind %s", after)
		}
	}
}

// The unit is exposed no more than its comment says.
func TestSystemdExposure(t *testing.T) {
	text := read(t, "systemd/trustmirror.service")
	for _, test := range []struct {
		documented string // file whose comment says the level
		unit       string
	}{
		{"systemd/trustmirror.service", unit(t, text)},
		{"systemd/low-ports.conf", unit(t, text, "low-ports.conf")},
	} {
		said1 := regexp.MustCompile(`(?s)# .*exposure.* (\d)\.(\d)`).FindStringSubmatch(strings.SplitN(read(t, test.documented), "\n[", 2)[0])
		if said1 == nil {
			t.Fatalf("%s doesn't say its exposure", test.documented)
		}
		level := strings.TrimLeft(said1[1]+said1[2], "0")
		env := []string{"SYSTEMD_UNIT_PATH=" + filepath.Dir(test.unit) + ":", "TERM=dumb"}
		out, status := said(t, env, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+level, test.unit)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		t.Log(lines[len(lines)-1])
		if status != 0 {
			t.Errorf("%s says %s.%s, systemd more:\n%s", test.documented, said1[1], said1[2], out)
		}
		if !strings.Contains(lines[len(lines)-1], " "+said1[1]+"."+said1[2]+" ") {
			t.Errorf("%s says %s.%s, systemd %s", test.documented, said1[1], said1[2], lines[len(lines)-1])
		}
	}
}

// What the unit runs exists: its commands are the program's.
func TestSystemdCommands(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	example, err := os.ReadFile(filepath.Join(shipped, "..", "config.example.yaml"))
	check(t, err)
	write(t, config, string(example))
	commands := regexp.MustCompile(`(?m)^Exec(?:Start|StartPost|Reload)=/usr/local/bin/trustmirror (.*)$`).FindAllStringSubmatch(read(t, "systemd/trustmirror.service"), -1)
	if len(commands) != 3 {
		t.Fatalf("the unit runs %q", commands)
	}
	for _, command := range commands {
		args := strings.Fields(strings.ReplaceAll(command[1], "/etc/trustmirror/config.yaml", config))
		if out, status := said(t, nil, program, append(args, "--help")...); status != 0 || !strings.Contains(out, "Usage:\n  trustmirror "+args[0]) {
			t.Errorf("%q: %d %s", args, status, out)
		}
	}
}
